"""`tierline replay-call`: a recorded call as it would be made today, and its outcome."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Annotated, Any

from typer import Option

from consumers.amounts import dollars, in_words
from consumers.cli.common import (
    FAILED,
    OK,
    UNAVAILABLE,
    AsJson,
    KafkaAddress,
    OfTenant,
    RequestId,
    UserError,
    asynchronous,
    read_settings,
)
from consumers.cli.journey import read_journey
from consumers.cli.provided import named_as_in, provided
from consumers.cli.terminal import print_json, print_table
from consumers.journeys.journey import Journey
from consumers.providers.client import Providers
from consumers.providers.settings import ProviderSettings, sent_fields
from consumers.providers.usage import reserve
from consumers.rules import load_rules
from consumers.settings import Settings
from consumers.texts import say
from router.attempt.model_quirks import charged, takes
from router.attempt.pricing import cost_micros
from router.attempt.question import Question, question_of, verification_of
from router.checks import Asked
from router.errors import did_you_mean
from router.policy.table import Model, Verify
from router.prompts.chat_fields import ChatFields
from router.releases.bundle import Bundle
from router.reply.reply import Reply
from router.request.trimming import trimmed
from schemas.attempt import Attempt
from schemas.request import Request

__all__ = ["Replay", "rebuilt", "replay_call"]


@dataclass(frozen=True, slots=True)
class Replay:
    """A recorded attempt, and the call that would be made for it today."""

    recorded: Attempt
    request: Request
    question: Question
    #: The policy's name of the model to ask, and its row.
    name: str
    model: Model
    #: The fields of the producer's chat body that the provider is sent.
    fields: ChatFields
    #: What the recorded attempt answered, where a topic still has it.
    answered: Mapping[str, Any] | str | None

    @property
    def body(self) -> dict[str, Any]:
        """The chat body of the call."""
        return self.question.body(self.request, self.model, self.fields)[0]


@asynchronous
async def replay_call(
    request_id: RequestId,
    attempt: Annotated[
        int | None,
        Option(
            "--attempt",
            metavar="NUMBER",
            min=1,
            help="Take this attempt; by default, the last one.",
        ),
    ] = None,
    model: Annotated[
        str | None, Option("--model", metavar="MODEL", help="Ask another model of the policy.")
    ] = None,
    send: Annotated[bool, Option("--send", help="Make one real call, which costs money.")] = False,
    tenant: OfTenant = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> int:
    """Rebuild a recorded call with today's policy and prompts, and show it or make it.

    Nothing is written to any topic: the outcome is only shown beside the recorded one.
    """
    settings = read_settings(kafka)
    rules = load_rules(settings)
    settings = named_as_in(rules.policy, settings)
    journey = await read_journey(request_id, settings, tenant)
    replay = rebuilt(journey, rules, settings.providers, attempt=attempt, model=model)
    fields, code = _compared(replay, rules), OK
    if send:
        fields["sent"], code = await _sent(replay, rules, settings)
    if as_json:
        print_json(fields)
    else:
        _print_fields(fields, replay)
    return code


def rebuilt(
    journey: Journey,
    rules: Bundle,
    providers: Mapping[str, ProviderSettings],
    *,
    attempt: int | None,
    model: str | None,
) -> Replay:
    """The call of a recorded attempt, as it would be made now. Raises UserError."""
    recorded = _recorded(journey, attempt)
    request, task = journey.request, journey.task
    if request is None:
        msg = f"no topic has the request {journey.request_id!r} any longer, only its outcome"
        raise UserError(msg)
    if recorded.step != "classify" and task not in rules.policy.tasks:
        msg = f"the policy no longer has the task {task}"
        raise UserError(msg)
    if recorded.tier not in rules.policy.tiers:
        msg = f"the policy no longer has the tier {recorded.tier}"
        raise UserError(msg)
    name = model or recorded.model
    if (row := rules.policy.models.get(name)) is None:
        raise UserError(_no_model(name, rules, is_ours=model is None))
    taken = [route for route in journey.routes if route.routed_at <= recorded.started_at]
    if taken and (trim := taken[-1].trim) is not None:
        request = trimmed(request, trim.most)
    if recorded.step == "verify":
        today = rules.policy.tasks[task or ""].verify or Verify(tier=recorded.tier)
        prompt = recorded.prompt_version.partition("@")[0]
        verify = Verify(tier=recorded.tier, accept=today.accept, prompt=prompt)
        question = verification_of(verify, _read_by(recorded, journey), request, rules.prompts)
    else:
        if (lacking := takes(row, request)) is not None:
            raise UserError(lacking)
        task = None if recorded.step == "classify" else task
        question = question_of(
            recorded.step, recorded.tier, task, request, rules.policy, rules.prompts
        )
    fields = sent_fields(providers, row.provider)
    return Replay(recorded, request, question, name, row, fields, _answered(recorded, journey))


def _recorded(journey: Journey, number: int | None) -> Attempt:
    attempts = {attempt.attempt_no: attempt for attempt in journey.attempts.values()}
    if not attempts:
        msg = f"no call is recorded for the request {journey.request_id!r}"
        raise UserError(msg)
    if number is None:
        return attempts[max(attempts)]
    if number not in attempts:
        numbers = ", ".join(map(str, sorted(attempts)))
        msg = f"the request {journey.request_id!r} has no attempt {number}; it has {numbers}"
        raise UserError(msg)
    return attempts[number]


def _no_model(name: str, rules: Bundle, *, is_ours: bool) -> str:
    if is_ours:
        return f"the policy no longer has the model {name}: name another one with --model"
    return f"the policy has no model {name!r}{did_you_mean(name, rules.policy.models)}"


def _read_by(recorded: Attempt, journey: Journey) -> Mapping[str, Any]:
    """The answer that a verifier was given: the last one accepted before it."""
    earlier = [
        attempt
        for attempt in journey.attempts.values()
        if attempt.generation == recorded.generation and attempt.attempt_no < recorded.attempt_no
        if attempt.step == "answer" and attempt.outcome == "accepted"
    ]
    answer = max(earlier, key=lambda attempt: attempt.attempt_no, default=None)
    output = _answered(answer, journey) if answer else None
    if not isinstance(output, Mapping):
        msg = "the answer that this attempt verified is in no topic: the ledger keeps no answers"
        raise UserError(msg)
    return output


def _answered(attempt: Attempt, journey: Journey) -> Mapping[str, Any] | str | None:
    for result in journey.results:
        if result.response is not None and result.response.request_id == attempt.attempt_id:
            return result.router.output
    return attempt.answered


def _compared(replay: Replay, rules: Bundle) -> dict[str, Any]:
    """The recorded call and today's, as fields."""
    recorded, body = replay.recorded, replay.body
    return {
        "recorded": {
            "attempt_id": recorded.attempt_id,
            "step": recorded.step,
            "tier": recorded.tier,
            "model": recorded.model,
            "prompt_version": recorded.prompt_version,
            "policy_version": recorded.policy_version,
            "outcome": recorded.outcome,
            "reason": recorded.reason,
            "detail": recorded.detail,
            "tokens": recorded.usage.total_tokens,
            "cost_micros": recorded.cost_micros,
            "ms": recorded.duration_ms,
            "answer": replay.answered,
        },
        "today": {
            "model": replay.name,
            "provider": replay.model.provider,
            "prompt_version": replay.question.rendered.version,
            "policy_version": rules.policy.version,
            "accept": replay.question.accept,
            "most_cost_micros": cost_micros(reserve(body), replay.model.price),
            "body": body,
        },
        "sent": None,
    }


async def _sent(replay: Replay, rules: Bundle, settings: Settings) -> tuple[dict[str, Any], int]:
    """Make the call; return its outcome and the command's exit code."""
    model, policy = replay.model, rules.policy
    only = policy.model_copy(update={"models": {replay.name: model}})
    async with (
        provided(settings, only) as (entries, _),
        Providers({model.provider: entries[model.provider]}) as providers,
    ):
        began = monotonic()
        outcome = await providers.call(
            model.provider,
            replay.body,
            # An id of its own: a provider must not take it for the recorded call repeated.
            attempt_id=f"replay.{replay.recorded.attempt_id}",
            request_id=f"replay.{replay.request.key.text}",
            timeout=policy.limits.call_timeout,
        )
        took_ms = round((monotonic() - began) * 1000, 1)
    if not isinstance(outcome, Reply):
        failure = {
            "outcome": "failed",
            "reason": outcome.reason,
            "detail": outcome.detail,
            "cost_micros": cost_micros(outcome.usage, model.price),
            "ms": took_ms,
        }
        return failure, UNAVAILABLE if outcome.reason == "not_sent" else FAILED
    verdict = replay.question.judged(outcome, Asked(replay.request))
    failed = verdict.failed
    return {
        "outcome": verdict.outcome,
        "reason": failed.reason if failed else None,
        "detail": failed.detail if failed else "",
        "served_model": outcome.served_model,
        "tokens": outcome.usage.total_tokens,
        "cost_micros": charged(outcome, model, policy)[0],
        "ms": took_ms,
        "confidence": verdict.confidence,
        "answer": verdict.output if verdict.output is not None else outcome.text,
    }, OK


def _print_fields(fields: Mapping[str, Any], replay: Replay) -> None:
    recorded, today, sent = fields["recorded"], fields["today"], fields["sent"]
    most = f"at most {dollars(today['most_cost_micros'])}"
    now = {**today, "cost_micros": most, **(sent or {})}
    table = [
        {
            "field": "cost" if name == "cost_micros" else name.replace("_", " "),
            "recorded": _shown(recorded.get(name), name),
            "today": _shown(now.get(name), name),
        }
        for name in recorded
    ]
    rows = [row for row in table if row["recorded"] or row["today"]]
    print_table(rows, ("field", "recorded", "today"), title=recorded["attempt_id"])
    if sent is None:
        print_json(today["body"])
        say(f"not sent; --send makes one call to {replay.name} for {most}", is_error=True)


def _shown(value: Any, name: str) -> str:
    if name == "cost_micros" and isinstance(value, int):
        return dollars(value)
    if isinstance(value, Mapping):
        return in_words(value, but=())
    return "" if value is None else str(value)
