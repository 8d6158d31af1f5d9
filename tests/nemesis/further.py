"""What must hold beside the counts: nothing stale, twice, endless or out of order. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from router.attempt.next_step import spent
from router.policy.table import Policy
from schemas.attempt import Attempt
from schemas.dead_letter import DeadLetter
from schemas.result import Result

__all__ = ["Arrival", "Counted", "further", "kept_waiting", "miscounted", "out_of_order"]

#: Faults of the provider after which nobody knows whether the call ran.
_UNKNOWN = ("reset", "cut")
#: Faults with which it runs nothing, and asks to be called later.
_TURNED_AWAY = ("http_429", "http_503")
#: A call may be on its way when its deadline strikes, long so on a busy machine.
_GRACE_SECONDS = 1.0
#: Whoever was hit by a fault, or has just been started, has recovered by then.
_RECOVERED_SECONDS = 60.0
_STARTED_SECONDS = 10.0
#: And then a request is called for so soon, on a busy machine.
_LONGEST_WAIT = 15.0


def further(
    results: Sequence[Result],
    letters: Sequence[DeadLetter],
    bill: Sequence[Mapping[str, Any]],
    deadlines: Mapping[str, float],
    parking: Iterable[str] = (),
    *,
    policy: Policy,
    clock_offset: float,
) -> list[str]:
    """Breaks in words. `clock_offset` is Unix time minus the bill's clock, in seconds."""
    problems = _repeated_after_unknown(bill, set(parking))
    # What was turned away uses up nothing.
    turned_away = Counter(one["request_id"] for one in bill if one["fault"] in _TURNED_AWAY)
    for line in bill:
        late = line["received"] + clock_offset - deadlines.get(line["request_id"], float("inf"))
        if late > _GRACE_SECONDS:
            problems.append(f"stale call: {line['attempt_id']} began {late:.2f} s too late")
    for result in results:
        tiers = [tier.rank for tier in result.router.path]
        if tiers != sorted(tiers):
            problems.append(f"path goes down: {result.id} {result.router.path}")
        if result.router.attempts - turned_away[result.id] > policy.limits.attempts:
            problems.append(f"too many attempts: {result.id} made {result.router.attempts}")
    for letter in letters:
        problems += _of_attempts(letter, policy)
    return problems


class Counted(NamedTuple):
    """A key of intake: where its records lie, and the count at each as a stage has told it."""

    key: bytes
    offsets: list[int]
    counts: list[tuple[int, int]]


def miscounted(counted: Iterable[Counted]) -> list[str]:
    """Keys whose records were not counted once each, in their order."""
    problems: list[str] = []
    for one in counted:
        right = list(enumerate(one.offsets, 1))
        if one.counts == right:
            continue
        pairs = zip(one.counts, right, strict=False)
        at = next((no for no, (found, meant) in enumerate(pairs) if found != meant), None)
        where = min(len(one.counts), len(right)) if at is None else at
        told = f"{len(one.counts)} counts of {len(right)} records; from {where + 1} on: "
        told += ", ".join(f"{number} at {offset}" for number, offset in one.counts[where:][:4])
        problems.append(f"miscounted: {one.key.decode()} has {told}")
    return problems


class Arrival(NamedTuple):
    """A request's first assignment: whose it is, where it lies, and where it came from."""

    key: bytes
    #: Tier topic and partition.
    place: str
    offset: int
    #: Of its intake record, which is in the same partition.
    intake_offset: int


def out_of_order(arrivals: Iterable[Arrival]) -> list[str]:
    """Requests of one key that overtook another on the way from intake to their tier."""
    problems: list[str] = []
    last: dict[tuple[bytes, str], int] = {}
    for one in sorted(arrivals, key=lambda arrival: (arrival.place, arrival.offset)):
        before = last.get((one.key, one.place), -1)
        if one.intake_offset < before:
            problems.append(f"out of order: {one.place}-{one.offset} of key {one.key.decode()}")
        last[one.key, one.place] = max(before, one.intake_offset)
    return problems


def kept_waiting(
    sent_at: Mapping[str, float],
    bill: Sequence[Mapping[str, Any]],
    troubles: Sequence[tuple[float, float]],
) -> list[str]:
    """Whether requests wait for their first call although nothing has been wrong for long.

    `troubles` are faults, each from when until when. Times are those of the bill's clock.
    """
    called: dict[str, float] = {}
    for line in bill:
        name = line["request_id"]
        called[name] = min(line["received"], called.get(name, float("inf")))
    started = min(called.values(), default=0.0) + _STARTED_SECONDS
    spans = [(since, until + _RECOVERED_SECONDS) for since, until in troubles]
    waits = {
        name: called[name] - sent
        for name, sent in sent_at.items()
        if name in called
        and sent > started
        and not any(since < called[name] and sent < until for since, until in spans)
    }
    late = {name: wait for name, wait in waits.items() if wait > _LONGEST_WAIT}
    if not late:
        return []
    worst = max(late, key=late.__getitem__)
    return [f"kept waiting: {len(late)} requests, {worst} for {late[worst]:.0f} s"]


def _repeated_after_unknown(bill: Iterable[Mapping[str, Any]], parking: set[str]) -> list[str]:
    """Calls for requests that a person should have seen first."""
    problems, called, unknown = [], set[str](), set[str]()
    for line in sorted(bill, key=lambda one: one["received"]):
        name, attempt = line["request_id"], line["attempt_id"]
        if name not in parking:
            continue
        if attempt in called or name in unknown:
            problems.append(f"called again after an unknown outcome: {attempt}")
        called.add(attempt)
        if line["fault"] in _UNKNOWN:
            unknown.add(name)
    return problems


def _of_attempts(letter: DeadLetter, policy: Policy) -> list[str]:
    problems = []
    judged: dict[str, Counter[str]] = defaultdict(Counter)
    if spent(letter.attempts) > policy.limits.attempts:
        problems.append(f"too many attempts: {letter.request_id} made {len(letter.attempts)}")
    for attempt in letter.attempts:
        if _was_judged(attempt):
            judged[attempt.step][attempt.model] += 1
    for step, models in judged.items():
        problems += (
            f"model asked twice: {letter.request_id} {model} in {step}"
            for model, count in models.items()
            if count > 1
        )
    return problems


def _was_judged(attempt: Attempt) -> bool:
    return attempt.outcome in ("accepted", "rejected")
