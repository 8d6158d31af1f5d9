"""Decisions, calls and outcomes of the stages: always counted, and traced where a trace is kept."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from opentelemetry.trace import SpanKind

from consumers import clock
from consumers.telemetry import names
from consumers.telemetry.content import Capture, message_fields
from consumers.telemetry.counters import Counters
from consumers.telemetry.hops import Fields, Hop, current_hop
from consumers.telemetry.names import GenAiNames, gen_ai_names
from router.reply.reply import Reply
from router.route.routing import Route
from schemas.attempt import Attempt
from schemas.reasons import Reason
from schemas.request import Request
from schemas.tenancy import RequestKey
from schemas.verdict import Verdict

__all__ = ["Observer"]

#: What a reviewer's action means for the answer that the checks had refused.
_JUDGED = {"approve": "pass", "edit": "fail", "reject": "fail"}
#: The parts of a call's usage, which never overlap.
_TOKENS = ("input", "cache_read", "cache_write", "output", "reasoning")


@dataclass(frozen=True, slots=True)
class Observer:
    """Counts and traces what the stages of a process report."""

    counters: Counters = field(default_factory=Counters)
    gen_ai: GenAiNames = field(default_factory=lambda: gen_ai_names(""))
    capture: Capture = field(default_factory=Capture)
    #: Host and port by provider.
    addresses: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def received(self, request_id: str, generation: int, task: str | None) -> None:
        """A record has been read as this request."""
        if (hop := current_hop()) is None:
            return
        hop.request_id = request_id
        if not hop.is_recording:
            return
        where: dict[str, Any] = {names.CONVERSATION: request_id, names.GENERATION: generation}
        if task is not None:
            where[names.TASK] = task
        hop.where = where
        hop.note(where)

    def unread(self, request_id: str) -> None:
        """A record that cannot be read as a request claims to be this one."""
        if (hop := current_hop()) is not None and hop.request_id is None:
            self.received(request_id, 1, None)

    def routed(self, route: Route) -> None:
        """A request goes to a tier, for the first time or after an escalation."""
        task, tier = route.task or route.step, str(route.tier)
        self.counters.add(names.ROUTES, 1, task, tier, route.rule)
        if route.code is Reason.REQUEUED:
            self.counters.add(names.REQUEUES, 1, task)
        hop = current_hop()
        if hop is None or not hop.is_recording:
            return
        fields = {
            **hop.where,
            names.TASK: task,
            names.TIER: tier,
            names.STEP: route.step,
            names.RULE: route.rule,
            names.ROUTE_REASON: route.reason,
            names.POLICY_VERSION: route.policy_version,
        }
        if route.code is not None:
            fields[names.REASON] = route.code.value
        hop.add("route", fields, start_ns=hop.began_ns, end_ns=clock.now_ns())

    def gave_up(self, stage: str, reason: Reason, task: str | None, tier: str = "") -> None:
        """A request, or a record that cannot be read as one, becomes a dead letter."""
        self.counters.add(names.DEAD_LETTERS, 1, stage, reason.value)
        self.counters.add(names.REQUESTS, 1, "dead_letter", task or "", tier)
        if (hop := current_hop()) is not None:
            hop.note({names.OUTCOME: "dead_letter", names.REASON: reason.value})

    def escalated(self, task: str | None, tier: str, reason: Reason) -> None:
        """A tier hands a request back."""
        if not reason.is_hop:
            self.counters.add(names.ESCALATIONS, 1, task or "", tier, reason.value)
        if (hop := current_hop()) is not None:
            hop.note({names.OUTCOME: "escalation", names.REASON: reason.value})

    def answered(
        self, task: str | None, tier: str, request_id: str, milliseconds: Mapping[str, float]
    ) -> None:
        """A request has its result. The parts of its time add up to the total."""
        self.counters.add(names.REQUESTS, 1, "result", task or "", tier)
        seconds = {part.removesuffix("_ms"): ms / 1000 for part, ms in milliseconds.items()}
        hop = current_hop()
        span = hop.span if hop is not None else None
        if self.counters.is_recording:
            by = {names.TASK: task or "", names.TIER: tier, names.OUTCOME: "result"}
            by[names.REQUEST_ID] = request_id
            self.counters.record(names.REQUEST_DURATION, seconds["total"], by, span)
            for part in ("intake", "queue", "model", "own"):
                by = {names.PART: part, names.TIER: tier}
                self.counters.record(names.REQUEST_TIME, seconds[part], by)
        if hop is not None and hop.is_recording:
            times = {f"tierline.time.{part}": value for part, value in seconds.items()}
            hop.note({names.OUTCOME: "result", **times})

    def reviewed(
        self, action: str, task: str | None, outcome: str, *, error: str | None = None
    ) -> None:
        """A reviewer has decided on a dead letter, which judges an answer that is published."""
        self.counters.add(names.REVIEW_DECISIONS, 1, action, task or "", outcome)
        if (hop := current_hop()) is None:
            return
        hop.note({names.ACTION: action, names.OUTCOME: outcome})
        if error is not None:
            hop.note({names.ERROR_TYPE: error})
        if outcome == "result" and (label := _JUDGED.get(action)) is not None:
            evaluation = {
                names.EVALUATION_NAME: "review",
                names.EVALUATION_LABEL: label,
                names.EVALUATION_EXPLANATION: action,
            }
            hop.add_event(names.EVALUATION_EVENT, evaluation)

    def repeated(self) -> None:
        """A record repeats a request that has its outcome, or will have it."""
        if (hop := current_hop()) is not None:
            hop.note({names.OUTCOME: "repeat"})

    def called(
        self,
        attempt: Attempt,
        former: Sequence[Attempt],
        request: Request,
        body: Mapping[str, Any],
        reply: Reply | None,
        *,
        read_at: datetime,
        judged_at: datetime,
    ) -> None:
        """A model was called and its reply judged; `former` are the tier's attempts before it."""
        tier, reason = str(attempt.tier), attempt.reason.value if attempt.reason else ""
        self.counters.add(names.ATTEMPTS, 1, tier, attempt.model, attempt.outcome, reason)
        self.counters.add(names.COST, attempt.cost_micros / 1e6, tier, attempt.model)
        for kind in _TOKENS:
            if count := getattr(attempt.usage, f"{kind}_tokens"):
                self.counters.add(names.TOKENS, count, tier, attempt.model, kind)
        if former and _is_in_place_of(attempt, former[-1]):
            cause = former[-1].reason
            self.counters.add(names.FALLBACKS, 1, tier, attempt.model, cause.value if cause else "")
        hop = current_hop()
        self._measure(attempt, str(body.get("model", "")), request.id, hop)
        if hop is None or not hop.is_recording:
            return

        failed = attempt.reason.value if attempt.outcome == "failed" and attempt.reason else None
        answer_id = reply.body.get("id") if reply is not None else None
        response = {names.RESPONSE_ID: answer_id} if isinstance(answer_id, str) else {}
        fields = {**hop.where, **self._call(attempt, request, body), **response}
        events: list[tuple[str, Fields]] = []
        if self.capture.on_spans or self.capture.in_events:
            content = message_fields(body.get("messages", ()), attempt.reply, attempt.finish_reason)
            fields |= content if self.capture.on_spans else {}
            events = [(names.DETAILS_EVENT, content)] if self.capture.in_events else []
        start, read = _ns(attempt.started_at), _ns(read_at)
        name = f"chat {body.get('model', attempt.model)}"
        hop.add(
            name,
            fields,
            start_ns=start,
            end_ns=read,
            kind=SpanKind.CLIENT,
            events=events,
            error=failed,
        )
        if attempt.verdict is not None:
            events = [
                (names.EVALUATION_EVENT, {**evaluation, **response})
                for evaluation in _evaluations(attempt.verdict)
            ]
            judged = {**hop.where, names.TIER: tier, names.OUTCOME: attempt.outcome}
            if reason:
                judged[names.REASON] = reason
            hop.add("verify", judged, start_ns=read, end_ns=_ns(judged_at), events=events)

    def _measure(self, attempt: Attempt, model: str, request_id: str, hop: Hop | None) -> None:
        if not self.counters.is_recording:
            return
        span = hop.span if hop is not None else None
        by = {
            names.GEN_AI_OPERATION: "chat",
            names.GEN_AI_PROVIDER: attempt.provider,
            names.REQUEST_MODEL: model,
            names.TIER: str(attempt.tier),
        }
        usage = {"input": attempt.usage.input_side, "output": attempt.usage.output_side}
        # A failed call has no known usage; zeros would pull every percentile down.
        for kind, count in usage.items() if attempt.usage.total_tokens else ():
            if isinstance(self.gen_ai.tokens, str):
                self.counters.record(self.gen_ai.tokens, count, {**by, names.TOKEN_TYPE: kind})
            else:
                self.counters.add(self.gen_ai.tokens[kind], count, *by.values())
        if attempt.outcome == "failed" and attempt.reason is not None:
            by[names.ERROR_TYPE] = attempt.reason.value
        by[names.REQUEST_ID] = request_id
        self.counters.record(self.gen_ai.duration, attempt.duration_ms / 1000, by, span)

    def _call(self, attempt: Attempt, request: Request, body: Mapping[str, Any]) -> dict[str, Any]:
        usage = attempt.usage
        address = self.addresses.get(attempt.provider)
        fields = {
            names.GEN_AI_OPERATION: "chat",
            names.GEN_AI_PROVIDER: attempt.provider,
            names.REQUEST_MODEL: body.get("model"),
            names.RESPONSE_MODEL: attempt.served_model,
            names.FINISH_REASONS: [attempt.finish_reason] if attempt.finish_reason else None,
            names.MAX_TOKENS: body.get("max_tokens") or body.get("max_completion_tokens"),
            names.OUTPUT_TYPE: "json" if "response_format" in body else "text",
            names.INPUT_TOKENS: usage.input_side if usage.total_tokens else None,
            names.OUTPUT_TOKENS: usage.output_side if usage.total_tokens else None,
            names.CACHE_READ_TOKENS: usage.cache_read_tokens or None,
            self.gen_ai.cache_write: usage.cache_write_tokens or None,
            names.GEN_AI_CONVERSATION: _hashed(request),
            names.COST_AMOUNT: attempt.cost_micros / 1e6,
            names.COST_CURRENCY: "USD",
            names.COST_SOURCE: "local",
            names.ATTEMPT_ID: attempt.attempt_id,
            names.MODEL: attempt.model,
            names.TIER: str(attempt.tier),
            names.STEP: attempt.step,
            names.OUTCOME: attempt.outcome,
            names.REASON: attempt.reason.value if attempt.reason else None,
            names.HTTP_STATUS: attempt.http_status,
            names.SERVER_ADDRESS: address[0] if address else None,
            names.SERVER_PORT: address[1] if address else None,
        }
        contract, _, _ = attempt.prompt_version.partition("@")
        if self.gen_ai.prompt_name is not None:
            fields[self.gen_ai.prompt_name] = contract
        fields[self.gen_ai.prompt_version] = attempt.prompt_version
        return {name: value for name, value in fields.items() if value is not None}


def _hashed(request: Request) -> str | None:
    """The conversation's id as a hash, since producers may have put anything into it.

    The same conversation of a tenant has the same hash in all its traces.
    """
    if request.conversation_id is None:
        return None
    key = RequestKey(request.tenant, request.conversation_id).text.encode()
    return hashlib.blake2b(key, digest_size=12).hexdigest()


def _is_in_place_of(attempt: Attempt, former: Attempt) -> bool:
    """True for another model after a call without a judged reply, within one step.

    A retry asks the same model; a second opinion and a verifier follow a judged reply.
    """
    is_same_step = attempt.step == former.step
    return is_same_step and not former.was_judged and attempt.model != former.model


def _evaluations(verdict: Verdict) -> list[dict[str, Any]]:
    """The fields of an evaluation event for each check. No details, for they quote replies."""
    evaluations = []
    for check in verdict.checks:
        evaluation: dict[str, Any] = {
            names.EVALUATION_NAME: check.check,
            names.EVALUATION_LABEL: "pass" if check.passed else "fail",
        }
        if check.check == "confidence" and verdict.confidence is not None:
            evaluation[names.EVALUATION_SCORE] = verdict.confidence
        if check.reason is not None:
            evaluation[names.EVALUATION_EXPLANATION] = check.reason.meaning
            evaluation[names.REASON] = check.reason.value
        evaluations.append(evaluation)
    return evaluations


def _ns(instant: datetime) -> int:
    return int(instant.timestamp() * 1_000_000) * 1000
