"""One decision on many cases, and what is taken out in files."""

import asyncio
from pathlib import Path

import pytest

from consumers import clock
from consumers.console.bulk import Bulk
from consumers.console.exports import safe_cell
from consumers.console.rows import CaseFilter
from consumers.settings import Settings
from tests.kafka.console_flow import TEXT, Browser, console, looks, until
from tests.kafka.flow import request

_MANY = 1000

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]


async def test_a_job_decides_on_many_cases_and_what_it_leaves_alone_is_told(
    settings: Settings, tmp_path: Path
) -> None:
    """Tried dry first, and exported afterwards."""
    async with console(settings, tmp_path, has_sign_in=True) as running:
        places = await running.disputes(12)
        held = places[3]
        await running.desk.claim(held, "somebody")
        browser = Browser(running.app)
        await browser.come_in("operator")
        dry = await browser.get("/jobs/new?task=billing_dispute&action=approve&per_second=100")
        assert "approve on 11 cases" in dry.text
        assert "somebody holds it" in dry.text
        assert (await running.cases(12)) == await running.cases(12)
        begun = await browser.post("/jobs?task=billing_dispute")
        assert begun.status_code == 200
        [job] = await running.store.jobs.recent()
        async with asyncio.timeout(60):
            async for done in looks(browser, f"/jobs/{job.job_id}"):
                if "<b>done</b>" in done:
                    break
        progress = await running.store.jobs.progress(job.job_id)
        assert progress == {"done": 11, "skipped": 1}
        results = await running.running.read([running.running.topics.results], 11)
        assert {seen.json["router"]["review"] for seen in results} == {"approve"}

        lines = (await browser.get("/export.jsonl?state=all")).text.splitlines()
        assert len(lines) == 12
        assert len((await browser.get("/export.csv?state=all")).text.splitlines()) == 13


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t1", "\r1"])
def test_no_spreadsheet_takes_a_cell_for_a_formula(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


async def test_a_thousand_approvals_go_on_after_a_restart_and_none_is_lost_or_doubled(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path, is_working=False) as running:
        sent = (request(f"dispute-{no}", TEXT, task="billing_dispute") for no in range(_MANY))
        await running.running.publish(*sent)
        store, desk = running.store, running.desk
        wanted = CaseFilter(task="billing_dispute")

        async def are_there() -> bool:
            return await store.count(wanted, clock.now()) == _MANY

        await until(are_there)
        job = await Bulk(desk).start("ann", wanted, "approve", most=_MANY, per_second=200)
        for count in (_MANY // 3, _MANY):

            async def are_done(count: int = count) -> bool:
                return (await store.jobs.progress(job.job_id)).get("done", 0) >= count

            async with asyncio.TaskGroup() as tasks:
                working = tasks.create_task(Bulk(desk, runner="console-1").run())
                await until(are_done)
                working.cancel()
        assert await store.jobs.progress(job.job_id) == {"done": _MANY}
        results = await running.running.read([running.running.topics.results], _MANY)
        assert len({seen.json["id"] for seen in results}) == len(results) == _MANY


async def test_a_decision_whose_note_was_cut_off_counts_as_done(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path, is_working=False) as running:
        [place], jobs = await running.disputes(1), running.store.jobs
        job = await Bulk(running.desk).start("ann", CaseFilter(), "approve", per_second=0.5)

        async def is_done() -> bool:
            return await jobs.progress(job.job_id) == {"done": 1}

        for _ in ("decided", "told"):
            await jobs.note(job.job_id, place, "waiting")
            async with asyncio.TaskGroup() as tasks:
                working = tasks.create_task(Bulk(running.desk, runner="console-1").run())
                await until(is_done)
                working.cancel()
        await running.running.read([running.running.topics.results], 1)


async def test_the_largest_case_is_shown_in_part_and_can_be_taken_whole(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path) as running:
        [small] = await running.disputes(1)
        found = await running.store.content(small)
        assert found is not None
        value, topic = b"x" * 4_100_000, running.running.topics.dead_letters
        sent = await running.desk.publisher.publish(topic, value, headers=found.headers)
        await sent
        [place] = set(await running.cases(2)) - {small}
        browser = Browser(running.app)
        began = asyncio.get_running_loop().time()
        page = (await browser.get(f"/cases/{place}")).text
        assert asyncio.get_running_loop().time() - began < 2.0
        assert len(page) < 200_000
        assert (await browser.get(f"/cases/{place}/raw")).content == value
