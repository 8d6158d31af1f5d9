"""Who may do what in the console, and what others cannot make them do."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from consumers import clock
from consumers.console.app import console_app
from consumers.console.auth import Authenticator, Role
from consumers.console.bulk import Bulk
from consumers.console.dashboard import Figures
from consumers.console.security import is_loopback
from consumers.console.store import CaseFilter
from consumers.runtime.clients import Clients
from consumers.runtime.keyed_state import StatePart
from consumers.runtime.publisher import publisher
from consumers.settings import Settings
from consumers.sign_in_settings import TokenSettings
from router.money.book import GRACE, Book, Wanted
from router.policy.caps import Cap, Facts, NamedCap
from schemas.base import LATEST, Tier
from schemas.topics import state_topic
from tests.kafka.console_flow import HERE, SECRET, TEXT, Browser, console
from tests.kafka.flow import request

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]


_ROUTES = (
    ("GET", "/cases", Role.VIEWER),
    ("GET", "/groups", Role.VIEWER),
    ("GET", "/next", Role.VIEWER),
    ("POST", "/next", Role.REVIEWER),
    ("POST", "/filters", Role.REVIEWER),
    ("POST", "/filters/mine/forget", Role.REVIEWER),
    ("GET", "/dashboard", Role.VIEWER),
    ("GET", "/dashboard.csv", Role.VIEWER),
    ("GET", "/dashboard/bill", Role.VIEWER),
    ("GET", "/dashboard/plots/rates.csv", Role.VIEWER),
    ("GET", "/requests?outcome=called&tier=low", Role.VIEWER),
    ("GET", "/budgets", Role.VIEWER),
    ("GET", "/policy", Role.VIEWER),
    ("POST", "/policy/where", Role.VIEWER),
    ("GET", "/flow", Role.OPERATOR),
    ("GET", "/requests", Role.VIEWER),
    ("GET", "/requests/dispute-0", Role.VIEWER),
    ("GET", "/records/x/raw?request_id=dispute-0&tenant=default", Role.REVIEWER),
    ("GET", "/events?follow=job none", Role.OPERATOR),
    ("GET", "/cases/{place}", Role.VIEWER),
    ("GET", "/cases/{place}/raw", Role.REVIEWER),
    ("POST", "/cases/{place}/claim", Role.REVIEWER),
    ("POST", "/cases/{place}/beat", Role.REVIEWER),
    ("POST", "/cases/{place}/decide", Role.REVIEWER),
    ("POST", "/cases/{place}/draft", Role.REVIEWER),
    ("POST", "/cases/{place}/comment", Role.REVIEWER),
    ("POST", "/cases/{place}/assign", Role.REVIEWER),
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
    ("POST", "/api/cases/{place}/comment", Role.REVIEWER),
    ("POST", "/api/cases/{place}/assign", Role.REVIEWER),
    ("GET", "/api/counts", Role.VIEWER),
    ("GET", "/api/filters", Role.VIEWER),
    ("POST", "/api/filters", Role.REVIEWER),
    ("POST", "/api/next", Role.REVIEWER),
    ("POST", "/api/cases/{place}/decision", Role.REVIEWER),
    ("POST", "/api/cases/{place}/undo", Role.REVIEWER),
    ("GET", "/api/next", Role.VIEWER),
    ("GET", "/api/cases/{place}/brief", Role.VIEWER),
    ("POST", "/api/cases/{place}/brief", Role.REVIEWER),
    ("GET", "/api/cases/{place}/raw", Role.REVIEWER),
    ("GET", "/api/requests", Role.VIEWER),
    ("GET", "/api/requests/dispute-0", Role.VIEWER),
    ("GET", "/api/records/x/raw?request_id=dispute-0&tenant=default", Role.REVIEWER),
    ("GET", "/api/export.jsonl", Role.OPERATOR),
    ("GET", "/api/dashboard", Role.VIEWER),
    ("GET", "/api/dashboard/bill", Role.VIEWER),
    ("GET", "/api/budgets", Role.VIEWER),
    ("GET", "/api/policy", Role.VIEWER),
    ("POST", "/api/policy/where", Role.VIEWER),
    ("GET", "/api/flow", Role.OPERATOR),
    ("GET", "/api/jobs", Role.OPERATOR),
    ("POST", "/api/jobs", Role.OPERATOR),
    ("GET", "/api/jobs/none", Role.OPERATOR),
    ("POST", "/api/jobs/none/cancel", Role.OPERATOR),
    ("GET", "/api/audit", Role.ADMIN),
)


async def test_every_route_asks_for_its_role_its_origin_and_its_token(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path, has_sign_in=True) as running:
        [place] = await running.disputes(1)
        nobody, browsers = Browser(running.app), {role: Browser(running.app) for role in Role}
        for role, browser in browsers.items():
            await browser.come_in(role)
        for method, path, least in _ROUTES:
            where = path.format(place=place)
            refused = await nobody.http.request(method, where, follow_redirects=False)
            assert refused.status_code in (303, 401), where
            for role, browser in browsers.items():
                token = dict(re.findall(r'name="(csrf)" value="(\w+)"', browser.page))
                heads = {"origin": HERE}
                reply = await browser.http.request(
                    method, where, data=token if method == "POST" else None, headers=heads
                )
                assert (reply.status_code == 403) == (not role.covers(least)), (where, role)
                if method == "GET":
                    continue
                for sent, origin in (
                    ({}, HERE),
                    ({"csrf": "0" * 64}, HERE),
                    (token, "https://evil.example"),
                    (token, "null"),
                ):
                    forged = await browser.http.post(where, data=sent, headers={"origin": origin})
                    assert forged.status_code == 403, (where, sent, origin)


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("::1", True),
        ("127.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_only_this_machine_s_addresses_are_its_own(host: str, is_ours: bool) -> None:
    assert is_loopback(host) == is_ours


async def test_a_session_is_new_at_every_sign_in_and_ends_on_our_side_too(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path, has_sign_in=True) as running:
        browser = Browser(running.app)
        browser.http.cookies.set("tierline", "chosen-by-somebody-else", domain="localhost.local")
        wrong = await browser.sign_in("wrong token")
        assert wrong.status_code == 401
        [failed] = await running.store.trail.lines(what="sign_in_failed")
        assert failed.note == "the token from 127.0.0.1"
        reply = await browser.sign_in()
        first = reply.cookies["tierline"]
        assert first != "chosen-by-somebody-else"
        assert "HttpOnly" in reply.headers["set-cookie"]
        assert "SameSite=strict" in reply.headers["set-cookie"]

        await browser.post("/sign-out")
        again = Browser(running.app)
        again.http.cookies.set("tierline", first, domain="localhost.local")
        assert 'name="token"' in (await again.get("/cases")).text
        assert (await browser.sign_in()).cookies["tierline"] != first


async def test_a_session_does_not_outlive_what_it_began_with(
    settings: Settings, tmp_path: Path
) -> None:
    """Nor does one of a time when nobody had to sign in."""
    async with console(settings, tmp_path) as running:
        sessions, desk = running.store.sessions, running.desk
        figures = Figures(desk, Clients(settings.kafka))
        browser = Browser(running.app)
        await browser.get("/cases")

        def guarded(token: TokenSettings | None, *, has_oidc: bool = False) -> Browser:
            guard = Authenticator(sessions, clock.now, token=token, has_oidc=has_oidc)
            return Browser(console_app(desk, guard, Bulk(desk), figures))

        def token(secret: str = SECRET, **fields: Any) -> TokenSettings:
            return TokenSettings(secret=SecretStr(secret), **fields)

        async def is_in(again: Browser) -> bool:
            again.http.cookies.update(browser.http.cookies)
            return "/groups" in (await again.get("/cases")).text

        assert not await is_in(guarded(token()))
        assert not await is_in(guarded(None, has_oidc=True))
        browser = guarded(token())
        await browser.sign_in()
        assert await is_in(guarded(token()))
        assert not await is_in(guarded(token("another-" + SECRET)))
        assert not await is_in(guarded(None, has_oidc=True))

        lowered = guarded(token(role="viewer", tenants=frozenset({"nobody-s"})))
        lowered.http.cookies.update(browser.http.cookies)
        assert "token · viewer" in (await lowered.get("/cases")).text
        assert (await lowered.get("/dashboard")).status_code == 403  # limited to a tenant now


async def test_who_sees_one_tenant_sees_no_budget_of_another_and_none_that_tenants_share(
    settings: Settings, tmp_path: Path
) -> None:
    state = StatePart({})
    cap = {"per": "month", "dollars": "1", "at_cap": "hold", "because": "A test."}
    used = {"acme": 1_000_000, "globex": 850_000, "initech": 10}
    for tenant, micros in used.items():
        facts = Facts(tenant, "free", Tier.LOW, tenant)
        scoped = NamedCap("by_tenant", Cap.model_validate({**cap, "scope": ["tenant"]}))
        shared = NamedCap("shared", Cap.model_validate({**cap, "dollars": "9"}))
        now, wanted = clock.now(), Wanted(micros, micros, 0, 0)
        _ = Book(state).reserve([scoped, shared], facts, wanted, tenant, LATEST - GRACE, now)
    async with console(settings, tmp_path, has_sign_in=True) as running:
        topic = settings.kafka.topics.name(state_topic("admit").name)
        async with publisher(Clients(settings.kafka)) as out:
            for key, value in state.values.items():
                _ = await (await out.publish(topic, value, key=key, partition=1))
        everybody, limited = Browser(running.app), Browser(running.app)
        await everybody.come_in("viewer")
        await limited.come_in("viewer", ["acme", "other-of-ours"])

        async def budgets(browser: Browser) -> list[tuple[str, str, str]]:
            rows = (await browser.get("/api/budgets")).json()["budgets"]
            return [(row["cap"], row["key"].get("tenant", ""), row["level"]) for row in rows]

        own = ("by_tenant", "acme", "full")
        nearly = ("by_tenant", "globex", "nearly full")
        assert await budgets(everybody) == [
            *(own, nearly, ("shared", "", "")),
            ("by_tenant", "initech", ""),
        ]
        assert await budgets(limited) == [own]
        page = (await everybody.get("/budgets")).text
        assert 'class="tag bad">100% full<' in page
        assert 'class="tag warn">85% nearly full<' in page
        assert 'href="/budgets"' in page
        page = (await limited.get("/budgets")).text
        assert "tenant acme" in page
        assert not re.search("globex|initech|shared", page)


async def test_who_sees_one_tenant_finds_nothing_of_another(
    settings: Settings, tmp_path: Path
) -> None:
    async with console(settings, tmp_path, has_sign_in=True) as running:
        await running.running.publish(
            request("ours", TEXT, task="billing_dispute", tenant="acme"),
            request("theirs", TEXT, task="billing_dispute", tenant="globex"),
        )
        await running.cases(2)
        [ours] = await running.cases(1, tenant="acme")
        [theirs] = await running.cases(1, tenant="globex")
        wanted = CaseFilter(tenant="globex")
        job = await Bulk(running.desk).start("somebody", wanted, "requeue", most=1)

        browser = Browser(running.app)
        await browser.come_in("operator", tenants=["acme", "other-of-ours"])
        token = dict(re.findall(r'name="(csrf)" value="(\w+)"', browser.page))
        assert (await browser.get(f"/cases/{ours}")).status_code == 200
        for path in ("/cases", "/cases?tenant=globex", "/cases?text=refund", "/groups"):
            page = (await browser.get(path)).text
            assert theirs not in page, path
            # What was asked for is said back, whether there is such a tenant or not.
            assert "globex" not in page or "globex" in path, path
        for path in ("/export.jsonl", "/api/cases?tenant=globex", "/api/cases", "/jobs/new"):
            assert theirs not in (await browser.get(path)).text, path
        for path in ("/requests?outcome=called", "/requests?task=billing_dispute&from=2026-01-01"):
            page = (await browser.get(path)).text
            assert "/requests/ours" in page, path
            assert "theirs" not in page, path
            assert "theirs" not in (await browser.get(f"/api{path}")).text, path
        for path in ("", ".csv", "/bill", "/plots/rates.csv"):
            assert (await browser.get(f"/dashboard{path}")).status_code == 403
        for method, path, least in _ROUTES:
            if "{place}" not in path and "none" not in path:
                continue
            where = path.format(place=theirs).replace("none", job.job_id)
            data = token if method == "POST" else None
            heads = {"origin": HERE}
            if not Role.OPERATOR.covers(least):
                continue
            reply = await browser.http.request(method, where, data=data, headers=heads)
            assert reply.status_code == 404, where
        dry = {"action": "requeue", "filter": {"tenant": "globex"}, "dry_run": True}
        tried = await browser.http.post(
            "/api/jobs", json=dry, headers={"origin": HERE, "x-csrf-token": token["csrf"]}
        )
        assert (tried.json()["cases"], tried.json()["skipped"]) == (0, {})
