"""Interim results: what is published while a person has the request, where the task says so."""

from collections.abc import Sequence
from datetime import datetime

from consumers.records import Record
from router.attempt.answering import composed_result
from router.attempt.fallback import canned_output, while_in_review
from router.judge.judging import output_contract
from router.policy.table import Policy
from router.prompts.rendering import Prompts
from schemas.attempt import Attempt
from schemas.codec import Outgoing, dump, passed_on
from schemas.escalation import Assignment, Escalation
from schemas.request import Request
from schemas.topics import Topics

__all__ = ["interim_results"]


def interim_results(
    envelope: Assignment | Escalation,
    request: Request,
    attempts: Sequence[Attempt],
    record: Record,
    policy: Policy,
    prompts: Prompts,
    topics: Topics,
    now: datetime,
) -> list[Outgoing]:
    """The interim result beside a routed request's dead letter, where its task has one."""
    every = [*envelope.own_attempts, *attempts]
    kind = while_in_review(policy.tasks.get(envelope.task or ""), every)
    text = prompts.text(envelope.task or "", kind) if kind else None
    if kind is None or text is None or not envelope.routes:
        return []
    contract = output_contract(request, policy, envelope.task, "answer")
    output = canned_output(text, contract.schema)
    shown = "in_review" if kind == "tool_failed" else kind
    fields = composed_result(envelope, request, attempts, shown, text, output, now=now)
    fields["router"]["final"] = False
    return [Outgoing(topics.results, record.key, dump(fields), passed_on(record.headers))]
