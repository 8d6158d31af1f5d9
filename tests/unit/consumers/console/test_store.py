"""Cases: who works on which, in which order they come, and how they are found."""

import asyncio
import contextlib
import gc
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update
from sqlalchemy.exc import IntegrityError

from consumers.console.errors import (
    AlreadyDecidedError,
    LeaseLostError,
    StaleError,
    UndoTooLateError,
    UnknownCaseError,
)
from consumers.console.store import Case, CaseFilter, Held, Store, StoreUnusableError, open_store
from consumers.console.tables import FACTS, LETTERS
from schemas.reasons import Reason
from tests.builders import NOON, an_attempt
from tests.unit.consumers.console.world import (
    LEASE,
    a_decision,
    a_letter_record,
    place,
    take,
    taken,
)

pytestmark = pytest.mark.anyio

ALL = CaseFilter(state=None)
OPEN = CaseFilter()


async def _claimed(store: Store, offset: int, who: str = "ann", now: datetime = NOON) -> Case:
    case = await store.claim(place(offset), who, now, LEASE)
    assert isinstance(case, Case)
    return case


@pytest.mark.parametrize(
    "count", [pytest.param(3, id="few"), pytest.param(200, id="many", marks=pytest.mark.slow)]
)
async def test_one_of_fifty_claimers_wins_each_case(store: Store, count: int) -> None:
    """Fifty people open the same case at once, time after time."""
    await take(store, *(a_letter_record(number) for number in range(count)))

    for number in range(count):
        claims = (store.claim(place(number), f"p-{who}", NOON, LEASE) for who in range(50))
        outcomes = await asyncio.gather(*claims)
        won = [case for case in outcomes if isinstance(case, Case)]
        lost = [held for held in outcomes if isinstance(held, Held)]
        assert (len(won), len(lost)) == (1, 49)
        assert {held.by for held in lost} == {won[0].held_by}


async def test_a_write_that_is_cancelled_half_way_leaves_the_file_unlocked(tmp_path: Path) -> None:
    """Wherever it is cancelled, and although its error still refers to its statement."""
    file = tmp_path / "cases.db"
    gc.disable()
    try:
        async with open_store(f"sqlite:///{file}") as store:
            await take(store, a_letter_record(0))
            tasks: list[asyncio.Task[Case]] = []
            while not tasks or tasks[-1].cancelled():
                tasks.append(asyncio.ensure_future(_claimed(store, 0)))
                await asyncio.sleep(len(tasks) / 4_000)
                tasks[-1].cancel()
                await asyncio.wait(tasks[-1:])
                with contextlib.closing(sqlite3.connect(file, timeout=0)) as other:
                    other.execute("BEGIN IMMEDIATE")
        assert len(tasks) > 1
    finally:
        gc.enable()


async def test_a_claim_lasts_as_long_as_its_lease(store: Store) -> None:
    await take(store, a_letter_record())
    first = await _claimed(store, 0)

    assert await store.claim(place(0), "bob", NOON, LEASE) == Held("ann", NOON + LEASE)
    assert (await taken(store, 0, NOON + LEASE)).held_by is None
    second = await _claimed(store, 0, "bob", NOON + LEASE)
    assert (second.held_by, second.version) == ("bob", first.version + 1)


async def test_whoever_holds_a_case_may_claim_it_again(store: Store) -> None:
    """Another tab of theirs: the lease is longer, and what the first tab read is not stale."""
    await take(store, a_letter_record())
    first = await _claimed(store, 0)
    again = await _claimed(store, 0, "ann", NOON + LEASE / 2)

    assert again.version == first.version
    assert again.held_until == NOON + LEASE * 1.5


async def test_a_beat_makes_a_lease_longer_until_it_has_ended(store: Store) -> None:
    await take(store, a_letter_record())
    case = await _claimed(store, 0)
    beaten = await store.renew_lease(place(0), "ann", NOON + LEASE / 2, LEASE)
    assert (beaten.held_until, beaten.version) == (NOON + LEASE * 1.5, case.version)

    with pytest.raises(LeaseLostError, match="ended"):
        await store.renew_lease(place(0), "ann", NOON + LEASE * 1.5, LEASE)
    await _claimed(store, 0, "bob", NOON + LEASE * 2)
    with pytest.raises(LeaseLostError, match="bob holds"):
        await store.renew_lease(place(0), "ann", NOON + LEASE * 2, LEASE)


async def test_a_released_case_is_free(store: Store) -> None:
    await take(store, a_letter_record())
    await _claimed(store, 0)

    assert not await store.release(place(0), "bob", NOON)
    assert await store.release(place(0), "ann", NOON)
    assert not await store.release(place(0), "ann", NOON)
    await _claimed(store, 0, "bob")


async def test_there_is_no_claim_on_what_is_not_there_or_decided(store: Store) -> None:
    await take(store, a_letter_record())
    with pytest.raises(UnknownCaseError):
        await store.claim(place(7), "ann", NOON, LEASE)
    case = await _claimed(store, 0)
    await store.decide(case.place, "ann", case.version, NOON, a_decision(0))

    with pytest.raises(AlreadyDecidedError, match="ann has already decided: reject"):
        await store.claim(place(0), "bob", NOON, LEASE)


async def test_a_decision_is_one_line_of_the_trail_and_marks_the_case(store: Store) -> None:
    await take(store, a_letter_record())
    case = await _claimed(store, 0)
    decision = a_decision(case)
    after, line = await store.decide(
        case.place, "ann", case.version, NOON, decision, before="aa", policy_version="p-1"
    )

    assert (after.state, after.decided_by, after.action) == ("decided", "ann", "reject")
    assert after.undo_until == NOON + timedelta(seconds=10)
    assert (line.what, line.decision, line.letter) == ("decide", decision, case.letter)
    assert (line.before, line.policy_version, line.no) == ("aa", "p-1", 1)
    assert await store.trail.lines(place=case.place) == [line]
    assert await store.trail.unsent(NOON + LEASE) == [line]
    await store.trail.sent(line)
    assert await store.trail.unsent(NOON + LEASE) == []


async def test_of_fifty_decisions_sent_at_once_one_is_taken(store: Store) -> None:
    await take(store, a_letter_record())
    case = await _claimed(store, 0)
    sent = (
        store.decide(case.place, "ann", case.version, NOON, a_decision(0, f"d-{number}"))
        for number in range(50)
    )
    outcomes = await asyncio.gather(*sent, return_exceptions=True)

    refused = [one for one in outcomes if isinstance(one, AlreadyDecidedError)]
    assert len(refused) == 49
    assert len(await store.trail.lines(what="decide")) == 1


async def test_a_decision_is_refused_after_the_lease(store: Store) -> None:
    """And the case may be claimed again."""
    await take(store, a_letter_record())
    case = await _claimed(store, 0)
    with pytest.raises(LeaseLostError):
        await store.decide(case.place, "ann", case.version, NOON + LEASE, a_decision(0))
    with pytest.raises(LeaseLostError):
        await store.decide(case.place, "bob", case.version, NOON, a_decision(0))

    await _claimed(store, 0, "bob", NOON + LEASE)
    assert await store.trail.lines() == []


async def test_a_decision_on_what_has_changed_since_is_refused(store: Store) -> None:
    await take(store, a_letter_record())
    case = await _claimed(store, 0)
    await store.release(case.place, "ann", NOON)
    again = await _claimed(store, 0)

    with pytest.raises(StaleError) as refused:
        await store.decide(case.place, "ann", case.version, NOON, a_decision(0))
    assert refused.value.case == again
    with pytest.raises(UnknownCaseError):
        await store.decide(place(9), "ann", 1, NOON, a_decision(9))


async def test_a_decision_is_undone_by_who_gave_it_while_there_is_time(store: Store) -> None:
    await take(store, a_letter_record())
    case = await _claimed(store, 0)
    await store.decide(case.place, "ann", case.version, NOON, a_decision(0))
    soon, late = NOON + timedelta(seconds=10), NOON + timedelta(seconds=10.001)

    for who, now in (("bob", soon), ("ann", late)):
        with pytest.raises(UndoTooLateError):
            await store.undo(case.place, who, now)
    back, line = await store.undo(case.place, "ann", soon)

    assert (back.state, back.decided_by, back.held_by) == ("open", None, "ann")
    assert (line.what, line.undoes, line.no) == ("undo", "d-1", 2)
    after, _ = await store.decide(back.place, "ann", back.version, soon, a_decision(0, "d-2"))
    assert after.decision_id == "d-2"


async def test_a_decision_that_kafka_did_not_take_leaves_the_case_open(store: Store) -> None:
    await take(store, a_letter_record())
    case = await _claimed(store, 0)
    _, line = await store.decide(case.place, "ann", case.version, NOON, a_decision(0))
    told = await store.not_sent(line, NOON, "no broker answered")

    back = await taken(store, 0)
    assert (back.state, back.held_by) == ("open", "ann")
    assert (told.what, told.undoes, told.note) == ("not_sent", "d-1", "no broker answered")
    assert await store.trail.unsent(NOON + LEASE) == [told]
    await store.decide(back.place, "ann", back.version, NOON, a_decision(0))


async def test_an_undo_that_kafka_did_not_take_leaves_the_decision(store: Store) -> None:
    await take(store, a_letter_record())
    case = await _claimed(store, 0)
    decided, _ = await store.decide(case.place, "ann", case.version, NOON, a_decision(0))
    _, line = await store.undo(case.place, "ann", NOON + timedelta(seconds=1))
    told = await store.not_sent(line, NOON, "no broker answered")

    again = await taken(store, 0)
    assert (again.state, again.decision_id) == ("decided", "d-1")
    assert (again.decided_at, again.undo_until) == (decided.decided_at, decided.undo_until)
    assert told.undoes is None


async def test_open_cases_come_by_the_share_of_their_time_times_their_risk(store: Store) -> None:
    hours = timedelta(hours=1)
    await take(
        store,
        a_letter_record(0, failed_at=NOON - 3 * hours),  # 3/4 of its time, once
        a_letter_record(1, failed_at=NOON - 2 * hours, task="general"),  # 1/2, twice
        a_letter_record(2, failed_at=NOON - hours, task="billing_dispute"),  # 1/4, four times
        a_letter_record(3, failed_at=NOON - hours, deadline=NOON + hours),  # 1/2, once
        a_letter_record(4, failed_at=NOON - 5 * hours),  # late
    )

    found = await store.cases(OPEN, NOON)
    assert [case.letter.offset for case in found] == [4, 1, 2, 0, 3]
    assert [case.risk for case in found[:3]] == ["low", "medium", "high"]
    standing = await store.standing(NOON)
    assert [(one.risk, one.waiting, one.past_due) for one in standing] == [
        ("low", 3, 1),
        ("medium", 1, 0),
        ("high", 1, 0),
    ]


async def test_pages_follow_each_other_without_gap_or_repetition(store: Store) -> None:
    """Also where many are equally urgent."""
    times = [NOON - timedelta(minutes=number % 7) for number in range(60)]
    await take(store, *(a_letter_record(no, failed_at=at) for no, at in enumerate(times)))

    for wanted in (OPEN, ALL):
        whole = await store.cases(wanted, NOON, limit=100)
        pages: list[Case] = []
        while page := await store.cases(
            wanted, NOON, limit=7, after=pages[-1].place if pages else None
        ):
            pages += page
        assert [case.place for case in pages] == [case.place for case in whole]
        assert len(pages) == 60


async def test_the_next_case_is_the_most_urgent_that_is_free_or_one_s_own(store: Store) -> None:
    minutes = [timedelta(minutes=number) for number in range(4)]
    await take(store, *(a_letter_record(no, failed_at=NOON + at) for no, at in enumerate(minutes)))
    now = NOON + timedelta(hours=1)
    await _claimed(store, 0, "bob", now)
    await _claimed(store, 1, "ann", now)

    async def following(after: int | None) -> int | None:
        last = place(after) if after is not None else None
        case = await store.next_case("ann", OPEN, now, after=last)
        return case.letter.offset if case else None

    assert await following(None) == 1
    assert await following(1) == 2
    assert await following(3) is None
    freed = await store.next_case("ann", OPEN, now + LEASE)
    assert freed is not None
    assert freed.place == place(0)


FOUND = [
    pytest.param({"task": "general"}, [1], id="its task"),
    pytest.param({"reason": "not_json"}, [2], id="its reason"),
    pytest.param({"tenant": "acme"}, [1], id="its tenant"),
    pytest.param({"tier": "balanced"}, [0, 1, 3], id="its tier"),
    pytest.param({"model": "sim-large"}, [3], id="its model"),
    pytest.param({"risk": "medium"}, [1, 2], id="its risk"),
    pytest.param({"held": True}, [0], id="that it is held"),
    pytest.param({"held": False}, [1, 2, 3], id="that it is free"),
    pytest.param({"text": "WHERE IS MY"}, [0, 1], id="the text of the request"),
    pytest.param({"text": "100%_"}, [3], id="text with signs that patterns are made of"),
    pytest.param({"text": "x-team"}, [], id="a header's name is not looked at"),
    pytest.param({"text": "payments"}, [1], id="a header"),
    pytest.param({"text": "key-1"}, [0, 1, 2, 3], id="its key"),
    pytest.param({"text": "is not json"}, [2], id="the reason in words"),
    pytest.param({"text": "order", "tenant": "acme"}, [1], id="two things at once"),
    pytest.param({"text": r"\xFF{ NO"}, [2], id="bytes that are no text"),
    pytest.param({"text": "half a pair \ud800"}, [], id="no character"),
    pytest.param({"state": "closed"}, [], id="another state"),
]


@pytest.mark.parametrize(("fields", "offsets"), FOUND)
async def test_a_case_is_found_by(store: Store, fields: dict[str, Any], offsets: list[int]) -> None:
    times = [NOON + timedelta(minutes=number) for number in range(4)]
    large = an_attempt(model="sim-large")
    await take(
        store,
        a_letter_record(0, failed_at=times[0]),
        a_letter_record(
            1,
            failed_at=times[1],
            task="general",
            tenant="acme",
            headers=[("x-team", b"Payments"), ("x-raw", b"\xff\x00")],
        ),
        a_letter_record(
            2,
            b"\xff{ no json",
            failed_at=times[2],
            reason=Reason.NOT_JSON,
            detail="line 1",
            task=None,
            attempts=(),
            path=(),
        ),
        a_letter_record(3, b"100%_ sure", failed_at=times[3], attempts=(large,)),
    )
    await _claimed(store, 0)
    wanted = CaseFilter(**fields)

    found = await store.cases(wanted, NOON)
    assert sorted(case.letter.offset for case in found) == offsets
    assert await store.count(wanted, NOON) == len(offsets)


async def test_groups_hold_what_is_alike(store: Store) -> None:
    """With how many came in which hour of the last day."""
    now = NOON + timedelta(minutes=30)
    failed = an_attempt(outcome="failed", reason=Reason.PROVIDER_ERROR, http_status=503)
    await take(
        store,
        a_letter_record(0, failed_at=now),
        a_letter_record(1, failed_at=now - timedelta(hours=1)),
        a_letter_record(2, failed_at=now - timedelta(hours=30)),
        a_letter_record(3, failed_at=now, attempts=(failed,)),
    )

    large, small = await store.groups(OPEN, now)
    assert (large.reason, large.task, large.count) == (Reason.NO_TIER_LEFT, "support_answer", 3)
    assert (large.first, large.last) == (now - timedelta(hours=30), now)
    assert large.hours == (*[0] * 22, 1, 1)
    assert (small.error, small.count) == ("provider_error 503", 1)
    one_group = CaseFilter(reason=small.reason, task=small.task, error=small.error)
    assert await store.count(one_group, now) == 1
    assert await store.values("error", OPEN, now) == [(large.error, 3), (small.error, 1)]
    assert await store.oldest(OPEN, now) == now - timedelta(hours=30)
    assert await store.oldest(CaseFilter(task="general"), now) is None


async def test_a_letter_is_kept_byte_for_byte(store: Store) -> None:
    headers = [("x-raw", b"\x00\xff"), ("x-team", "für uns".encode())]
    record = a_letter_record(0, b"\x00\xff{", headers=headers)
    await take(store, record)

    content = await store.content(place(0))
    assert content is not None
    assert (content.key, content.value) == (record.key, record.value)
    assert content.headers == list(record.headers)
    assert content.letter.request_id == "req-0"
    assert await store.content(place(1)) is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://somewhere/cases", "was expected"),
        ("sqlite://", "a file was expected"),
        ("nothing", "was expected"),
        ("sqlite:////nowhere/at/all/cases.db", "unable to open"),
        ("postgresql://ann:secret@127.0.0.1:1/cases", "cannot be used"),
    ],
)
async def test_a_store_that_cannot_be_used_says_why(url: str, words: str) -> None:
    with pytest.raises(StoreUnusableError, match=words) as refused:
        async with open_store(url):
            pass
    assert "secret" not in str(refused.value)


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, and more than a hundred bytes " * 9, encoding="utf-8")
    with pytest.raises(StoreUnusableError, match="not a database"):
        async with open_store(f"sqlite:///{file}"):
            pass
    assert file.read_text(encoding="utf-8").startswith("not a database")


async def test_a_store_is_found_again_as_it_was_left(url: str) -> None:
    async with open_store(url) as store:
        await take(store, a_letter_record())
        held = await _claimed(store, 0)
    async with open_store(url) as again:
        assert await taken(again, 0) == held


async def test_an_error_of_the_database_does_not_tell_what_people_wrote(store: Store) -> None:
    secret = b"account 7712, born 1970-01-01"
    await take(store, a_letter_record(0, secret))
    content = await store.content(place(0))
    assert content is not None
    row = {"place": place(0), "value": content.value, "headers": b"", "words": secret.decode()}
    with pytest.raises(IntegrityError) as refused:
        async with store.database.writing() as connection:
            await connection.execute(insert(LETTERS).values(row))
    assert "7712" not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b'{"input": "my card is 4111 1111 1111 1111"}', id="plain"),
        pytest.param(b'{"input": "my card is 4111\\u00201111\\u00201111 1111"}', id="escaped"),
        pytest.param(b" " * 16_370 + b'"4111 1111 1111 1111"', id="at the end of what is searched"),
    ],
)
async def test_a_search_finds_nothing_that_is_masked(store: Store, value: bytes) -> None:
    await take(store, a_letter_record(0, value, detail="mail ann@example.com"))

    for text in ("4111", "1111 1111", "ann@", "example.com", r"4111\u0020"):
        assert await store.cases(CaseFilter(text=text), NOON) == [], text
    assert await store.count(CaseFilter(text="[email]"), NOON) == 1


async def test_a_page_does_not_go_on_behind_a_case_of_another_tenant(store: Store) -> None:
    """Where it lies in the order is nothing that others may find out."""
    await take(store, *(a_letter_record(no, tenant="acme" if no else "globex") for no in range(3)))
    mine = CaseFilter(tenants=frozenset({"acme"}))

    assert len(await store.cases(mine, NOON)) == 2
    for after in (place(0), "llm.dead-letters-9-9", "no place"):
        assert await store.cases(mine, NOON, after=after) == []
        assert await store.next_case("ann", mine, NOON, after=after) is None


async def test_a_store_that_another_version_made_is_not_used(url: str) -> None:
    async with open_store(url) as store, store.database.writing() as connection:
        await connection.execute(update(FACTS).values(value="1"))
    with pytest.raises(StoreUnusableError, match="rebuilt from the topics"):
        async with open_store(url):
            pass


async def test_a_store_is_for_nobody_else_to_read(tmp_path: Path) -> None:
    file = tmp_path / "cases.db"
    file.touch(0o666)
    file.chmod(0o666)
    async with open_store(f"sqlite:///{file}") as store:
        await take(store, a_letter_record(0))
        for one in tmp_path.iterdir():  # noqa: ASYNC240
            assert one.stat().st_mode & 0o777 == 0o600, one
