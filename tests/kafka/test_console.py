"""The console over HTTP, with its store and a real Kafka behind it, as a browser uses it."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from consumers import clock
from consumers.console.app import console_app
from consumers.console.bulk import Bulk
from consumers.console.dashboard import Figures
from consumers.console.deciding import Desk, decision_of
from consumers.console.exports import safe_cell
from consumers.console.queue import Queue
from consumers.console.rows import CaseFilter
from consumers.console.security import Guard, Role, hash_password, read_users
from consumers.console.store import Store, open_store
from consumers.reports import read_examples, read_quality
from consumers.runtime.clients import Clients
from consumers.runtime.reading import publisher
from consumers.settings import Settings
from router.audit import broken
from router.quality import MEASURES, told
from tests.kafka.flow import Flow, flow, request

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

_TEXT = "You charged me twice for order 7, I want a refund of 30.00"
_HERE = "http://localhost"
_PASSWORD = "correct horse"
_HASH = hash_password(_PASSWORD)


class Browser:
    """What a browser does: cookies, redirects, forms with their tokens, and where it comes from."""

    def __init__(self, app: FastAPI) -> None:
        transport = httpx.ASGITransport(app)
        self.http = httpx.AsyncClient(transport=transport, base_url=_HERE, follow_redirects=True)
        self.page = ""

    async def get(self, path: str) -> httpx.Response:
        reply = await self.http.get(path)
        self.page = reply.text
        return reply

    async def post(self, path: str, **fields: Any) -> httpx.Response:
        """Send a form of the page we are on, its hidden fields included."""
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', self.page))
        sent = {**hidden, **fields}
        reply = await self.http.post(path, data=sent, headers={"origin": _HERE})
        self.page = reply.text
        return reply

    async def sign_in(self, name: str, password: str = _PASSWORD) -> httpx.Response:
        await self.get("/sign-in")
        reply = await self.post("/sign-in", name=name, password=password)
        await self.get("/cases")
        return reply


class Console:
    """A console over a running flow."""

    def __init__(self, running: Flow, store: Store, desk: Desk, queue: Queue, app: FastAPI) -> None:
        self.running, self.store, self.desk, self.queue, self.app = running, store, desk, queue, app

    async def cases(self, count: int, **wanted: Any) -> list[str]:
        """The places of so many cases, once they are there."""
        async with asyncio.timeout(60):
            while True:
                found = await self.store.cases(CaseFilter(**wanted), clock.now())
                if len(found) >= count:
                    return [one.place for one in found]
                await asyncio.sleep(0.05)

    async def disputes(self, count: int) -> list[str]:
        """Cases of answers that wait for approval."""
        sent = (request(f"dispute-{no}", _TEXT, task="billing_dispute") for no in range(count))
        await self.running.publish(*sent)
        return await self.cases(count)


@contextlib.asynccontextmanager
async def console(
    settings: Settings, tmp_path: Path, roles: Sequence[Role] = ()
) -> AsyncIterator[Console]:
    """With `roles`, a user of each role's name may sign in; else nobody has to."""
    users = None
    if roles:
        file = tmp_path / "users"
        file.write_text("".join(f"{role}:{role}:{_HASH}\n" for role in roles))
        users = read_users(file)
    async with (
        flow(settings) as running,
        open_store(f"sqlite:///{tmp_path / 'console.db'}") as store,
        publisher(Clients(settings.kafka)) as sending,
        asyncio.TaskGroup() as tasks,
    ):
        rules, topics = running.rules, running.topics
        queue = Queue(store, Clients(settings.kafka), rules.policy, topics, clock.now)
        desk = Desk(
            store, sending, rules.policy, rules.prompts, topics, clock.now, brief_task="brief"
        )
        bulk = Bulk(desk)
        app = console_app(
            desk,
            Guard(store.sessions, users, clock.now),
            bulk,
            Figures(desk, Clients(settings.kafka)),
        )
        work = [tasks.create_task(one) for one in (queue.run(), bulk.run())]
        yield Console(running, store, desk, queue, app)
        for one in work:
            one.cancel()


async def test_a_case_is_claimed_decided_undone_and_decided_again(
    settings: Settings, tmp_path: Path
) -> None:
    """And its result is on the topic within a second after the time for an undo."""
    async with console(settings, tmp_path) as running:
        [place] = await running.disputes(1)
        browser = Browser(running.app)
        assert "1</b> waiting" in (await browser.get("/cases")).text
        assert "wants a person to approve" in (await browser.get(f"/cases/{place}")).text
        await browser.post(f"/cases/{place}/claim")
        assert 'name="decision_id"' in browser.page

        await browser.post(f"/cases/{place}/decide", action="reject")
        assert "/undo" in (await browser.get(f"/cases/{place}")).text
        await browser.post(f"/cases/{place}/undo")
        await browser.post(f"/cases/{place}/claim")
        edited = '{"answer": "We refund it.", "confidence": 1, "next_action": "none"}'
        await browser.post(f"/cases/{place}/decide", action="edit", output=edited)
        decided = asyncio.get_running_loop().time()
        [result] = await running.running.read([running.running.topics.results], 1)
        waited = asyncio.get_running_loop().time() - decided

        assert result.json["router"]["output"]["answer"] == "We refund it."
        assert result.json["router"]["resolves"] == place.partition(".")[2] or place
        assert 9.0 < waited < 12.0
        assert await running.cases(1, state="closed") == [place]
        for writer in await running.store.trail.writers():
            assert broken(await running.store.trail.chain(writer)) == []


async def test_a_form_that_is_sent_twice_decides_once_and_a_stale_one_keeps_its_text(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path) as running:
        one, two = await running.disputes(2)
        browser = Browser(running.app)
        await browser.get(f"/cases/{one}")
        await browser.post(f"/cases/{one}/claim")
        page = browser.page
        replies = []
        for _ in range(2):
            browser.page = page
            replies.append(await browser.post(f"/cases/{one}/decide", action="requeue"))
        assert [reply.status_code for reply in replies] == [200, 200]

        await browser.get(f"/cases/{two}")
        await browser.post(f"/cases/{two}/claim")
        page = browser.page
        await browser.post(f"/cases/{two}/release")
        await browser.post(f"/cases/{two}/claim")
        browser.page = page
        stale = await browser.post(
            f"/cases/{two}/decide", action="edit", output='{"answer": "my text"}'
        )
        assert stale.status_code == 422  # looked at before the version: the format is missed
        good = '{"answer": "my text", "confidence": 1, "next_action": "none"}'
        browser.page = page
        stale = await browser.post(f"/cases/{two}/decide", action="edit", output=good)
        assert stale.status_code == 412
        assert "my text" in stale.text
        lines = await running.running.read([running.running.topics.review])
        assert sum(1 for seen in lines if seen.json["what"] == "decide") == 1


async def test_personal_data_is_hidden_until_somebody_asks_for_it_which_is_noted(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path) as running:
        text = f"{_TEXT}; write to jane@example.com or call +44 20 7946 0958"
        await running.running.publish(request("private-1", text, task="billing_dispute"))
        [place] = await running.cases(1)
        browser = Browser(running.app)
        page = (await browser.get(f"/cases/{place}")).text
        assert "[email]" in page
        for secret in ("jane@example.com", "7946"):
            assert secret not in page
            assert secret not in (await browser.http.get(f"/api/cases/{place}")).text
        await browser.get(f"/cases/{place}")
        shown = (await browser.post(f"/cases/{place}/reveal")).text
        assert "jane@example.com" in shown
        other = Browser(running.app)
        assert "jane@example.com" not in (await other.get(f"/cases/{place}")).text
        revealed = await other.http.get(f"/api/cases/{place}", params={"reveal": True})
        assert "jane@example.com" in revealed.text
        lines = await running.store.trail.lines(what="reveal")
        assert [str(line.letter) for line in lines] == [place, place]


async def test_a_case_is_put_into_a_few_lines_once_however_often_it_is_asked_for(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path) as running:
        [place] = await running.disputes(1)
        browser = Browser(running.app)
        await browser.get(f"/cases/{place}")
        page = browser.page
        assert "by a cheap model" in page
        for _ in range(2):
            browser.page = page
            assert "being put into" in (await browser.post(f"/cases/{place}/brief")).text
        async with asyncio.timeout(60):
            async for part in _looks(browser, f"/cases/{place}/brief"):
                if "in short, by sim-" in part:
                    break
        assert "in short, by sim-" in (await browser.get(f"/cases/{place}")).text
        results = await running.running.read([running.running.topics.results], 1)
        assert [seen.json["id"] for seen in results] == [f"brief.{place}"]
        [first, *_] = results[0].json["router"]["path"]
        assert first == "low"


async def test_fifty_reviewers_claim_one_case_and_one_has_it(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path) as running:
        [place] = await running.disputes(1)
        taken = await asyncio.gather(
            *(running.desk.claim(place, f"reviewer-{number}") for number in range(50))
        )

        winners = {one.held_by if hasattr(one, "held_by") else one.by for one in taken}
        assert len(winners) == 1
        assert sum(1 for one in taken if hasattr(one, "held_by")) == 1


_ROUTES = (
    ("GET", "/cases", Role.VIEWER),
    ("GET", "/groups", Role.VIEWER),
    ("GET", "/next", Role.VIEWER),
    ("GET", "/dashboard", Role.VIEWER),
    ("GET", "/dashboard.csv", Role.VIEWER),
    ("GET", "/dashboard/requests?row=total&what=calls", Role.VIEWER),
    ("GET", "/cases/{place}", Role.VIEWER),
    ("GET", "/cases/{place}/raw", Role.REVIEWER),
    ("POST", "/cases/{place}/claim", Role.REVIEWER),
    ("POST", "/cases/{place}/beat", Role.REVIEWER),
    ("POST", "/cases/{place}/decide", Role.REVIEWER),
    ("POST", "/cases/{place}/release", Role.REVIEWER),
    ("POST", "/cases/{place}/undo", Role.REVIEWER),
    ("GET", "/cases/{place}/brief", Role.VIEWER),
    ("POST", "/cases/{place}/brief", Role.REVIEWER),
    ("POST", "/cases/{place}/reveal", Role.REVIEWER),
    ("GET", "/api/cases/{place}?reveal=true", Role.REVIEWER),
    ("GET", "/jobs", Role.OPERATOR),
    ("GET", "/jobs/new", Role.OPERATOR),
    ("GET", "/jobs/none", Role.OPERATOR),
    ("POST", "/jobs/none/cancel", Role.OPERATOR),
    ("POST", "/jobs", Role.OPERATOR),
    ("GET", "/export.csv", Role.OPERATOR),
    ("GET", "/audit", Role.ADMIN),
    ("GET", "/api/cases", Role.VIEWER),
    ("GET", "/api/groups", Role.VIEWER),
    ("GET", "/api/cases/{place}", Role.VIEWER),
    ("POST", "/api/cases/{place}/claim", Role.REVIEWER),
    ("POST", "/api/cases/{place}/beat", Role.REVIEWER),
    ("POST", "/api/cases/{place}/release", Role.REVIEWER),
    ("POST", "/api/cases/{place}/decision", Role.REVIEWER),
    ("POST", "/api/cases/{place}/undo", Role.REVIEWER),
    ("POST", "/api/jobs", Role.OPERATOR),
    ("GET", "/api/jobs/none", Role.OPERATOR),
    ("POST", "/api/jobs/none/cancel", Role.OPERATOR),
    ("GET", "/api/audit", Role.ADMIN),
)


async def test_every_route_asks_for_its_role_its_origin_and_its_token(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path, roles=list(Role)) as running:
        [place] = await running.disputes(1)
        nobody = Browser(running.app)
        for method, path, least in _ROUTES:
            where = path.format(place=place)
            refused = await nobody.http.request(method, where, follow_redirects=False)
            assert refused.status_code in (303, 401), where
            for role in Role:
                browser = Browser(running.app)
                await browser.sign_in(role)
                token = dict(re.findall(r'name="(csrf)" value="(\w+)"', browser.page))
                heads = {"origin": _HERE}
                reply = await browser.http.request(
                    method, where, data=token if method == "POST" else None, headers=heads
                )
                assert (reply.status_code == 403) == (not role.covers(least)), (where, role)
                if method == "GET":
                    continue
                for sent, origin in (
                    ({}, _HERE),
                    ({"csrf": "0" * 64}, _HERE),
                    (token, "https://evil.example"),
                    (token, "null"),
                ):
                    forged = await browser.http.post(where, data=sent, headers={"origin": origin})
                    assert forged.status_code == 403, (where, sent, origin)


async def test_a_session_is_new_at_every_sign_in_and_ends_on_our_side_too(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path, roles=[Role.REVIEWER]) as running:
        browser = Browser(running.app)
        browser.http.cookies.set("tierline", "chosen-by-somebody-else", domain="localhost.local")
        wrong = await browser.sign_in("reviewer", "wrong password")
        assert wrong.status_code == 401
        assert (await browser.sign_in("nobody")).status_code == 401
        reply = await browser.sign_in("reviewer")
        first = reply.cookies["tierline"]
        assert first != "chosen-by-somebody-else"
        assert "HttpOnly" in reply.headers["set-cookie"]
        assert "SameSite=strict" in reply.headers["set-cookie"]

        await browser.post("/sign-out")
        again = Browser(running.app)
        again.http.cookies.set("tierline", first, domain="localhost.local")
        assert "Password" in (await again.get("/cases")).text
        assert (await browser.sign_in("reviewer")).cookies["tierline"] != first


async def test_without_kafka_nothing_is_decided_and_the_same_can_be_sent_again(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path) as running:
        [place] = await running.disputes(1)
        async with publisher(Clients(settings.kafka)) as ended:
            pass  # what is sent by it never arrives
        cut_off = replace(running.desk, publisher=ended)
        guard = Guard(running.store.sessions, None, clock.now)
        browser = Browser(
            console_app(cut_off, guard, Bulk(cut_off), Figures(cut_off, Clients(settings.kafka)))
        )
        await browser.get(f"/cases/{place}")
        await browser.post(f"/cases/{place}/claim")
        reply = await browser.post(f"/cases/{place}/decide", action="reject", reason="typed")
        assert reply.status_code == 503
        assert "typed" in reply.text
        assert await running.cases(1) == [place]

        browser = Browser(running.app)
        await browser.get(f"/cases/{place}")
        await browser.post(f"/cases/{place}/claim")
        reply = await browser.post(f"/cases/{place}/decide", action="reject")
        assert reply.status_code == 200
        [result] = await running.running.read([running.running.topics.results], 1)
        assert result.json["router"]["kind"] == "safe_default"


async def test_a_job_decides_on_many_cases_and_what_it_leaves_alone_is_told(
    settings: Settings, tmp_path: Path
) -> None:
    """Tried dry first, and exported afterwards."""
    async with console(settings, tmp_path, roles=list(Role)) as running:
        places = await running.disputes(12)
        held = places[3]
        await running.desk.claim(held, "somebody")
        browser = Browser(running.app)
        await browser.sign_in("operator")
        dry = await browser.get("/jobs/new?task=billing_dispute&action=approve&per_second=100")
        assert "approve on 11 cases" in dry.text
        assert "somebody holds it" in dry.text
        assert (await running.cases(12)) == await running.cases(12)
        begun = await browser.post("/jobs?task=billing_dispute")
        assert begun.status_code == 200
        [job] = await running.store.jobs.recent()
        async with asyncio.timeout(60):
            async for done in _looks(browser, f"/jobs/{job.job_id}"):
                if "<b>done</b>" in done:
                    break
        progress = await running.store.jobs.progress(job.job_id)
        assert progress == {"done": 11, "skipped": 1}
        results = await running.running.read([running.running.topics.results], 11)
        assert {seen.json["router"]["review"] for seen in results} == {"approve"}

        lines = (await browser.get("/export.jsonl?state=all")).text.splitlines()
        assert len(lines) == 12
        assert len((await browser.get("/export.csv?state=all")).text.splitlines()) == 13


async def test_the_api_does_what_the_pages_do_for_a_name_and_a_password(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path, roles=list(Role)) as running:
        [held] = await running.disputes(1)
        await running.desk.claim(held, "somebody")
        api = Browser(running.app).http
        named = httpx.BasicAuth("operator", _PASSWORD)
        body = {"action": "requeue", "dry_run": True}
        tried = await api.post("/api/jobs", json=body, auth=named)
        assert tried.json()["cases"] == 0
        assert tried.json()["skipped"] == {"somebody holds it": 1}
        [case] = (await api.get("/api/cases", auth=named)).json()["cases"]
        assert (case["place"], case["held_by"]) == (held, "somebody")
        await running.desk.release(held, "somebody")
        where = f"/api/cases/{held}"
        claimed = (await api.post(f"{where}/claim", auth=named)).json()
        decision = {"action": "discard", "reason": "a test", "decision_id": "api-decision-1"}
        version = {"if-match": str(claimed["version"])}
        for _ in range(2):
            told = await api.post(f"{where}/decision", json=decision, auth=named, headers=version)
            assert (told.status_code, told.json()["state"]) == (200, "decided")
        assert (await api.post(f"{where}/undo", auth=named)).json()["state"] == "open"
        wrong = await api.get("/api/cases", auth=httpx.BasicAuth("operator", "wrong"))
        assert wrong.status_code == 401
        assert (await api.get("/api/audit", auth=named)).status_code == 403
        document = (await api.get("/api/openapi.json")).json()
        assert "/api/cases/{place}/decision" in document["paths"]


async def _looks(browser: Browser, path: str) -> AsyncIterator[str]:
    """A page, again and again."""
    while True:
        yield (await browser.get(path)).text
        await asyncio.sleep(0.1)


async def test_the_dashboard_says_what_the_command_line_says(
    settings: Settings, tmp_path: Path
) -> None:
    """And what a reviewer keeps is exported as an example."""
    async with console(settings, tmp_path) as running:
        [place] = await running.disputes(1)
        flowing = running.running
        await flowing.publish(*(request(f"label-{no}") for no in range(20)))
        await flowing.read([flowing.topics.results], 20)
        await running.desk.claim(place, "ann")
        found, case = (
            await running.store.content(place),
            await running.store.case(place, clock.now()),
        )
        assert found is not None
        assert case is not None
        edited = {"answer": "We refund it.", "confidence": 1.0, "next_action": "none"}
        decision = decision_of(
            case,
            found.letter,
            "edit",
            decision_id="kept-1",
            output=edited,
            is_example=True,
            undo_seconds=0.0,
        )
        await running.desk.decide("ann", case.version, decision)
        await flowing.read([flowing.topics.feedback], 1)

        clients = Clients(settings.kafka)
        quality = await read_quality(clients)
        rows, total = quality.table(("task", "tier"), flowing.rules.policy)
        browser = Browser(running.app)
        page = (await browser.get("/dashboard")).text
        for row in [*rows, total]:
            for measure in MEASURES:
                assert f">{told(measure, row)}<" in page, (row.name, measure.name)
        assert total.corrected["person"] == ["dispute-0"]
        ids = (await browser.get("/dashboard/requests?row=total&what=by person")).text
        assert "dispute-0" in ids
        table = (await browser.get("/dashboard.csv")).text.splitlines()
        assert len(table) == len(rows) + 2
        examples = [one async for one in read_examples(clients, every=False)]
        assert [(one["request_id"], one["expected"]) for one in examples] == [("dispute-0", edited)]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_spreadsheet_takes_a_cell_for_a_formula(text: str) -> None:
    assert safe_cell(text) == f"'{text}"
