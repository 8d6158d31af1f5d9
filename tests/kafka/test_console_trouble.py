"""Kafka sleeps while somebody decides: what was decided is kept, and carried out once."""

import asyncio
from pathlib import Path

import pytest

from consumers.console.bulk import Bulk
from consumers.console.errors import AlreadyDecidedError, NotSentError, UndoTooLateError
from consumers.console.review_service import decision_of
from consumers.console.store import Case, CaseFilter
from schemas.review import Action, Decision
from tests.kafka.conftest import BreakableKafka, settings_for
from tests.kafka.console_flow import Console, console, until

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]


async def _claimed(running: Console, place: str) -> Case:
    case = await running.desk.claim(place, "ann")
    assert isinstance(case, Case)
    return case


async def _decision(
    running: Console, case: Case, action: Action = "reject", *, seconds: float = 0.0
) -> Decision:
    found = await running.store.content(case.place)
    assert found is not None
    return decision_of(case, found.letter, action, decision_id="d-1", undo_seconds=seconds)


async def _records(running: Console, what: str) -> int:
    lines = await running.running.read([running.running.topics.review])
    return sum(seen.json["what"] == what for seen in lines)


async def test_a_decision_that_kafka_acknowledges_late_is_carried_out_once(
    kafka: BreakableKafka, tmp_path: Path
) -> None:
    settings = settings_for(await kafka.start(), "late.")
    async with console(settings, tmp_path) as running:
        [place] = await running.disputes(1)
        case = await _claimed(running, place)
        decision = await _decision(running, case)
        with kafka.asleep():
            for _ in range(2):
                with pytest.raises(NotSentError, match="kept"):
                    await running.desk.decide("ann", case.version, decision)
        [result] = await running.running.read([running.running.topics.results], 1)
        assert result.json["router"]["review"] == "reject"

        again = await running.desk.decide("ann", case.version, decision)
        assert (again.place, again.decision_id) == (place, "d-1")
        other = await _decision(running, case, "requeue")
        for who, what in (("ann", other), ("bob", decision)):
            with pytest.raises(AlreadyDecidedError, match="ann has already decided: reject"):
                await running.desk.decide(who, case.version, what)

        async def is_known_to_be_there() -> bool:
            return not await running.store.trail.unsent(running.desk.clock())

        await until(is_known_to_be_there)
        assert await _records(running, "decide") == 1
        assert len(await running.running.read([running.running.topics.results])) == 1


async def test_an_undo_that_kafka_has_too_late_is_none(
    kafka: BreakableKafka, tmp_path: Path
) -> None:
    settings = settings_for(await kafka.start(), "undone.")
    async with console(settings, tmp_path) as running:
        [place] = await running.disputes(1)
        case = await _claimed(running, place)
        await running.desk.decide("ann", case.version, await _decision(running, case, seconds=1.0))
        async with asyncio.TaskGroup() as tasks:
            with kafka.asleep():
                undoing = tasks.create_task(_refused_undo(running, place))
                await asyncio.sleep(2)  # the window ends meanwhile
                assert not undoing.done()
        [result] = await running.running.read([running.running.topics.results], 1)
        assert result.json["router"]["review"] == "reject"
        assert await running.cases(0, state="open") == []


async def _refused_undo(running: Console, place: str) -> None:
    with pytest.raises(UndoTooLateError):
        await running.desk.undo(place, "ann")


async def test_a_job_goes_on_while_kafka_sleeps_and_each_case_ends_once(
    kafka: BreakableKafka, tmp_path: Path
) -> None:
    settings = settings_for(await kafka.start(), "job.")
    async with console(settings, tmp_path, is_working=False) as running:
        await running.disputes(3)
        bulk = Bulk(running.desk, runner="console-1")
        shown = (await bulk.dry_run(CaseFilter(), "approve", None, 3)).seen
        job = await bulk.start("ann", CaseFilter(), "approve", per_second=50, seen=shown)
        jobs = running.store.jobs

        async def is_begun() -> bool:
            return (await jobs.progress(job.job_id))["done"] > 0

        async def is_done() -> bool:
            return await jobs.progress(job.job_id) == {"done": 3}

        async with asyncio.TaskGroup() as tasks:
            with kafka.asleep():
                working = tasks.create_task(bulk.run())
                await until(is_begun)
            await until(is_done)
            working.cancel()
        results = await running.running.read([running.running.topics.results], 3)
        assert len({seen.json["id"] for seen in results}) == len(results) == 3
        assert await _records(running, "decide") == 3
