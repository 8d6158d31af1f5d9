"""Quality: what became of every answer, and which group the cost of a call counts for.

An answer counts as corrected when a check rejected it, when a later model changed it, or when a
person did (an edit, another try, a complaint). So a cheap model that always escalates rates badly.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple

from router.reports.measures import bucket_of
from schemas.attempt import LedgerEntry
from schemas.base import EARLIEST
from schemas.reasons import Reason
from schemas.result import Result

__all__ = [
    "NOT_GOOD",
    "Call",
    "End",
    "Group",
    "call_of",
    "end_of",
    "group_id",
    "group_of",
    "judge",
    "route_of",
    "surer",
    "trend_of",
]

#: What a downstream service or a reviewer says when an answer was not good as it was.
NOT_GOOD = frozenset(("edited", "regenerated", "complaint"))
_UNKNOWN = "unknown"
#: Longest that is counted: three years, in microseconds.
_LONGEST_US = 10**14


class Group(NamedTuple):
    """Where a call belongs: the finest group that figures are kept for."""

    task: str
    tier: str
    model: str
    prompt: str
    #: Why the answer was rejected or the call failed; else `accepted`.
    reason: str
    policy: str
    tenant: str
    plan: str


@lru_cache(maxsize=1 << 16)
def group_id(group: Group) -> int:
    """A number of 64 bits for a group, the same in every process."""
    digest = hashlib.blake2b(repr(tuple(group)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


@dataclass(slots=True)
class Call:
    """One call, and what became of its answer. Counts are 0 or 1, so that a group is a sum."""

    tenant: str
    request_id: str
    attempt_id: str
    generation: int
    attempt_no: int
    step: str
    tier: str
    #: Milliseconds since 1970.
    started_at: int
    outcome: str
    detail: str
    #: True where an accepted answer changed that of a weaker model.
    has_changed: bool
    group_id: int
    #: Its group without tenant and plan, for which latencies are counted.
    route_id: int
    own_micros: int
    #: 1 where the cost is a guess of ours: a line that was measured replaces it.
    is_estimated: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    #: 1 for a judged answer, which could be right or wrong.
    answers: int
    by_check: int
    schema_failures: int
    refusals: int
    #: The group in which the request ended, for which the cost counts.
    spent_in: int
    by_model: int = 0
    by_person: int = 0
    #: 1 where another tier was called afterwards.
    escalated: int = 0
    abandoned: int = 0
    #: 1 where this call completed its request: without a person's decision, or with one.
    unaided: int = 0
    reviewed: int = 0
    #: 1 for the first call of its request: their sum is the number of requests.
    requests: int = 0
    #: From intake to the result, where this call completed its request.
    latency_us: int | None = None
    #: The bucket in which that latency is counted.
    bucket: int | None = None

    @property
    def completed(self) -> int:
        """1 where this call completed its request."""
        return self.unaided or self.reviewed


class End(NamedTuple):
    """What figures need of a final result."""

    #: The attempt whose answer it is; None for a canned reply.
    published: str | None
    kind: str
    total_us: int
    #: True where a person decided on it, so that the total includes their time.
    is_reviewed: bool


def call_of(entry: LedgerEntry, group: Group) -> Call:
    """The call of a ledger line that has its outcome."""
    attempt, usage = entry.attempt, entry.attempt.usage
    is_answer = attempt.step == "answer" and attempt.was_judged
    number = group_id(group)
    return Call(
        tenant=group.tenant,
        request_id=entry.request_id,
        attempt_id=attempt.attempt_id,
        generation=entry.generation,
        attempt_no=attempt.attempt_no,
        step=attempt.step,
        tier=attempt.tier.value,
        started_at=(attempt.started_at - EARLIEST) // timedelta(milliseconds=1),
        outcome=attempt.outcome,
        detail=attempt.detail,
        has_changed=bool(attempt.changes),
        group_id=number,
        route_id=group_id(route_of(group)),
        own_micros=attempt.cost_micros,
        is_estimated=int(attempt.is_estimated),
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_side,
        answers=int(is_answer),
        by_check=int(is_answer and attempt.outcome == "rejected"),
        schema_failures=int(is_answer and attempt.reason is Reason.SCHEMA_FAILED),
        refusals=int(is_answer and attempt.reason is Reason.REFUSED),
        spent_in=number,
    )


def surer(earlier: Call | None, later: Call) -> Call:
    """Which of two lines of one call counts: a measured one, else the later."""
    return earlier if earlier and earlier.is_estimated < later.is_estimated else later


def route_of(group: Group) -> Group:
    """A group without its tenant and plan."""
    return group._replace(tenant="", plan="")


def trend_of(group: Group) -> Group:
    """The group's task, tier and policy, for which figures over time are counted."""
    return Group(group.task, group.tier, "", "", "", group.policy, "", "")


def group_of(entry: LedgerEntry) -> Group:
    attempt = entry.attempt
    return Group(
        task=entry.task or _UNKNOWN,
        tier=attempt.tier.value,
        model=attempt.model,
        prompt=attempt.prompt_version,
        reason=attempt.reason.value if attempt.reason else attempt.outcome,
        policy=attempt.policy_version,
        tenant=entry.tenant,
        plan=entry.plan or _UNKNOWN,
    )


def end_of(result: Result) -> End:
    """What figures need of a final result."""
    info, response = result.router, result.response
    total_us = min(round(info.latency.total_ms * 1000), _LONGEST_US)
    published = response.request_id if response else None
    return End(published, info.kind, total_us, info.review is not None)


def judge(
    calls: Sequence[Call], ends: Mapping[int, End], feedback: Mapping[int, Collection[str]]
) -> None:
    """Set what became of all calls of one request, by its results and feedback.

    Both are given by generation. What was set before is overwritten.
    """
    generations: dict[int, list[Call]] = defaultdict(list)
    ordered = sorted(calls, key=lambda call: (call.attempt_no, call.attempt_id, call.started_at))
    for call in ordered:
        if call.step == "answer":
            generations[call.generation].append(call)
    for generation, answers in generations.items():
        _judge_answers(answers, ends.get(generation), feedback.get(generation, ()))
    answered = (call for answers in generations.values() for call in answers)
    last = max(answered, key=_rank, default=None)
    for call in ordered:
        call.spent_in = (last or call).group_id
        call.requests = int(call is ordered[0])


def _rank(call: Call) -> tuple[int, int, int, str, int]:
    """Ranks highest the call at which a request ended: its answer, else its very last attempt."""
    return call.completed, call.generation, call.attempt_no, call.attempt_id, call.started_at


def _judge_answers(answers: Sequence[Call], end: End | None, kinds: Iterable[str]) -> None:
    good = None
    for no, call in enumerate(answers):
        later = answers[no + 1 :]
        is_changed = any(other.has_changed for other in later)
        call.by_model = int(call.answers and not call.by_check and is_changed)
        call.escalated = int(call.answers and any(other.tier != call.tier for other in later))
        call.by_person = call.abandoned = call.unaided = call.reviewed = 0
        call.latency_us = call.bucket = None
        if call.answers and end is not None and call.attempt_id == end.published:
            _complete(call, end)
        if call.outcome == "accepted" and not call.by_model:
            good = call  # the last one is the answer that people saw
    if good is not None:
        good.by_person = int(not NOT_GOOD.isdisjoint(kinds))
        good.abandoned = int("abandoned" in kinds)
    if end is not None and not any(call.completed for call in answers):
        if end.kind not in ("refusal", "safe_default"):
            _complete(answers[-1], end)  # a text of ours, or a person's


def _complete(call: Call, end: End) -> None:
    call.unaided, call.reviewed = int(not end.is_reviewed), int(end.is_reviewed)
    call.latency_us, call.bucket = end.total_us, bucket_of(end.total_us)
