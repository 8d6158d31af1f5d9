"""One decision on many cases, and what is taken out in files."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from consumers import clock
from consumers.console.bulk import Bulk
from consumers.console.exports import safe_cell
from consumers.console.store import CaseFilter
from consumers.settings import Settings
from tests.kafka.console_flow import TEXT, Bearer, Browser, console, looks, until
from tests.kafka.flow import request

_MANY = 120

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
        again = (await browser.get("/jobs/new?task=billing_dispute&action=requeue")).text
        assert "11 of them come back to a person" in again
        for others in ("reason=schema_failed", "tier=low"):
            assert "requeue on 0 cases" in (await browser.get(f"/jobs/new?{others}")).text
        dry = await browser.get("/jobs/new?task=billing_dispute&action=approve&per_second=100")
        assert "approve on 11 cases" in dry.text
        assert "a person to read 11 of these answers" in dry.text
        assert "somebody holds it" in dry.text
        assert (await running.cases(12)) == await running.cases(12)
        await running.desk.release(held, "somebody")
        await running.desk.claim(places[4], "somebody")
        begun = await browser.post("/jobs?task=billing_dispute")
        assert begun.status_code == 200
        [job] = await running.store.jobs.recent()
        async with asyncio.timeout(60):
            async for done in looks(browser, f"/jobs/{job.job_id}"):
                if ">finished</span>" in done and "10 published" in done:
                    break
        progress = await running.store.jobs.progress(job.job_id)
        assert progress == {"done": 10, "skipped": 1}
        results = await running.running.read([running.running.topics.results], 10)
        assert {seen.json["router"]["review"] for seen in results} == {"approve"}

        lines = (await browser.get("/export.jsonl?state=all")).text.splitlines()
        assert len(lines) == 12
        assert len((await browser.get("/export.csv?state=all")).text.splitlines()) == 13


async def test_a_job_approves_what_its_dry_run_showed_and_nothing_else(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path, has_sign_in=True) as running:
        first, second = await running.disputes(2)
        api, named = Browser(running.app).http, Bearer()
        asked = {"action": "approve", "per_second": 100}

        async def told(**more: Any) -> tuple[int, dict[str, Any]]:
            reply = await api.post("/api/jobs", json={**asked, **more}, auth=named)
            return reply.status_code, reply.json()

        seen = (await told(dry_run=True))[1]["seen"]
        assert seen.keys() == {first, second}
        status, said = await told()
        assert (status, said["error"].partition(":")[0]) == (422, "seen")
        await running.running.publish(request("dispute-2", TEXT, task="billing_dispute"))
        await running.cases(3)  # one of which nobody has been shown
        status, job = await told(seen={**seen, second: "0" * 64})
        assert (status, "seen" in job["wanted"]) == (200, False)

        async def is_done() -> bool:
            return (await running.store.jobs.recent())[0].state == "done"

        await until(is_done)
        outcomes = await running.store.jobs.outcomes(job["job_id"])
        assert {one.place: (one.outcome, one.detail.partition(";")[0]) for one in outcomes} == {
            first: ("done", ""),
            second: ("skipped", "these are not the answers that were shown"),
        }
        case = await running.store.case(second, clock.now())
        assert case is not None
        assert (case.state, case.held_by) == ("open", None)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t1", "\r1"])
def test_no_spreadsheet_takes_a_cell_for_a_formula(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


async def test_many_approvals_go_on_after_a_restart_and_none_is_lost_or_doubled(
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
        shown = (await Bulk(desk).dry_run(wanted, "approve", None, _MANY)).seen
        job = await Bulk(desk).start(
            "ann", wanted, "approve", most=_MANY, per_second=200, seen=shown
        )
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
        shown = (await Bulk(running.desk).dry_run(CaseFilter(), "approve", None, 1)).seen
        job = await Bulk(running.desk).start(
            "ann", CaseFilter(), "approve", per_second=0.5, seen=shown
        )

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
