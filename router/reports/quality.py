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
    "user_group_of",
]

#: What a downstream service or a reviewer says when an answer was not good as it was.
NOT_GOOD = frozenset(("edited", "regenerated", "complaint"))
_UNKNOWN = "unknown"
#: Of a call that is for no workflow or no user that anybody named.
_NONE = "-"
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
    workflow: str
    #: The digest of the release.
    release: str
    provider: str
    #: Empty, except in the groups that figures of users are kept for.
    user: str = ""


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
    #: Its group without tenant and the like, for which latencies are counted; and with its user.
    route_id: int
    user_id: int
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
    #: The groups in which the request ended, and when that call began: where its cost counts.
    spent_in: int
    spent_by: int
    spent_at: int
    by_model: int = 0
    by_person: int = 0
    #: 1 where another tier was called afterwards.
    escalated: int = 0
    abandoned: int = 0
    #: 1 where this call completed its request: without a person's decision, or with one.
    unaided: int = 0
    reviewed: int = 0
    #: 1 for the call at which its request ended; of those, see `Row`.
    requests: int = 0
    retried: int = 0
    fell_back: int = 0
    #: 1 for the first call for an answer.
    begun: int = 0
    #: How often a person dealt with this answer, and how long.
    handled: int = 0
    handled_seconds: int = 0
    unmeasured: int = 0
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


def call_of(entry: LedgerEntry, group: Group, user_group: Group) -> Call:
    """The call of a ledger line that has its outcome."""
    attempt, usage = entry.attempt, entry.attempt.usage
    is_answer = attempt.step == "answer" and attempt.was_judged
    number, user_id = group_id(group), group_id(user_group)
    started_at = (attempt.started_at - EARLIEST) // timedelta(milliseconds=1)
    return Call(
        tenant=group.tenant,
        request_id=entry.request_id,
        attempt_id=attempt.attempt_id,
        generation=entry.generation,
        attempt_no=attempt.attempt_no,
        step=attempt.step,
        tier=attempt.tier.value,
        started_at=started_at,
        outcome=attempt.outcome,
        detail=attempt.detail,
        has_changed=bool(attempt.changes),
        group_id=number,
        route_id=group_id(route_of(group)),
        user_id=user_id,
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
        spent_by=user_id,
        spent_at=started_at,
    )


def surer(earlier: Call | None, later: Call) -> Call:
    """Which of two lines of one call counts: a measured one, else the later."""
    return earlier if earlier and earlier.is_estimated < later.is_estimated else later


def route_of(group: Group) -> Group:
    """A group without what latencies are not told apart by."""
    return group._replace(tenant="", plan="", workflow="", release="", provider="")


def trend_of(group: Group) -> Group:
    """The group's task, tier and policy, for which figures over time are counted."""
    nothing = Group(*[""] * len(Group._fields))
    return nothing._replace(task=group.task, tier=group.tier, policy=group.policy)


def user_group_of(group: Group, user: str | None) -> Group:
    """A group of one user, whatever became of its answers."""
    return group._replace(reason="", user=user or _NONE)


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
        workflow=entry.workflow or _NONE,
        release=attempt.policy_digest or _UNKNOWN,
        provider=attempt.provider,
    )


def end_of(result: Result) -> End:
    """What figures need of a final result."""
    info, response = result.router, result.response
    total_us = min(round(info.latency.total_ms * 1000), _LONGEST_US)
    published = response.request_id if response else None
    return End(published, info.kind, total_us, info.review is not None)


def judge(
    calls: Sequence[Call],
    ends: Mapping[int, End],
    feedback: Mapping[int, Collection[str]],
    decisions: Mapping[int, Sequence[int | None]],
) -> None:
    """Set what became of all calls of one request, by its results, feedback and decisions.

    All are given by generation; of a decision, the seconds that it took its reviewer. What was set
    before is overwritten.
    """
    generations: dict[int, list[Call]] = defaultdict(list)
    ordered = sorted(calls, key=_order)
    for call in ordered:
        if call.step == "answer":
            generations[call.generation].append(call)
    for generation, answers in generations.items():
        kinds = feedback.get(generation, ())
        _judge_answers(answers, ends.get(generation), kinds)
        _count_people(answers, kinds, decisions.get(generation, ()))
    answered = [call for call in ordered if call.step == "answer"]
    last = max(answered or ordered, key=_rank)
    by_tier = {(call.generation, call.tier) for call in answered}
    retried, fell_back = len(by_tier) < len(answered), len(by_tier) > len(generations)
    for call in ordered:
        call.spent_in, call.spent_by, call.spent_at = last.group_id, last.user_id, last.started_at
        is_last = call is last
        call.requests = int(is_last)
        call.retried, call.fell_back = int(is_last and retried), int(is_last and fell_back)
        call.begun = int(call is next(iter(answered), None))


def _order(call: Call) -> tuple[int, str, int]:
    return call.attempt_no, call.attempt_id, call.started_at


def _rank(call: Call) -> tuple[int, int, int, str, int]:
    """Ranks highest the call at which a request ended: its answer, else its very last attempt."""
    return call.completed, call.generation, *_order(call)


def _count_people(
    answers: Sequence[Call], kinds: Iterable[str], decisions: Sequence[int | None]
) -> None:
    """Book the time of people on the last answer: of decisions, else of who mended it elsewhere."""
    seconds = decisions or [None] * (not NOT_GOOD.isdisjoint(kinds))
    for call in answers:
        spent = seconds if call is answers[-1] else ()
        call.handled = len(spent)
        call.handled_seconds = sum(each or 0 for each in spent)
        call.unmeasured = sum(each is None for each in spent)


def _judge_answers(answers: Sequence[Call], end: End | None, kinds: Iterable[str]) -> None:
    good = None
    ended_by = end.published if end is not None else None
    # Of two calls with the id of one attempt, the later one is what was published.
    published = [
        no for no, call in enumerate(answers) if call.answers and call.attempt_id == ended_by
    ]
    for no, call in enumerate(answers):
        later = answers[no + 1 :]
        is_changed = any(other.has_changed for other in later)
        call.by_model = int(call.answers and not call.by_check and is_changed)
        call.escalated = int(call.answers and any(other.tier != call.tier for other in later))
        call.by_person = call.abandoned = call.unaided = call.reviewed = 0
        call.latency_us = call.bucket = None
        if end is not None and no in published[-1:]:
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
