"""The quirks of models: chat bodies adapted to them, and which model has answered."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from router.attempt.pricing import cost_micros
from router.policy.table import Model, Policy, Price
from router.reply.reply import Oddity, Reply
from router.request.signals import measure
from schemas.request import Request

__all__ = ["adapt_body", "charged", "lacking", "names_model", "oddities_of", "price_of", "takes"]
__all__ += ["too_narrow"]

#: Below about a thousand tokens no provider caches anything.
_LEAST_CACHED_CHARS = 4096
#: A cost that a provider states is booked up to here, or up to so many times our own figure.
_MOST_STATED_MICROS, _MOST_STATED_TIMES = 10_000_000, 10
#: What follows a model's name in the name of one of its versions: a date or a number.
_VERSION = re.compile(r"[-@:](?:[0-9]{3,8}(?:-[0-9]{2}){0,2}|latest|preview(?:-[0-9]{2}){0,3})")


def lacking(models: Mapping[str, Model], request: Request) -> dict[str, str]:
    """What of a request models cannot take, in words, by the models that cannot take all of it."""
    return {name: words for name, model in models.items() if (words := takes(model, request))}


def too_narrow(models: Mapping[str, Model], request: Request) -> list[str]:
    """The models whose window seems too small for a request."""
    tokens = measure(request).total_tokens
    return [name for name, model in models.items() if tokens > model.room]


def takes(model: Model, request: Request) -> str | None:
    """What the model cannot take of a request, in words; None when it takes everything."""
    if not model.refuses:
        return None

    given = request.input.model_extra or {}
    for name in model.refuses:
        if given.get(name) not in (None, False, [], {}):
            return f"{name}: {model.id} does not take it"
    if "tools" in model.refuses and any(message.role == "tool" for message in request.messages):
        return f"tool messages: {model.id} does not take them"
    return None


def adapt_body(body: dict[str, Any], model: Model, *, stable: int = 0) -> dict[str, Any]:
    """A chat body as the model's row in the policy demands it.

    `stable` is how many characters at the beginning of the first message never change.
    """
    for name in model.drops:
        body.pop(name, None)
    for name in ("max_tokens", "max_completion_tokens"):
        if model.limit and name in body and name != model.limit:
            body[model.limit] = body.pop(name)
    response_format = body.get("response_format")
    if model.structured != "json_schema" and isinstance(response_format, dict):
        body = _in_words(body, response_format, keeps_json=model.structured == "json_object")
    if model.cache_prompt and stable >= _LEAST_CACHED_CHARS:
        body["messages"] = _cached(body["messages"], stable)
    return body


def oddities_of(reply: Reply, model: Model) -> tuple[Oddity, ...]:
    """All that is odd about a reply, another model's name included."""
    served = reply.served_model
    if served is None or any(names_model(served, name) for name in (model.id, *model.answers_as)):
        return reply.oddities

    return (*reply.oddities, Oddity.OTHER_MODEL)


def price_of(reply: Reply, model: Model, policy: Policy) -> Price:
    """The price of the model that answered, where the policy knows it, else of the one asked."""
    if Oddity.OTHER_MODEL not in oddities_of(reply, model):
        return model.price

    served = reply.served_model or ""
    for other in policy.models.values():
        if other.provider == model.provider and names_model(served, other.id):
            return other.price
    return model.price


def charged(reply: Reply, model: Model, policy: Policy) -> tuple[int, tuple[Oddity, ...]]:
    """What a reply is booked at in micro-dollars, and all that is odd about it.

    The cost is by our prices, or what the provider states where that is more: it may charge fees,
    or have raised its prices. A stated cost counts up to ten dollars, or ten times ours.
    """
    ours, odd = cost_micros(reply.usage, price_of(reply, model, policy)), oddities_of(reply, model)
    stated = reply.stated_micros or 0
    if stated <= ours:
        return ours, odd
    most = max(_MOST_STATED_MICROS, _MOST_STATED_TIMES * ours)
    return min(stated, most), (*odd, Oddity.COST_HIGHER)


def names_model(served: str, name: str) -> bool:
    """True when `served` is this model or a dated version of it."""
    served = served.lower().removeprefix("models/")
    name = name.lower().removeprefix("models/").removesuffix("-latest")
    return served.startswith(name) and (
        len(served) == len(name) or _VERSION.fullmatch(served[len(name) :]) is not None
    )


def _in_words(
    body: dict[str, Any], response_format: Mapping[str, Any], *, keeps_json: bool
) -> dict[str, Any]:
    """Asks for the format in words, unless the prompt does so already."""
    body = {name: value for name, value in body.items() if name != "response_format"}
    if response_format.get("type") not in ("json_schema", "json_object"):
        return body

    if keeps_json:
        body["response_format"] = {"type": "json_object"}
    schema = (response_format.get("json_schema") or {}).get("schema")
    text = orjson.dumps(schema).decode() if schema else ""
    first, *others = body["messages"]
    instructions = first.get("content") if first.get("role") in ("system", "developer") else None
    if isinstance(instructions, str) and text and text in instructions:
        return body

    instruction = "Answer with one JSON object and nothing else."
    if text:
        instruction = f"{instruction} It must be valid under this JSON Schema: {text}"
    if isinstance(instructions, str):
        body["messages"] = [{**first, "content": f"{instructions}\n\n{instruction}"}, *others]
    else:
        body["messages"] = [{"role": "system", "content": instruction}, first, *others]
    return body


def _cached(messages: list[dict[str, Any]], stable: int) -> list[dict[str, Any]]:
    first, *others = messages
    text = first.get("content")
    if not isinstance(text, str) or first.get("role") != "system":
        return messages

    mark = {"type": "text", "text": text[:stable], "cache_control": {"type": "ephemeral"}}
    rest = [{"type": "text", "text": text[stable:]}] if len(text) > stable else []
    return [{**first, "content": [mark, *rest]}, *others]
