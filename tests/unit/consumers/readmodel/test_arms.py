"""The arms of a rollout, as the topics tell of them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumers.readmodel.arms import (
    SETTLED,
    Compared,
    Marks,
    Slice,
    arms_of,
    classified,
    marks_before,
)
from consumers.readmodel.tables import RECORDS
from router.policy.table import Policy
from router.releases.canary import Arm
from schemas.base import Tier
from schemas.escalation import Classification
from schemas.policy_log import PolicyAct
from schemas.reasons import Reason
from schemas.tenancy import RequestKey
from tests.builders import NOON, a_request, a_route, an_assignment, the_policy
from tests.tables import record_of, tables, take_in
from tests.unit.consumers.readmodel.test_projection import a_letter, a_line, a_result

OLD, NEW = "0" * 12, "1" * 12
HOUR = timedelta(hours=1)
LATER = NOON + 5 * HOUR


def a_rollout(policy: Policy | None = None, **narrowed: Any) -> Compared:
    steps = [(0.05, NOON), (0.15, NOON + HOUR)]
    start = PolicyAct(
        policy="support", number=2, what="start", who="ann", at=NOON, salt="s", **narrowed
    )
    return Compared(OLD, NEW, steps, start, policy or the_policy())


def routed(
    request_id: str,
    release: str,
    at: datetime = NOON + HOUR / 2,
    *,
    proven: str | None = None,
    **fields: Any,
) -> Iterator[tuple[Any, datetime]]:
    """What is written of a request until it is at a tier; `proven`: the plan that counts there."""
    asked = a_request(id=request_id, **fields)
    route = a_route(policy_digest=release)
    yield asked, at
    yield an_assignment(id=request_id, routes=[route], plan=proven or asked.plan), at


def answered(
    request_id: str, release: str, at: datetime = NOON + HOUR / 2, **fields: Any
) -> Iterator[tuple[Any, datetime]]:
    """The same, and an accepted answer."""
    yield from routed(request_id, release, at, **fields)
    yield a_line(1, request_id, started_at=at), at
    yield a_result(1, request_id), at


def told(*lines: Iterator[tuple[Any, datetime]], first: int = 0) -> list[Any]:
    records = []
    for offset, (what, at) in enumerate((pair for line in lines for pair in line), first):
        record = record_of(what, offset)
        record.timestamp = int(at.timestamp() * 1000)
        records.append(record)
    return records


def counted(records: list[Any], marks: Marks | None = None, **fields: Any) -> Any:
    with tables() as connection:
        take_in(connection, records)
        return arms_of(connection, a_rollout(**fields), marks, LATER)


def test_requests_are_counted_in_the_arm_of_their_release_and_the_step_of_their_route() -> None:
    first, second = counted(
        told(
            answered("a", OLD),
            answered("b", OLD),
            answered("c", NEW),
            answered("d", NEW, NOON + 2 * HOUR),
            routed("e", NEW, NOON + 2 * HOUR),
            answered("before", OLD, NOON - HOUR),
            answered("other", "2" * 12),
            answered("changing", NEW, NOON + HOUR + timedelta(seconds=3)),
            answered("unsettled", NEW, LATER - SETTLED / 2),
        )
    )

    assert (first.active.given, first.candidate.given, first.share) == (2, 1, 0.05)
    assert (second.active, second.candidate.given, second.share) == (Arm(), 2, 0.15)
    assert second.candidate.finished == 1
    assert first.candidate.bad == dict.fromkeys(
        ("not_accepted", "person", "escalated", "corrected", "refused", "broken_format"), 0
    )


def test_of_a_conversation_the_first_request_counts() -> None:
    at = NOON + 2 * HOUR
    first, second = counted(
        told(
            answered("a", OLD, conversation_id="talk"),
            answered("b", OLD, at, conversation_id="talk"),
            answered("c", OLD, at),
        )
    )
    assert (first.active.given, second.active.given) == (1, 1)


def test_what_is_bad_is_counted_once_for_each_request() -> None:
    at = NOON + HOUR / 2

    def climbed(request_id: str) -> Iterator[tuple[Any, datetime]]:
        yield from routed(request_id, NEW)
        failed: dict[str, Any] = {
            "outcome": "rejected",
            "reason": Reason.SCHEMA_FAILED,
            "started_at": at,
        }
        yield a_line(1, request_id, **failed), at
        yield a_line(2, request_id, tier=Tier.BALANCED, started_at=at), at
        yield a_result(2, request_id), at

    def given_up(request_id: str) -> Iterator[tuple[Any, datetime]]:
        yield from routed(request_id, NEW)
        refused: dict[str, Any] = {
            "outcome": "rejected",
            "reason": Reason.REFUSED,
            "started_at": at,
        }
        yield a_line(1, request_id, **refused), at
        yield a_letter(request_id), at

    first, _ = counted(told(climbed("a"), given_up("b"), answered("c", NEW)))
    assert first.candidate.finished == 3
    assert first.candidate.bad == {
        "not_accepted": 1,
        "person": 1,
        "escalated": 1,
        "corrected": 2,
        "refused": 1,
        "broken_format": 1,
    }


def test_a_rollout_may_be_narrowed_to_tasks_and_plans() -> None:
    records = told(
        answered("a", NEW, task="triage", plan="free"),
        answered("b", NEW, task="triage", plan=None),
        answered("c", NEW, task="extraction", plan="free"),
    )

    def given(**fields: Any) -> float:
        given: float = counted(records, **fields)[0].candidate.given
        return given

    assert given(tasks=["triage"]) == 2
    assert given(tasks=["triage"], plans=["free"]) == 1
    free = the_policy().model_copy(update={"default_plan": "free"})
    assert given(plans=["free"], policy=free) == 3


def test_the_plan_that_is_proven_counts_not_the_one_that_is_claimed() -> None:
    """As where the release of a request is drawn: an unknown plan counts as the default one."""
    records = told(
        answered("claims", NEW, plan="free", proven="enterprise"),
        answered("proves", NEW, proven="free"),
        answered("unknown", NEW, plan="no_such"),
    )
    plans = ("free", "standard", "enterprise")
    of_plan = {plan: counted(records, plans=[plan])[0].candidate.given for plan in plans}
    assert of_plan == {"free": 1, "standard": 1, "enterprise": 1}


def test_a_look_reads_what_is_new_and_older_requests_only_from_time_to_time() -> None:
    """What is deleted meanwhile still counts, until its slice is read again."""
    hours = [answered(f"r-{no}", NEW, NOON + (no + 0.25) * HOUR) for no in range(1, 9)]
    again = answered("again", NEW, NOON + 9 * HOUR, conversation_id="talk")
    with tables() as connection:
        take_in(connection, told(*hours, answered("first", NEW, conversation_id="talk")))
        known: list[Slice] = []

        def look(at: datetime) -> tuple[float, int]:
            arms = arms_of(connection, a_rollout(), None, at, known)
            return sum(each.candidate.given for each in arms), len(known)

        assert look(NOON + 8.5 * HOUR) == (9, 1)
        connection.execute(sa.delete(RECORDS).where(RECORDS.c.request_id == "r-1"))
        take_in(connection, told(again, first=100))
        assert look(NOON + 9.5 * HOUR) == (9, 2), "of a conversation the first one counts"
        take_in(connection, told(answered("new", NEW, NOON + 9.6 * HOUR), first=200))
        assert look(NOON + 10 * HOUR) == (10, 2), "the second slice is half as old again"
        assert look(NOON + 13 * HOUR) == (9, 1)


def test_a_look_finds_the_earlier_requests_of_a_conversation_by_index() -> None:
    """However long a rollout takes, a look costs what is new: no table is read as a whole."""
    plans = []
    with tables() as connection:
        take_in(connection, told(answered("a", NEW, conversation_id="talk")))

        def explain(_connection: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", values)
            plans.append([step for *_, step in cursor.fetchall()])

        known: list[Slice] = []
        arms_of(connection, a_rollout(), None, NOON + 2 * HOUR, known)
        sa.event.listen(connection, "before_cursor_execute", explain)
        arms_of(connection, a_rollout(), None, NOON + 2.5 * HOUR, known)
    [steps] = plans
    assert [step for step in steps if "requests_by_unit" in step]
    assert [step for step in steps if "routed_records" in step]
    on_tables = [step for step in steps if step.startswith("SCAN") and "request" in step]
    assert on_tables == []


def test_times_and_costs_are_compared_with_what_was_usual_before() -> None:
    before = [answered(f"u-{no}", OLD, NOON - HOUR) for no in range(120)]
    with tables() as connection:
        take_in(connection, told(*before, answered("a", NEW)))
        marks = marks_before(connection, a_rollout())
        assert marks == Marks((3_600_000_000, 3_600_000_000), (7, 7))
        usual = arms_of(connection, a_rollout(), marks, LATER)[0].candidate.bad
        lower = Marks((1, 1), (6, 7))
        worse = arms_of(connection, a_rollout(), lower, LATER)[0].candidate.bad
    names = ("slower", "much_slower", "dearer", "much_dearer")
    assert [usual[name] for name in names] == [0, 0, 0, 0]
    assert [worse[name] for name in names] == [1, 1, 1, 0]


def test_too_few_requests_before_give_no_marks() -> None:
    with tables() as connection:
        take_in(connection, told(answered("u", OLD, NOON - HOUR)))
        assert marks_before(connection, a_rollout()) is None


def test_the_classification_of_a_request_is_kept() -> None:
    said = Classification(task="triage", ambiguity=0.3, complexity=2)
    waits = a_request(id="b")
    assigned = an_assignment(id="a", classification=said)
    with tables() as connection:
        take_in(connection, [record_of(assigned, 0), record_of(waits, 1)])
        keys = [RequestKey("default", "a"), waits.key]
        assert classified(connection, keys) == {keys[0]: said}
