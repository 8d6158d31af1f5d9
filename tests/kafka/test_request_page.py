"""The page of a request, followed over a real flow: open, answered, escalated, and reviewed."""

import re
from pathlib import Path

import pytest

from consumers.cli.journey import read_journey
from consumers.journeys.facts import journey_facts
from consumers.lab.simulator import DEFAULT_MODELS
from consumers.runtime.clients import Clients
from consumers.runtime.offset_lookup import records_at
from consumers.settings import Settings
from schemas.dead_letter import Pointer
from tests.builders import NOON
from tests.kafka.console_flow import TEXT, Browser, console, looks
from tests.kafka.flow import request

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

_ORDER = "Order AB-1000 for Jane Doe arrived on 2026-03-01 in Leeds"
#: The first tier answers badly, the others well.
_CLIMBING = {
    name: model.model_copy(update={"quality": int(model.tier != "low"), "strain": 0})
    for name, model in DEFAULT_MODELS.items()
}


def _text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


async def test_a_request_is_followed_from_intake_to_its_result(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path) as running:
        browser = Browser(running.app)
        assert (await browser.get("/requests/r-1")).status_code == 404
        await running.running.stop()
        await running.running.publish(
            request("r-1", user="ann", conversation_id="talk-7", plan="standard")
        )
        page = (await browser.get("/requests/r-1")).text
        assert "and not routed yet" in page
        assert '<meta http-equiv="refresh"' in page
        assert "P-200 printer is out of ink" in page

        await running.running.start()
        async for page in looks(browser, "/requests/r-1"):
            if '<meta http-equiv="refresh"' not in page:
                break
        text = _text(page)
        for words in ("As published", "s waiting,", "llm.tier.", "chat sim-", "What decided"):
            assert words in text
        assert page.count("/raw?request_id=r-1") >= 4
        for search in ("conversation=talk-7", "user=ann", "id=r-1", "text=PRINTER"):
            async for page in looks(browser, f"/requests?{search}"):
                if 'href="/requests/r-1?tenant=default"' in page:
                    break
        assert "/requests/r-1" not in (await browser.get("/requests?conversation=talk")).text

        facts = (await browser.get("/api/requests/r-1")).json()
        told = journey_facts(await read_journey("r-1", settings), running.running.topics, NOON)
        for name in ("moments", "cost_micros", "trace_id", "done", "task"):
            assert facts[name] == told[name]
        assert facts["published"]["output"] == told["published"]["output"]
        assert [hop["place"] for hop in facts["hops"]] == [hop["place"] for hop in told["hops"]]


async def test_an_escalated_request_shows_what_differs(settings: Settings, tmp_path: Path) -> None:
    async with console(settings, tmp_path, models=_CLIMBING) as running:
        await running.running.publish(
            request("climb", _ORDER, task="extraction", plan="enterprise")
        )
        await running.running.terminal(1)
        browser = Browser(running.app)
        async for page in looks(browser, "/requests/climb"):
            if "As published" in page:
                break
        facts = (await browser.get("/api/requests/climb")).json()
        assert [route["tier"] for route in facts["routes"]] == ["low", "balanced"]
        assert [attempt["attempt_no"] for attempt in facts["attempts"]] == [1, 2]
        assert all(attempt["verdict"]["output"] for attempt in facts["attempts"][1:])
        assert '<ul class="failed">' in page
        assert "escalated" in _text(page)


async def test_a_reviewed_request_shows_who_did_what(settings: Settings, tmp_path: Path) -> None:
    async with console(settings, tmp_path, has_sign_in=True) as running:
        [place] = await running.disputes(1)
        ann, outsider = Browser(running.app), Browser(running.app)
        await ann.come_in("reviewer")
        await outsider.come_in("viewer", ["acme"])
        page = (await ann.get("/requests/dispute-0")).text
        assert f'href="/cases/{place}"' in page
        assert "with a person" in page
        assert 'http-equiv="refresh"' not in page

        await ann.get(f"/cases/{place}")
        assert 'href="/requests/dispute-0?tenant=default"' in ann.page
        await ann.post(f"/cases/{place}/claim")
        decided = await ann.post(f"/cases/{place}/decide", action="reject", reason="not ours")
        assert decided.status_code == 200, _text(decided.text)
        async for page in looks(ann, "/requests/dispute-0"):
            if "As published" in page:
                break
        text = _text(page)
        assert "reject by reviewer: not ours" in re.sub(r" after \d+ s", "", text)
        assert "the safe default was published" in text
        raw = re.findall(r'href="(/records/llm\.intake[^"]+|/records/[^"]*llm\.intake[^"]+)"', page)
        record = await ann.get(raw[0].replace("&amp;", "&"))
        assert TEXT.encode() in record.content
        noted = await running.store.trail.lines(what="reveal", limit=5)
        assert [line.request_id for line in noted] == ["dispute-0"]

        for where in ("/requests/dispute-0", "/api/requests/dispute-0", raw[0]):
            reply = await outsider.get(where.replace("&amp;", "&"))
            assert reply.status_code in (403, 404)
        assert "dispute-0" not in (await outsider.get("/requests")).text


async def test_the_tenant_is_named_where_several_have_the_id(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path) as running:
        await running.running.publish(
            request("same", tenant="acme"), request("same", tenant="globex")
        )
        await running.running.terminal(2)
        browser = Browser(running.app)
        several = await browser.get("/requests/same")
        assert several.status_code == 300
        assert 'href="/requests/same?tenant=globex"' in several.text
        refused = await browser.get("/api/requests/same")
        assert (refused.status_code, refused.json()["tenants"]) == (409, ["acme", "globex"])
        named = (await browser.get("/api/requests/same?tenant=globex")).json()
        assert (named["tenant"], len(named["attempts"])) == ("globex", 1)
        assert (await browser.get("/requests/same?tenant=other")).status_code == 404


async def test_records_are_read_where_they_lie_and_what_is_gone_is_left_out(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path) as running:
        places = await running.running.publish(*(request(f"r-{no}") for no in range(40)))
        topic = running.running.topics.intake
        wanted = [Pointer(topic=topic, partition=at, offset=no) for at, no in places[::7]]
        beyond = [Pointer(topic=topic, partition=0, offset=10_000)]
        found = await records_at(Clients(settings.kafka), [*wanted, *beyond, *wanted])
        assert sorted((record.partition, record.offset) for record in found) == sorted(places[::7])
        assert await records_at(Clients(settings.kafka), []) == []
