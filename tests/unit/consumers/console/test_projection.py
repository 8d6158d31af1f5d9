"""What the topics say of cases: told in any order, and as often as one likes."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.console.projection import close_discarded, discarded
from consumers.console.store import Case, CaseFilter, Store, open_store
from schemas.base import LATEST
from schemas.dead_letter import Pointer
from schemas.reasons import Reason
from tests.builders import NOON, a_record
from tests.unit.consumers.console.world import (
    LEASE,
    a_decision,
    a_letter_record,
    a_line_record,
    a_result_record,
    place,
    take,
    taken,
)

pytestmark = pytest.mark.anyio

SOON = NOON + timedelta(seconds=5)
LATE = NOON + timedelta(seconds=11)


def _source(offset: int) -> Pointer:
    """The intake record that a dead letter of `a_letter_record` comes from."""
    return Pointer(topic="llm.intake", partition=1, offset=offset)


async def _state(store: Store, offset: int = 0) -> tuple[str, str | None]:
    case = await taken(store, offset)
    return case.state, case.decision_id


async def test_a_decision_on_the_topic_marks_the_case(store: Store) -> None:
    """Whichever console it came from."""
    decision = a_decision(0)
    await take(store, a_letter_record(), a_line_record(0, decision=decision, at=SOON))

    case = await taken(store, 0)
    assert (case.state, case.decided_by, case.action) == ("decided", "ann", "reject")
    assert (case.decided_at, case.undo_until) == (SOON, SOON + timedelta(seconds=10))
    [line] = await store.trail.lines()
    assert line.decision == decision
    assert await store.trail.unsent(LATE) == []


async def test_the_first_decision_stands(store: Store) -> None:
    lines = [a_line_record(number, decision=a_decision(0, f"d-{number}")) for number in range(3)]
    await take(store, a_letter_record(), *lines)
    assert await _state(store) == ("decided", "d-0")


@pytest.mark.parametrize(
    ("what", "at", "state"),
    [
        pytest.param("undo", SOON, "open", id="is undone in its window"),
        pytest.param("undo", LATE, "decided", id="is not undone after it"),
        pytest.param("not_sent", SOON, "open", id="was sent though nobody acknowledged it"),
        pytest.param("refused", LATE, "open", id="could not be carried out"),
    ],
)
async def test_a_decision(store: Store, what: str, at: Any, state: str) -> None:
    given = a_line_record(0, decision=a_decision(0))
    await take(store, a_letter_record(), given, a_line_record(1, what, undoes="d-1", at=at))
    assert (await taken(store, 0)).state == state


async def test_behind_a_decision_that_was_undone_the_next_one_stands(store: Store) -> None:
    await take(
        store,
        a_letter_record(),
        a_line_record(0, decision=a_decision(0, "d-0")),
        a_line_record(1, decision=a_decision(0, "d-1"), who="bob"),
        a_line_record(2, "undo", undoes="d-0", at=SOON),
    )
    assert await _state(store) == ("decided", "d-1")
    assert (await taken(store, 0)).decided_by == "bob"


async def test_what_was_undone_here_stays_open_while_the_topic_catches_up(store: Store) -> None:
    """A page that was read after the undo is not made stale by it."""
    await take(store, a_letter_record())
    case = await store.claim(place(0), "ann", NOON, LEASE)
    assert isinstance(case, Case)
    await store.decide(case.place, "ann", case.version, NOON, a_decision(0))
    back, _ = await store.undo(case.place, "ann", SOON)

    await take(store, a_line_record(0, decision=a_decision(0)))
    assert await taken(store, 0) == back
    await take(store, a_line_record(1, "undo", undoes="d-1", at=SOON))
    assert await taken(store, 0) == back


async def test_an_undo_that_came_too_late_for_the_topic_does_not_count(store: Store) -> None:
    await take(store, a_letter_record())
    case = await store.claim(place(0), "ann", NOON, LEASE)
    assert isinstance(case, Case)
    await store.decide(case.place, "ann", case.version, NOON, a_decision(0))
    await store.undo(case.place, "ann", SOON)

    told = a_line_record(0, decision=a_decision(0))
    await take(store, told, a_line_record(1, "undo", undoes="d-1", at=LATE))
    assert await _state(store) == ("decided", "d-1")


async def test_a_decision_that_was_sent_after_all_counts(store: Store) -> None:
    """Kafka did not acknowledge it, but has it: it will be carried out."""
    await take(store, a_letter_record())
    case = await store.claim(place(0), "ann", NOON, LEASE)
    assert isinstance(case, Case)
    _, line = await store.decide(case.place, "ann", case.version, NOON, a_decision(0))
    await store.not_sent(line, NOON, "no answer")

    await take(store, a_line_record(0, decision=a_decision(0)))
    assert await _state(store) == ("decided", "d-1")


async def test_a_decision_in_another_partition_is_none(store: Store) -> None:
    stray = a_line_record(0, decision=a_decision(0))
    stray.partition = 2
    await take(store, a_letter_record(), stray)
    assert await _state(store) == ("open", None)
    assert len(await store.trail.lines()) == 1


async def test_a_discarded_case_closes_once_it_can_not_be_undone(store: Store) -> None:
    discard = a_decision(0, action="discard")
    await take(store, a_letter_record(), a_line_record(0, decision=discard))
    closed = []
    for now in (NOON + timedelta(seconds=12), NOON + timedelta(seconds=13)):
        async with store.database.writing() as connection:
            await close_discarded(connection, await discarded(connection, now))
        closed.append((await taken(store, 0)).state)
    assert closed == ["decided", "closed"]


@pytest.mark.parametrize(
    ("router", "state"),
    [
        pytest.param({"resolves": place(0)}, "closed", id="that stands in for the dead letter"),
        pytest.param({"generation": 2}, "closed", id="of the request's next generation"),
        pytest.param({"generation": 2, "final": False}, "open", id="that another one follows"),
        pytest.param({}, "open", id="of the same generation, which cannot be"),
        pytest.param({"resolves": place(7)}, "open", id="that stands in for another"),
    ],
)
async def test_a_case_and_a_result(store: Store, router: dict[str, Any], state: str) -> None:
    await take(store, a_letter_record(), a_result_record("req-0", **router))
    assert (await taken(store, 0)).state == state


async def test_a_result_of_the_request_whose_id_was_reused_ends_nothing_here(store: Store) -> None:
    letter = a_letter_record(0, reason=Reason.ID_REUSED, attempts=())
    await take(store, letter, a_result_record("req-0", 2))
    assert (await taken(store, 0)).state == "open"


async def test_a_later_dead_letter_of_a_request_closes_the_earlier_case(store: Store) -> None:
    """In whichever order they are read."""
    again = a_letter_record(3, request_id="req-0", generation=2, source=_source(0))
    other = a_letter_record(4, request_id="req-0", generation=3)
    await take(store, again, a_letter_record(0), other)

    first = await taken(store, 0)
    assert (first.state, first.closed_by, first.closed_at) == ("closed", place(3), NOON)
    assert (await taken(store, 3)).requeues == 1
    assert (await taken(store, 3)).state == "open"


async def test_what_is_no_record_of_ours_is_passed_over(store: Store) -> None:
    strange = [
        a_record(b"{}", topic="llm.dead-letters", offset=1),
        a_letter_record(2, failed_at=LATEST),
        a_letter_record(3, tenant="\0" * 9000, task="x" * 9000, detail="\0", request_id="a\0b"),
        a_letter_record(4, None, generation=10**6),
        a_record(None, topic="llm.review"),
        a_record(b"[]", topic="llm.review", offset=2),
        *(
            a_record(value, topic="llm.results", offset=3 + number)
            for number, value in enumerate(
                [None, b"{", b"[]", b'{"id": 3, "router": {}}', b'{"id": "a", "router": 3}']
            )
        ),
        a_result_record("\0", 2**62, resolves="\0"),
        a_letter_record(0),
    ]
    await take(store, *strange)

    found = await store.cases(CaseFilter(state=None), NOON)
    assert {case.letter.offset for case in found} == {0, 2, 3, 4}
    content = await store.content(place(4))
    assert content is not None
    assert content.value is None


#: What may be said of two requests, with what has to be said before it in its own topic.
LETTERS = [
    a_letter_record(0),
    a_letter_record(1),
    a_letter_record(2, request_id="req-1", generation=2, source=_source(1)),
    a_letter_record(3, task="general"),
]
LINES = [
    a_line_record(0, decision=a_decision(0, "d-0", undo_seconds=2.0)),
    a_line_record(1, "undo", undoes="d-0", at=NOON + timedelta(seconds=1)),
    a_line_record(2, decision=a_decision(0, "d-1")),
    a_line_record(3, decision=a_decision(1, "d-2", action="requeue")),
    a_line_record(4, decision=a_decision(3, "d-3")),
    a_line_record(5, "refused", undoes="d-3", at=LATE, who="review"),
]
RESULTS = [
    a_result_record("req-0", resolves=place(0)),
    a_result_record("req-1", 2, final=False),
    a_result_record("req-9", 3),
]


@st.composite
def tellings(draw: st.DrawFn) -> Sequence[Any]:
    """Dead letters in any order; then the rest, each topic in its order, some of it twice."""
    letters = draw(st.permutations(LETTERS))
    lines, results = list(LINES), list(RESULTS)
    told: list[Any] = []
    while lines or results:
        queue = draw(st.sampled_from([one for one in (lines, results) if one]))
        told.append(queue.pop(0))
    again = draw(st.integers(0, len(told)))
    return [*letters, *told[:again], *letters[: draw(st.integers(0, 4))], *told]


@settings(max_examples=25)
@given(told=tellings())
def test_every_order_in_which_the_topics_can_be_read_comes_to_the_same(
    tmp_path_factory: pytest.TempPathFactory, told: Sequence[Any]
) -> None:
    async def states(folder: Path) -> dict[int, tuple[str, str | None, str | None]]:
        async with open_store(f"sqlite:///{folder}/cases.db") as store:
            await take(store, *told)
            found = await store.cases(CaseFilter(state=None), NOON)
            return {
                case.letter.offset: (case.state, case.decision_id, case.closed_by) for case in found
            }

    assert anyio.run(states, tmp_path_factory.mktemp("store")) == {
        0: ("closed", "d-1", "result"),
        1: ("closed", "d-2", place(2)),
        2: ("open", None, None),
        3: ("open", None, None),
    }
