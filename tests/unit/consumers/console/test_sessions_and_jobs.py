"""Who is signed in, and bulk work that another process can go on with."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select

from consumers.console.errors import JobRunningError
from consumers.console.jobs import JobCase
from consumers.console.store import Store
from consumers.console.tables import SESSIONS, Job, Session
from tests.builders import NOON
from tests.unit.consumers.console.world import LEASE, place

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


def a_session(id_hash: str) -> Session:
    return Session(id_hash, "ann", "reviewer", None, NOON, NOON)


async def test_a_session_lasts_while_it_is_used(store: Store) -> None:
    await store.sessions.start(a_session("hash-1"))
    seen = await store.sessions.seen("hash-1", NOON + 29 * MINUTE)
    assert seen is not None
    assert (seen.who, seen.role, seen.created_at) == ("ann", "reviewer", NOON)
    assert await store.sessions.seen("hash-1", NOON + 58 * MINUTE) is not None

    assert await store.sessions.seen("hash-1", NOON + 88 * MINUTE) is None
    assert await store.sessions.seen("hash-2", NOON) is None


async def test_a_session_ends_however_much_it_is_used(store: Store) -> None:
    await store.sessions.start(a_session("hash-1"))
    now = NOON
    while now < NOON + timedelta(hours=8):
        assert await store.sessions.seen("hash-1", now) is not None
        now += 20 * MINUTE
    assert await store.sessions.seen("hash-1", now) is None


async def test_a_session_that_was_ended_is_over(store: Store) -> None:
    for number in range(2):
        await store.sessions.start(a_session(f"hash-{number}"))
    await store.sessions.end("hash-0")

    assert await store.sessions.seen("hash-0", NOON) is None
    assert await store.sessions.seen("hash-1", NOON) is not None


async def test_sessions_that_are_over_are_swept(store: Store) -> None:
    await store.sessions.start(a_session("hash-0"))
    for minutes, is_there in ((29, True), (30, False)):
        await store.sessions.sweep(NOON + minutes * MINUTE)
        async with store.database.reading() as connection:
            found = (await connection.execute(select(SESSIONS))).all()
        assert bool(found) is is_there


async def _started(store: Store, name: str = "job-1", count: int = 3, who: str = "ann") -> None:
    places = [place(number) for number in range(count)]
    await store.jobs.start(Job(name, "requeue", who, "running", NOON, None, {"cap": count}), places)


async def test_a_job_is_worked_off_case_by_case(store: Store) -> None:
    await _started(store)
    [job] = await store.jobs.take("console-1", NOON, LEASE)
    assert (job.job_id, job.who, job.wanted, job.state) == ("job-1", "ann", {"cap": 3}, "running")
    assert await store.jobs.waiting("job-1") == [place(0), place(1), place(2)]

    await store.jobs.note("job-1", place(0), "done")
    await store.jobs.note("job-1", place(1), "skipped", "the fourth requeue")
    assert await store.jobs.waiting("job-1") == [place(2)]
    assert await store.jobs.progress("job-1") == {"done": 1, "skipped": 1, "waiting": 1}
    await store.jobs.note("job-1", place(2), "skipped", "somebody holds it")
    assert await store.jobs.end("job-1", "done", NOON + MINUTE)

    assert await store.jobs.outcomes("job-1") == [
        JobCase(place(0), "done", "", "unknown", None, None),
        JobCase(place(1), "skipped", "the fourth requeue", "skipped", None, None),
        JobCase(place(2), "skipped", "somebody holds it", "skipped", None, None),
    ]
    ended = await store.jobs.job("job-1")
    assert ended is not None
    assert (ended.state, ended.ended_at) == ("done", NOON + MINUTE)
    assert not await store.jobs.end("job-1", "cancelled", NOON)
    assert await store.jobs.job("job-2") is None


async def test_a_job_whose_process_was_killed_is_taken_over(store: Store) -> None:
    """With what it had not done yet; by one other process."""
    await _started(store)
    await store.jobs.take("console-1", NOON, LEASE)
    await store.jobs.note("job-1", place(0), "done")
    assert await store.jobs.take("console-2", NOON, LEASE) == []
    assert await store.jobs.take("console-1", NOON + LEASE / 2, LEASE) != []

    later = NOON + LEASE * 2
    takers = (store.jobs.take(f"console-{number}", later, LEASE) for number in range(2, 22))
    assert len([job for jobs in await asyncio.gather(*takers) for job in jobs]) == 1
    assert await store.jobs.waiting("job-1") == [place(1), place(2)]


async def test_of_each_person_one_job_runs_at_a_time(store: Store) -> None:
    await _started(store)
    await _started(store, "job-of-bob", who="bob")
    both = await store.jobs.take("console-1", NOON, LEASE)
    assert {job.job_id for job in both} == {"job-1", "job-of-bob"}
    await store.jobs.end("job-of-bob", "cancelled", NOON)
    with pytest.raises(JobRunningError):
        await _started(store, "job-2")
    running = [job.job_id for job in await store.jobs.recent() if job.state == "running"]
    assert running == ["job-1"]

    await store.jobs.end("job-1", "cancelled", NOON)
    await _started(store, "job-2")
    assert {job.job_id: job.state for job in await store.jobs.recent()} == {
        "job-1": "cancelled",
        "job-of-bob": "cancelled",
        "job-2": "running",
    }


async def test_a_cancelled_job_has_nothing_left_to_do(store: Store) -> None:
    await _started(store)
    await store.jobs.end("job-1", "cancelled", NOON)
    assert await store.jobs.waiting("job-1") == []
    assert await store.jobs.take("console-1", NOON, LEASE) == []
