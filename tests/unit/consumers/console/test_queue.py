"""What a row of the queue says, whose case it is, and what became of the cases of a job."""

from typing import Any

import pytest

from consumers.console.errors import ImpossibleError
from consumers.console.store import CaseFilter, Store
from consumers.console.tables import Job
from schemas.dead_letter import Pointer
from schemas.review import AuditLine
from schemas.verdict import Verdict
from tests.builders import NOON, an_attempt
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


def answered(output: dict[str, Any], **fields: Any) -> Any:
    verdict = Verdict(outcome="rejected", checks=[], output=output, **fields)
    return an_attempt(verdict=verdict, reply="{}")


async def test_a_row_leads_with_the_customer_s_words_and_the_answer_that_waits(
    store: Store,
) -> None:
    """In one line each, and masked: everybody who may look sees the queue."""
    attempts = (
        answered({"answer": "No."}, confidence=0.9),
        answered({"answer": "Yes, to\njane@example.com", "next_action": "none"}, confidence=0.4),
    )
    value = b'{"input": "Where is\\n my order? Write to jane@example.com"}'
    await take(store, a_letter_record(0, value, attempts=attempts), a_letter_record(1, b"\xff"))

    case = await taken(store, 0)
    assert case.asked == "Where is my order? Write to [email]"
    assert (case.proposed, case.confidence) == ("Yes, to [email]", 0.4)
    unreadable = await taken(store, 1)
    assert (unreadable.asked, unreadable.confidence) == ("\\xff", None)


def a_line(what: str, offset: int, **fields: Any) -> Any:
    record = a_line_record(offset, what)
    line = AuditLine.model_validate_json(record.value).model_copy(update=fields)
    record.value = line.model_dump_json(exclude_none=True).encode()
    return record


def letter(offset: int) -> Pointer:
    return Pointer(topic="llm.dead-letters", partition=1, offset=offset)


async def test_an_assigned_case_is_the_next_one_for_nobody_else(store: Store) -> None:
    """Whichever console it was assigned at."""
    await take(store, a_letter_record(0))
    await take(store, a_line("assign", 0, letter=letter(0), tenant="default", assignee="bob"))
    assert (await taken(store, 0)).assigned_to == "bob"

    assert await store.next_case("ann", CaseFilter(), NOON) is None
    assert await store.next_case("bob", CaseFilter(), NOON) is not None
    assert await store.next_case("ann", CaseFilter(assigned_to="bob"), NOON) is not None
    assert await store.count(CaseFilter(assigned_to="bob"), NOON) == 1
    await take(store, a_line("assign", 1, letter=letter(0), tenant="globex", assignee="eve"))
    assert (await taken(store, 0)).assigned_to == "bob"
    await take(store, a_line("assign", 2, letter=letter(0), tenant="default", at=NOON - LEASE))
    assert (await taken(store, 0)).assigned_to == "bob"  # the newest line counts
    await store.assign(place(0), None)
    assert await store.next_case("ann", CaseFilter(), NOON) is not None


async def test_filters_are_kept_by_name_for_each_person(store: Store) -> None:
    await store.filters.keep("ann", "late", "risk=high")
    await store.filters.keep("ann", "late", "risk=low")
    await store.filters.keep("bob", "late", "task=triage")

    assert await store.filters.of("ann") == {"late": "risk=low"}
    await store.filters.forget("ann", "late")
    assert await store.filters.of("ann") == {}
    assert await store.filters.of("bob") == {"late": "task=triage"}
    for no in range(19):
        await store.filters.keep("bob", f"f-{no}", "")
    with pytest.raises(ImpossibleError, match="20 filters"):
        await store.filters.keep("bob", "one more", "")


async def test_a_job_says_what_became_of_each_case_and_calls_nothing_done_that_came_back(
    store: Store,
) -> None:
    await take(store, *(a_letter_record(number) for number in range(5)))
    places = [place(number) for number in range(5)]
    await store.jobs.start(Job("job-1", "requeue", "ann", "running", NOON, None, {}), places)
    for number in range(4):
        await store.jobs.note("job-1", place(number), "done")
    await store.jobs.note("job-1", place(4), "skipped", "bob holds it")
    decided = [a_decision(no, f"d-{no}", action="requeue") for no in range(3)]
    await take(store, *(a_line_record(no, decision=given) for no, given in enumerate(decided)))
    source = Pointer(topic="llm.intake", partition=1, offset=1)
    await take(
        store,
        a_result_record("req-0", 2),
        a_letter_record(9, request_id="req-1", generation=2, source=source),
    )

    outcomes = await store.jobs.outcomes("job-1")
    assert [(case.became, case.later) for case in outcomes] == [
        ("published", None),
        ("came_back", place(9)),
        ("on_the_way", None),
        ("came_back", None),  # its decision could not be carried out
        ("skipped", None),
    ]
    assert outcomes[0].asked == "Where is my order?"
    assert await store.jobs.became("job-1") == {
        "published": 1,
        "came_back": 2,
        "on_the_way": 1,
        "skipped": 1,
    }
