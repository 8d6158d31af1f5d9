"""`tierline provider`: lists the providers that are set up, and tests one."""

import os
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer
import yaml
from typer import Argument, Option

from consumers.amounts import dollars
from consumers.cli.common import (
    FAILED,
    OK,
    UNAVAILABLE,
    AsJson,
    UserError,
    asynchronous,
    read_settings,
)
from consumers.cli.provided import SIMULATED, named_as_in, provided
from consumers.cli.terminal import print_json, print_table
from consumers.policy_file import read_policy
from consumers.providers.settings import ProviderSettings, ProviderSettingsError
from router.attempt.model_quirks import adapt_body, charged, price_of
from router.policy.table import Model, Policy
from router.reply.reply import CallFailure, Reply

__all__ = ["app"]

app = typer.Typer(help="List the providers of this deployment, and test one.", no_args_is_help=True)

_QUESTION = "Answer with the one word: ready"
#: Enough for a model that reasons before it says one word.
_MOST_TOKENS = 256
_NAMES = {"ms": "milliseconds", "cost_micros": "cost"}
#: What to do about calls that fail.
_ADVICE = Path(__file__).with_name("advice.yaml")


@app.command("list")
def list_providers(as_json: AsJson = False) -> None:
    """List the providers, whether their keys are set, and the models they serve."""
    settings = read_settings(needs_kafka=False)
    policy = read_policy(settings)
    settings = named_as_in(policy, settings)
    names = {model.provider for model in policy.models.values()} | set(settings.providers)
    rows = []
    for name in sorted(names):
        entry = settings.providers.get(name)
        models = [key for key, model in policy.models.items() if model.provider == name]
        ours = "started by `up`" if name == SIMULATED else "not set up"
        rows.append(
            {
                "provider": name,
                "format": entry.wire if entry else "",
                "at": entry.base_url if entry else ours,
                "key": _key_state(name, entry) if entry else "",
                "models": models if as_json else ", ".join(models) or "none in the policy",
            }
        )
    if as_json:
        print_json(rows)
    else:
        print_table(rows, ("provider", "format", "at", "key", "models"))


@app.command("test")
@asynchronous
async def try_provider(
    name: Annotated[str, Argument(metavar="NAME", help="A provider's name in the settings.")],
    model: Annotated[
        str | None,
        Option(
            metavar="MODEL",
            help="Ask this model of the policy, or any id of the provider's; else the first one.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Make one real call with the configured key, and show how long it took and what it cost."""
    from consumers.providers.client import Providers  # noqa: PLC0415  the HTTP client takes 0.2 s

    settings = read_settings(needs_kafka=False)
    policy = read_policy(settings)
    settings = named_as_in(policy, settings)
    if name not in settings.providers and name != SIMULATED:
        raise UserError(_not_set_up(name, sorted(settings.providers)))
    row, model_id = _model_of(policy, name, model)
    here = {key: item for key, item in policy.models.items() if item.provider == name}
    only = policy.model_copy(update={"models": here})
    async with provided(settings, only, latency_scale=0) as (entries, _):
        most = min(_MOST_TOKENS, row.max_output_tokens) if row else _MOST_TOKENS
        body: dict[str, Any] = {
            "model": model_id,
            "max_tokens": most,
            "messages": [{"role": "user", "content": _QUESTION}],
        }
        async with Providers({name: entries[name]}) as caller:
            began = monotonic()
            outcome = await caller.call(
                name,
                adapt_body(body, row) if row else body,
                attempt_id="provider-test.1.1",
                request_id="provider-test",
                timeout=timedelta(seconds=60),
            )
        took_ms = round((monotonic() - began) * 1000, 1)
        fields = {"provider": name, "at": entries[name].base_url, "model": model_id, "ms": took_ms}
        if isinstance(outcome, Reply):
            fields |= _answered(outcome, row, policy)
        else:
            fields |= _failed(outcome, entries[name])
    if as_json:
        print_json(fields)
    else:
        rows = [
            {"field": _NAMES.get(name, name.replace("_", " ")), "value": _shown(name, value)}
            for name, value in fields.items()
        ]
        print_table(rows, ("field", "value"))
    if fields["ok"]:
        return OK
    return UNAVAILABLE if fields["reason"] == "not_sent" else FAILED


def _model_of(policy: Policy, name: str, model_name: str | None) -> tuple[Model | None, str]:
    """The policy's row, if there is one, and the provider's id of the model to ask."""
    here = {key: model for key, model in policy.models.items() if model.provider == name}
    if model_name is not None:
        row = here.get(model_name) or next(
            (model for model in here.values() if model.id == model_name), None
        )
        return row, row.id if row else model_name
    if not here:
        msg = f"the policy calls no model at {name}: name one with --model"
        raise UserError(msg)
    row = next(iter(here.values()))
    return row, row.id


def _not_set_up(name: str, configured: list[str]) -> str:
    others = f"; set up are {', '.join(configured)}" if configured else ""
    return (
        f"the provider {name} is not set up{others}: "
        f"set TIERLINE_PROVIDERS__{name.upper()}__BASE_URL"
    )


def _key_state(name: str, entry: ProviderSettings) -> str:
    try:
        return "there" if entry.api_key(name) else "none"
    except ProviderSettingsError:
        return f"missing: {entry.api_key_env or entry.api_key_file}"


def _answered(reply: Reply, row: Model | None, policy: Policy) -> dict[str, Any]:
    price = price_of(reply, row, policy) if row else None
    cost, oddities = charged(reply, row, policy) if row else (None, reply.oddities)
    return {
        "ok": True,
        "served_model": reply.served_model,
        "answer": reply.refusal or reply.text[:200],
        "finish_reason": reply.finish_reason,
        "usage": reply.usage.model_dump(),
        "price": price.model_dump(mode="json", exclude_none=True) if price else None,
        "cost_micros": cost,
        "oddities": list(oddities),
    }


def _failed(failure: CallFailure, entry: ProviderSettings) -> dict[str, Any]:
    return {
        "ok": False,
        "reason": failure.reason.value,
        "detail": failure.detail[:300],
        "its_words": failure.provider_words[:300] or None,
        "what_to_do": _advice(failure, entry),
    }


def _advice(failure: CallFailure, entry: ProviderSettings) -> str:
    advice = yaml.safe_load(_ADVICE.read_text("utf-8"))
    key, detail, reason = entry.api_key_env or entry.api_key_file, failure.detail, failure.reason
    status = 307 if "redirect" in detail else failure.http_status
    if failure.refuses == "provider" and failure.http_status == 400:
        status = 401
    if status == 401 and not key:
        text = advice["no_key"]
    elif status in advice["status"]:
        text = advice["status"][status]
    elif entry.proxy and reason.value == "not_sent" and "SSL" not in detail:
        text = advice["proxy"]
    elif texts := [text for word, text in advice["words"].items() if word in detail]:
        text = texts[0]
    else:
        text = advice["reason"].get(reason.value, advice["otherwise"])
    has_proxy = any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"))
    beside = advice["no_proxy"] if has_proxy and not entry.proxy else ""
    return str(text.format(key=key, entry=entry, no_proxy=beside))


def _shown(key: str, value: Any) -> Any:
    if key == "cost_micros" and value is not None:
        return dollars(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items() if part not in (0, False))
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else value
