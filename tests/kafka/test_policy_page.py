"""The policy in the console: read by everybody, with what its rules did for those one may see."""

import html
import re
from pathlib import Path

import pytest

from consumers import clock
from consumers.settings import Settings
from router.route.explain import explained
from schemas.intake import read_request_object
from tests.kafka.console_flow import HERE, Browser, console
from tests.kafka.flow import request

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

_RISKY = "Does the contract of 2024 allow us to share data under GDPR?"


def _text(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


async def test_the_page_says_what_each_rule_did_and_for_whom(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path, has_sign_in=True) as running:
        await running.running.publish(
            request("own-1", tenant="acme"),
            *(request(f"other-{no}", tenant="globex") for no in range(2)),
        )
        await running.running.terminal(3)
        everybody, acme = Browser(running.app), Browser(running.app)
        await everybody.come_in("viewer")
        await acme.come_in("viewer", ["acme"])

        page = (await everybody.get("/policy")).text
        assert re.search(r"clear_small_job When the task is .* 3 requests", _text(page))
        assert 'href="/requests/other-1?tenant=globex"' in page
        for task in running.running.rules.policy.tasks:
            assert task in page
        assert "climbs in doubt only where that costs less than a wrong answer, $0.05" in _text(
            page
        )
        assert "2,000 history (over it, the oldest is left out)" in _text(page)

        page = (await acme.get("/policy")).text
        assert "1 request, for example own-1" in _text(page)
        assert "other-" not in page
        [routed] = (await acme.get("/api/policy")).json()["routed"]
        assert (routed["requests"], len(routed["examples"])) == (1, 1)


async def test_the_box_says_where_a_text_would_go_and_nothing_is_sent(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path, has_sign_in=True) as running:
        browser = Browser(running.app)
        await browser.come_in("viewer")
        asked = {"task": "policy_question", "plan": "internal", "justification": "audit"}
        await browser.get("/policy")
        page = await browser.post("/policy/where", text=_RISKY, **asked)
        facts = explained(
            read_request_object({"input": _RISKY, **asked}, {}),
            running.running.rules.policy,
            clock.now(),
        )
        assert facts["words"] in _text(page.text)
        assert '<a href="#rule-high_blast_radius">' in page.text
        assert _RISKY in page.text

        token = {"x-csrf-token": re.findall(r'data-token="(\w+)"', browser.page)[0]}
        heads = {**token, "origin": HERE}
        told = await browser.http.post(
            "/api/policy/where", json={"text": _RISKY, "task": "no_such_task"}, headers=heads
        )
        assert told.json()["step"] == "classify"
        assert "no task 'no_such_task'" in told.json()["warnings"][0]
        too_long = {"text": "x" * 8_001}
        refused = await browser.http.post("/api/policy/where", json=too_long, headers=heads)
        assert refused.status_code == 422
        hostile = (await browser.post("/policy/where", text="<script>\u202e", task="No")).text
        assert "<script>\u202e" not in hostile
        assert "This cannot be routed" in hostile
        assert await running.running.read([running.running.topics.intake]) == []


async def test_the_flow_counts_all_tenants_requests_so_not_everybody_sees_it(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path, has_sign_in=True) as running:
        [_] = await running.disputes(1)
        operator, limited = Browser(running.app), Browser(running.app)
        await operator.come_in("operator")
        await limited.come_in("operator", ["acme"])
        page = (await operator.get("/flow")).text
        assert "reason=approval_required" in page
        assert re.search("Stages that no process runs: route.* work.low.* review", _text(page))
        assert '<noscript><meta http-equiv="refresh"' in page
        for path in ("/flow", "/api/flow"):
            assert (await limited.get(path)).status_code == 403
        assert 'href="/flow"' not in (await limited.get("/cases")).text
