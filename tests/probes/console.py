"""The console under attack: every route of its own table, for every role, tenant and method.

It runs over a real store and a real publisher. A reply without our headers, or with a status of
500, has got through whatever else was asked.
"""

import asyncio
import contextlib
import html
import itertools
import json
import re
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from pydantic import SecretStr, ValidationError
from sqlalchemy import func, select, update

from consumers import clock
from consumers.console.app import console_app
from consumers.console.attempts import Attempts
from consumers.console.auth import Authenticator, Role
from consumers.console.bulk import Bulk
from consumers.console.dashboard import Figures
from consumers.console.entrance import Entrance
from consumers.console.exports import csv_of
from consumers.console.review_service import ReviewService
from consumers.console.security import HEADERS
from consumers.console.store import CaseFilter, Store, open_store
from consumers.console.tables import LETTERS, SESSIONS
from consumers.policies import Policies
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from consumers.runtime.topics import ensure_topics
from consumers.settings import KafkaSettings, Settings
from consumers.sign_in_settings import OidcSettings, TokenSettings
from tests.builders import an_attempt
from tests.probes.report import ProbeClass, Report
from tests.unit.consumers.console.world import a_letter_record, place, take

__all__ = ["CLASS"]

_HERE = "http://localhost"
_SECRET = "a-token-of-the-probes-0123456789-abcdef"
_CARD, _MAIL = "4929 1836 5527 1904", "hidden.person@example.com"
#: What a model answers names its fields, too.
_SAID = {"outcome": "rejected", "checks": [], "output": {_MAIL: {"card": _CARD}}}
_OURS, _THEIRS = place(0), place(1)
#: Requests on intake: of one's own tenant, of another one, and with an id that means something.
_OUR_ID, _THEIR_ID = "asked-by-us", "asked-by-them"
_ODD_ID = "\"'><svg/onload=alert(1)>//../%2e%2e?tenant=globex#{{7*7}}"
_UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
_KIB = 1024


@dataclass(slots=True)
class _World:
    """A console with two tenants' cases, and somebody of each role who has signed in."""

    app: FastAPI
    guard: Authenticator
    store: Store
    desk: ReviewService
    report: Report
    #: One job of somebody else.
    job_id: str
    #: The topic's name on the broker.
    intake: str = ""
    clients: list[httpx.AsyncClient] = field(default_factory=list)

    def client(self, address: str = "127.0.0.1") -> httpx.AsyncClient:
        """A browser that knows nobody."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(address, 1))
        made = httpx.AsyncClient(transport=transport, base_url=_HERE)
        self.clients.append(made)
        return made

    async def somebody(
        self, role: Role, tenants: frozenset[str] | None = None
    ) -> tuple[httpx.AsyncClient, str]:
        """A browser of somebody who is signed in, and the token of its forms."""
        visitor = await self.guard.begin(f"{role}-{uuid.uuid4().hex[:8]}", role, tenants)
        client = self.client()
        client.cookies.set(self.guard.cookie, visitor.cookie or "", domain="localhost.local")
        return client, visitor.csrf

    def routes(self) -> Iterator[tuple[str, str]]:
        """Every method and path of the application's own table."""
        return _routes(self.app.routes)

    def check(self, name: str, reply: httpx.Response, *, is_blocked: bool) -> None:
        """Count a probe by its reply."""
        absent = [one for one in HEADERS if one not in reply.headers]
        through = None
        if absent:
            through = f"{reply.status_code} without {', '.join(absent)}"
        elif reply.status_code == 500 or not is_blocked:
            through = f"{reply.status_code} {reply.text[:80]!r}"
        self.report.note(name, through=through)


def _routes(found: Sequence[Any]) -> Iterator[tuple[str, str]]:
    for one in found:
        if isinstance(one, APIRoute):
            for method in sorted(one.methods or ()):
                yield method, one.path
        elif (router := getattr(one, "original_router", None)) is not None:
            yield from _routes(router.routes)


def _least(method: str, path: str) -> Role:
    """Which role a route takes, by what it is about; what is new looks or acts like the others."""
    path = path.removeprefix("/api")
    if path.startswith("/audit"):
        return Role.ADMIN
    if path.startswith(("/jobs", "/export", "/flow")):
        return Role.OPERATOR
    is_act = method in _UNSAFE and path not in ("/sign-out", "/policy/where")
    return Role.REVIEWER if is_act or path.endswith("/raw") else Role.VIEWER


def _where(path: str, case: str, job_id: str, request_id: str = _OUR_ID) -> str:
    named = {"place": case, "job_id": job_id, "kind": "csv", "request_id": request_id}
    named |= {"record": "llm.intake-0-0", "name": "mine"}
    return re.sub(r"\{(\w+)(?::path)?\}", lambda one: quote(named[one[1]], safe=""), path)


async def _roles(world: _World) -> None:
    """Nobody gets anywhere, and everybody as far as their role."""
    people: list[tuple[Role | None, httpx.AsyncClient, str]] = [(None, world.client(), "")]
    people += [(known, *await world.somebody(known)) for known in Role]
    for (method, path), (role, client, token) in itertools.product(list(world.routes()), people):
        if path.startswith("/sign-"):
            continue
        where = _where(path, _OURS, "none")
        data = {"csrf": token} if method == "POST" else None
        reply = await client.request(method, where, data=data, headers={"origin": _HERE})
        if role is None:
            sent_away = reply.headers.get("location", "").startswith("/sign-in?")
            is_blocked = reply.status_code == 401 or (reply.status_code == 303 and sent_away)
        elif role.covers(_least(method, path)):
            is_blocked = reply.status_code not in (401, 403)
        else:
            is_blocked = reply.status_code == 403
        world.check(f"role {role or 'nobody'}: {method} {path}", reply, is_blocked=is_blocked)


async def _forgeries(world: _World) -> None:
    """No other site and no old page makes somebody act."""
    client, token = await world.somebody(Role.ADMIN)
    _, of_another = await world.somebody(Role.ADMIN)
    forged: Mapping[str, tuple[str, dict[str, str]]] = {
        "no token": ("", {"origin": _HERE}),
        "a wrong token": ("0" * 64, {"origin": _HERE}),
        "another session's token": (of_another, {"origin": _HERE}),
        "from another site": (token, {"origin": "https://evil.example"}),
        "from another port": (token, {"origin": "http://localhost:9"}),
        "from nowhere": (token, {"origin": "null"}),
        "across sites": (token, {"sec-fetch-site": "cross-site"}),
        "from a site beside": (token, {"sec-fetch-site": "same-site"}),
        "from no origin": (token, {"origin": "http://["}),
    }
    for method, path in list(world.routes()):
        if method != "POST" or path == "/sign-in":
            continue
        for name, (said, heads) in forged.items():
            where = _where(path, _OURS, world.job_id)
            reply = await client.post(where, data={"csrf": said} if said else None, headers=heads)
            world.check(f"forged, {name}: {path}", reply, is_blocked=reply.status_code == 403)


async def _tenants(world: _World) -> None:
    """Another tenant's cases and jobs do not exist."""
    client, token = await world.somebody(Role.OPERATOR, frozenset({"acme"}))
    for method, path in list(world.routes()):
        where = _where(path, _THEIRS, world.job_id, _THEIR_ID)
        data = {"csrf": token} if method == "POST" else None
        if any(name in path for name in ("{place}", "{job_id}", "{request_id")):
            reply = await client.request(method, where, data=data, headers={"origin": _HERE})
            world.check(f"tenant: {method} {path}", reply, is_blocked=reply.status_code == 404)
        elif method == "GET" and not path.startswith("/sign-"):
            for query in ("", "?tenant=globex", "?text=globex", f"?after={_THEIRS}", "?state=all"):
                reply = await client.get(where + query)
                shown = re.sub(
                    r"<form.*?</form>|[?&;]after=[^\"]*", "", reply.text, flags=re.DOTALL
                )
                is_blocked = _THEIRS not in shown and "theirs-alone" not in shown
                world.check(f"tenant: {path}{query}", reply, is_blocked=is_blocked)
    for prefix in ("", "/api"):
        for where in (
            f"{prefix}/requests/{_THEIR_ID}?tenant=globex",
            f"{prefix}/requests/{_THEIR_ID}?tenant=acme",
            f"{prefix}/records/{world.intake}-0-1/raw?request_id={_THEIR_ID}&tenant=globex",
            f"{prefix}/records/{world.intake}-0-1/raw?request_id={_OUR_ID}&tenant=acme",
        ):
            reply = await client.get(where)
            world.check(f"tenant: {where}", reply, is_blocked=reply.status_code == 404)
    for after in (_THEIRS, "llm.dead-letters-9-9", "x"):
        for where in ("/api/cases", "/api/next", "/cases"):
            reply = await client.get(where, params={"after": after})
            told = reply.json() if where.startswith("/api/") else {}
            is_blocked = not told.get("cases") and not told.get("case")
            world.check(f"cursor: {where} {after}", reply, is_blocked=is_blocked)


async def _methods(world: _World) -> None:
    """What no route knows changes nothing, and has our headers."""
    client, token = await world.somebody(Role.ADMIN)
    known = set(world.routes())
    heads = {"origin": _HERE, "x-csrf-token": token}
    for path in sorted({path for _, path in known}):
        for method in ("PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "PROPFIND"):
            if (method, path) not in known:
                where = _where(path, _OURS, "none")
                reply = await client.request(method, where, headers=heads)
                is_blocked = reply.status_code in (404, 405)
                world.check(f"method: {method} {path}", reply, is_blocked=is_blocked)
        reply = await client.get(
            _where(path, _OURS, "none") + "/", headers={"host": "evil.example"}
        )
        away = "evil.example" in reply.headers.get("location", "")
        world.check(f"slash: {path}", reply, is_blocked=not away)


async def _bodies(world: _World) -> None:
    """Nobody has a body read before it is known who they are, and nobody one without an end."""
    viewer, of_viewer = await world.somebody(Role.VIEWER)
    reviewer, of_reviewer = await world.somebody(Role.REVIEWER)
    people = (
        ("nobody", world.client(), "", 0),
        ("viewer", viewer, of_viewer, 64 * _KIB),
        ("reviewer", reviewer, of_reviewer, 12 * _KIB * _KIB),
    )
    kinds = (
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json",
        "text/plain",
    )
    paths = (
        "/sign-in",
        f"/cases/{_OURS}/decide",
        f"/api/cases/{_OURS}/decision",
        "/api/jobs",
        "/x",
    )
    for (who, client, token, most), kind, path in itertools.product(people, kinds, paths):
        pulled = 0

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal pulled
            for _ in range(64):
                pulled += 256 * _KIB
                yield b"a" * 256 * _KIB

        allowed = max(most, 64 * _KIB if path == "/sign-in" else 0) + 256 * _KIB
        heads = {"origin": _HERE, "content-type": kind, "x-csrf-token": token}
        reply = await client.post(path, content=chunks(), headers=heads)
        is_blocked = pulled <= allowed and reply.status_code in (401, 413)
        world.check(f"body: {who} {kind} {path}, {pulled} read", reply, is_blocked=is_blocked)
        claimed = {**heads, "content-length": str(1 << 62)}
        reply = await client.post(path, content=b"{}", headers=claimed)
        is_blocked = reply.status_code in (401, 413)
        world.check(f"length: {who} {kind} {path}", reply, is_blocked=is_blocked)


async def _slow_bodies(world: _World) -> None:
    """A body that never ends is given up, whoever sends it."""

    async def trickle() -> AsyncIterator[bytes]:
        yield b"token="
        await asyncio.Event().wait()

    async def unnoted(address: str, note: str) -> None:
        """Nothing fails here."""

    people = {"nobody": (world.client(), ""), "admin": await world.somebody(Role.ADMIN)}
    entrance = Entrance(
        world.app,
        world.guard,
        Attempts(clock.now),
        unnoted,
        lambda _, status, words: PlainTextResponse(words, status),
        lambda _: PlainTextResponse("sign in first", 401),
        patience=(0.02, 0.02),
    )
    for who, (client, token) in people.items():
        paths = ["/sign-in"] + ([f"/cases/{_OURS}/claim", "/api/jobs"] if token else [])
        for path in paths:
            transport = httpx.ASGITransport(entrance)
            async with httpx.AsyncClient(
                transport=transport, base_url=_HERE, cookies=client.cookies
            ) as slow:
                reply = await slow.post(path, content=trickle(), headers={"origin": _HERE})
            is_over = reply.status_code == 408 and reply.headers["connection"] == "close"
            world.report.check(f"slow body: {who} {path}", is_blocked=is_over)


#: What browsers make of these is another host's page, or was in some browser at some time.
_ELSEWHERE = (
    "//evil.example",
    "///evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\\/evil.example",
    "\\/evil.example",
    "/\t\\evil.example",
    "https://evil.example",
    "HTTPS:evil.example",
    "https:/evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "evil.example",
    "@evil.example",
    "http://localhost@evil.example/",
    "/cases//evil.example",
    "/./\t/evil.example",
    "/%2F/evil.example//x",
    "/\x00/evil.example",
    "/\x7f/evil.example",
    "/\u00a0/evil.example",
    "/\u2028/evil.example",
    "/\u202e/evil.example",
    "/\uff0fevil.example",
    "?//evil.example",
    "",
    "/cases?x=\\evil",
    "/" + "a" * 5000,
)


async def _redirects(world: _World) -> None:
    """After a sign-in one is still here."""
    for then in _ELSEWHERE:
        client = world.client("10.0.0.1")
        page = await client.get("/sign-in", params={"then": then})
        found = re.search(r'name="then" value="([^"]*)"', page.text)
        shown = found[1] if found else ""
        world.check(
            f"then: {then[:40]!r}", page, is_blocked=_is_here(shown) or page.status_code == 400
        )
        data = {"token": _SECRET, "then": then}
        page = await client.post("/sign-in", data=data, headers={"origin": _HERE})
        found = re.search(r'content="0; url=([^"]*)"', page.text)
        world.check(f"on to: {then[:40]!r}", page, is_blocked=found is None or _is_here(found[1]))
        path = quote(then, safe="/%\\") if then.startswith("/") else quote(then)
        away = (await client.get(f"{_HERE}/{path}")).headers.get("location", "/")
        is_blocked = urlsplit(away).netloc == ""
        world.report.check(f"asked for: {then[:40]!r}", is_blocked=is_blocked, otherwise=away)


def _is_here(then: str) -> bool:
    """As a browser reads it: blanks at the ends and control characters left out."""
    read = re.sub(r"[\t\r\n]", "", then.strip("".join(map(chr, range(33))))).replace("\\", "/")
    return read.startswith("/") and not read.startswith("//") and not urlsplit(read).netloc


_ODD = (
    "%00",
    "%FF%FE",
    "%ED%A0%80",
    "%C0%80",
    "%E2%80%AE",
    "%E2%80%8B",
    "%C2%9B31m",
    "%1B%5B2J",
    "..%2F..%2Fetc%2Fpasswd",
    "%2E%2E",
    "%252e%252e",
    "a" * 3000,
    "-1",
    "llm.dead-letters-1-99999999999999999999",
    "llm.dead-letters--1--1",
    "%F0%9F%92%A9",
    "'%20OR%201=1--",
    "%25",
    "{}",
    "[%2Ffoo]",
    "None",
    "%0D%0Aset-cookie:x=1",
    "%7F",
    "%EF%BF%BF",
    "1e400",
)


async def _oddities(world: _World) -> None:
    """Ids and texts that nobody has are refused in words."""
    client, token = await world.somebody(Role.ADMIN)
    heads = {"origin": _HERE, "x-csrf-token": token}
    for odd in _ODD:
        raw = "/records/{}/raw?request_id={}&tenant={}"
        for path in ("/requests/{}", "/api/requests/{}", "/requests/x?tenant={}", raw):
            reply = await client.get(path.replace("{}", odd))
            world.check(f"odd id: {path} {odd[:30]}", reply, is_blocked=reply.status_code >= 400)
        reply = await client.get(f"/requests?text={odd}&id={odd}&user={odd}&after={odd}")
        world.check(f"odd query: requests {odd[:30]}", reply, is_blocked=True)
        for path in ("/cases/{}", "/jobs/{}", "/api/cases/{}", "/api/jobs/{}", "/cases/{}/raw"):
            reply = await client.get(path.format(odd))
            world.check(f"odd id: {path} {odd[:30]}", reply, is_blocked=reply.status_code >= 400)
        reply = await client.post(f"/cases/{odd}/claim", headers=heads)
        world.check(f"odd claim: {odd[:30]}", reply, is_blocked=reply.status_code >= 400)
        odd_calls = "/requests?task={0}&outcome={0}", "/requests?task={0}&reason={0}&policy={0}"
        odd_times = "/dashboard?from={0}", "/dashboard/bill?from=2026-01-01&to={0}"
        odd_names = "/dashboard?span={}", "/dashboard/plots/{}.csv", "/requests?from={}"
        queue = "/cases?text={0}&after={0}&error={0}", "/audit?who={}"
        for where in (*queue, *odd_calls, *odd_times, *odd_names):
            reply = await client.get(where.format(odd))
            world.check(f"odd query: {where} {odd[:30]}", reply, is_blocked=True)
    bodies = (
        {"action": "requeue", "filter": {"text": "\ud800"}, "dry_run": True},
        {"action": "requeue", "filter": {"task": "\x00"}, "dry_run": True},
        {"action": "requeue", "filter": {"\ud800": "x"}, "dry_run": True},
        {"action": "discard", "reason": "\ud800"},
        {"action": "discard", "most": 10**400},
        {"action": "\ud800"},
        {"action": "discard", "reason": "x", "decision_id": "\ud800" * 9},
        {"action": "discard", "reason": "x", "decision_id": "é" * 9},
        {"action": "approve", "answers": "x", "attempt_id": "\ud800"},
        {"action": "approve", "answers": "x", "attempt_id": "x" * 10_000},
        {"action": "edit", "output": {"\ud800": "x"}},
    )
    await client.post(f"/api/cases/{_OURS}/claim", headers=heads)
    for body, path in itertools.product(bodies, ("/api/jobs", f"/api/cases/{_OURS}/decision")):
        kind = {"content-type": "application/json"}
        reply = await client.post(path, content=json.dumps(body), headers={**heads, **kind})
        world.check(f"odd body: {path} {body!r:.60}", reply, is_blocked=True)
    for version in ("9" * 30, "-1", "1e9", "1\xb2", "9" * 5000):
        told = httpx.Headers({**heads, "if-match": version}, encoding="latin-1")
        reply = await client.post(
            f"/api/cases/{_OURS}/decision", json={"action": "reject"}, headers=told
        )
        world.check(f"odd version: {version[:9]!r}", reply, is_blocked=reply.status_code >= 400)
    for host in ("", "evil example", "[::1", "a@b", "localhost:99999999", "x" * 300, "a/b"):
        reply = await client.get("/cases", headers={"host": host})
        world.check(f"odd host: {host[:20]!r}", reply, is_blocked=reply.status_code == 400)


async def _masks(world: _World) -> None:
    """What a reader sees masked is not found by searching for its parts."""
    client, _ = await world.somebody(Role.VIEWER)
    hidden = [_CARD[at : at + 4] for at in range(len(_CARD) - 3)]
    hidden += [_CARD.replace(" ", "")[at : at + 6] for at in range(11)]
    hidden += [_MAIL[at : at + 6] for at in range(0, len(_MAIL) - 6, 2)]
    # Blanks at its ends do not count in a search, and three figures are in many random names.
    for part in (part for part in hidden if part == part.strip()):
        for where in ("/api/cases", "/cases"):
            reply = await client.get(where, params={"text": part, "state": "all"})
            is_blocked = _OURS not in reply.text and _THEIRS not in reply.text
            world.check(f"search: {where} {part!r}", reply, is_blocked=is_blocked)
        for where, name in itertools.product(("/api/requests", "/requests"), ("text", "user")):
            reply = await client.get(where, params={name: part})
            is_blocked = reply.status_code == 200 and _OUR_ID not in reply.text
            world.check(f"search: {where} {name} {part!r}", reply, is_blocked=is_blocked)
    asked = [
        f"{prefix}/requests{which}" for prefix in ("", "/api") for which in ("", f"/{_OUR_ID}")
    ]
    for where in asked:
        reply = await client.get(where)
        is_blocked = reply.status_code == 200 and "[card]" in reply.text
        world.check(f"mask: {where} is shown", reply, is_blocked=is_blocked)
    cases = (f"/cases/{_OURS}", f"/api/cases/{_OURS}", "/cases", "/groups", "/api/groups")
    for where in (*cases, *asked):
        reply = await client.get(where)
        is_blocked = _CARD not in reply.text and _MAIL not in reply.text
        world.check(f"mask: {where}", reply, is_blocked=is_blocked)


async def _hostile_ids(world: _World) -> None:
    """An id that means something to browsers, shells or templates is a text that leads to it."""
    client, _ = await world.somebody(Role.REVIEWER)
    found = await client.get("/requests?text=hostile")
    link = re.search(r'href="(/requests/[^"]+)"', found.text)
    page = await client.get(html.unescape(link[1]) if link else "/none")
    for name, reply in (("list", found), ("page", page)):
        is_text = reply.status_code == 200 and "<svg/" not in reply.text
        world.check(f"hostile id: {name}", reply, is_blocked=is_text and "{{7*7}}" in reply.text)
    linked = re.findall(r'href="(/records/[^"]+)"', page.text)
    world.report.check("hostile id: its record is linked", is_blocked=len(linked) == 1)
    for where in linked:
        reply = await client.get(html.unescape(where))
        world.check("hostile id: its record", reply, is_blocked=reply.status_code == 200)


async def _guessing(world: _World) -> None:
    """A token cannot be guessed for long, and every guess that was looked at is written down."""
    for kind in ("form", "bearer"):
        address = f"198.51.100.{7 if kind == 'form' else 8}"
        client = world.client(address)
        for number in range(12):
            guess = _SECRET if number > 8 else f"{_SECRET[:-1]}{number}"
            if kind == "form":
                reply = await client.post(
                    "/sign-in", data={"token": guess}, headers={"origin": _HERE}
                )
            else:
                heads = {"authorization": f"Bearer {guess}"}
                reply = await client.get("/api/cases", headers=heads)
            expected = 401 if number < 5 else 429
            if kind == "bearer" and guess == _SECRET:
                expected = 200  # others' failures lock its holder not out
            world.check(f"guess {number}, {kind}", reply, is_blocked=reply.status_code == expected)
        noted = await world.store.trail.lines(what="sign_in_failed", limit=1000)
        count = len([line for line in noted if address in line.note])
        world.report.check(f"guesses noted, {kind}", is_blocked=count == 5, otherwise=str(count))
    for number in range(60):
        client = world.client(f"203.0.113.{number}")
        await client.get("/api/cases", headers={"authorization": "Bearer x"})
    fresh = world.client("203.0.113.200")
    for told, expected in ((f"{_SECRET}x", 429), (_SECRET, 200)):
        reply = await fresh.get("/api/cases", headers={"authorization": f"Bearer {told}"})
        is_blocked = reply.status_code == expected
        world.check(f"guesses of all together: {expected}", reply, is_blocked=is_blocked)


async def _jobs(world: _World) -> None:
    """No job is so slow or so fast that others suffer."""
    client, token = await world.somebody(Role.OPERATOR)
    heads = {"origin": _HERE, "x-csrf-token": token}
    speeds = ("1e-9", "1e-300", "0", "-1", "nan", "inf", "-inf", "1e308", "0.001", "1e999", "", "x")
    for speed in speeds:
        data = {"action": "requeue", "per_second": speed, "csrf": token}
        reply = await client.post("/jobs?task=none", data=data, headers={"origin": _HERE})
        # An empty field of a form is one that was not sent.
        is_blocked = reply.status_code == 422 or speed == ""
        world.check(f"speed, form: {speed!r}", reply, is_blocked=is_blocked)
        body = (
            f'{{"action": "requeue", "filter": {{"task": "none"}}, "per_second": {speed or "[]"}}}'
        )
        reply = await client.post(
            "/api/jobs", content=body, headers={**heads, "content-type": "application/json"}
        )
        world.check(f"speed, API: {speed!r}", reply, is_blocked=reply.status_code == 422)
    reply = await client.post(f"/api/jobs/{world.job_id}/cancel", headers=heads)
    noted = await world.store.trail.lines(what="job", limit=1000)
    is_noted = any(line.note == f"{world.job_id}: cancelled" for line in noted)
    world.check("a job is cancelled unnoticed", reply, is_blocked=is_noted)
    for who in ("ann", "bob"):
        wanted = CaseFilter(task="none-of-these")
        job = await Bulk(world.desk).start(who, wanted, "requeue", per_second=0.03)
        world.report.check(f"a job of {who} beside others", is_blocked=job.state == "running")


async def _sessions(world: _World) -> None:
    """Who only looks leaves nothing in the store."""
    guards = {"signed out": world.guard, "loopback": Authenticator(world.store.sessions, clock.now)}
    for name, guard in guards.items():
        app = console_app(world.desk, guard, Bulk(world.desk), _figures(world.desk))
        lone = _World(app, guard, world.store, world.desk, world.report, world.job_id)
        before = await _count_sessions(world.store)
        for path in ("/cases", "/groups", "/api/cases", "/sign-in", f"/cases/{_OURS}"):
            for cookie in ("", "x", "s." + "y" * 43, "y" * 5000):
                heads = {"cookie": f"tierline={cookie}"} if cookie else {}
                reply = await lone.client().get(path, headers=heads)
                is_blocked = await _count_sessions(world.store) == before
                world.check(
                    f"session row: {name} {path} {cookie[:3]}", reply, is_blocked=is_blocked
                )
        if name == "loopback":
            for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1"):
                reply = await lone.client().get("/cases", headers={"host": host})
                world.check(f"host: {host}", reply, is_blocked=reply.status_code == 421)


async def _count_sessions(store: Store) -> int:
    async with store.database.reading() as connection:
        return int(await connection.scalar(select(func.count()).select_from(SESSIONS)) or 0)


def _issuers(report: Report) -> None:
    """What is no issuer's address is no setting."""
    for text in (
        "http://evil.example",
        "http://localhost:x@evil.example",
        "http://localhost@evil.example",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example/",
        "https://user:word@id.example",
        "https://id.example@evil.example",
        "https://id.example:99999",
        "https://id.example:x",
        "https://",
        "https:///x",
        "https:id.example",
        "https://id.example?x=1",
        "https://id.example#x",
        "https://id.example\\@evil.example",
        "https://id example",
        " https://id.example",
        "https://id.example\n",
        "https://[::1",
        "ftp://id.example",
        "javascript:alert(1)",
    ):
        try:
            OidcSettings(issuer=text, client_id="x", roles={})
        except ValidationError:
            report.check(f"issuer: {text!r}", is_blocked=True)
        else:
            report.check(f"issuer: {text!r}", is_blocked=False)
    for secret in ("", "short", "a" * 31, "a b" * 20, "\u00e9" * 40, "a" * 32 + "\n"):
        try:
            TokenSettings(secret=SecretStr(secret))
        except ValidationError:
            report.check(f"token: {secret!r}", is_blocked=True)
        else:
            report.check(f"token: {secret!r}", is_blocked=False)


def _cells(report: Report) -> None:
    """No spreadsheet, whatever it takes for a separator, finds a formula."""
    beginnings = ("", ";", "x;", 'x";', "x\n", "x\r\n", "\t", "x\t", '";"', " ;", "x; ", "x|")
    for before, sign in itertools.product(beginnings, "=+-@\uff1d\uff0b\uff0d\uff20"):
        text = csv_of([["a", f"{before}{sign}cmd|' /C calc'!A0", "b"]])
        parts = re.split(r"[;,\t\r\n|]", text)
        formulas = [one for one in parts if one.strip(' "').startswith(sign)]
        report.check(f"cell: {before!r}{sign}", is_blocked=not formulas, otherwise=repr(text))


async def _statuses(world: _World) -> None:
    """A fault of ours has our headers too; last, for it leaves a broken case behind."""
    client, _ = await world.somebody(Role.ADMIN)
    async with world.store.database.writing() as connection:
        await connection.execute(
            update(LETTERS).where(LETTERS.c.place == _OURS).values(headers=b"broken")
        )
    for where in (f"/cases/{_OURS}", f"/api/cases/{_OURS}"):
        reply = await client.get(where)
        absent = [one for one in HEADERS if one not in reply.headers]
        is_blocked = reply.status_code == 500 and not absent and "broken" not in reply.text
        world.report.check(f"a fault: {where}", is_blocked=is_blocked, otherwise=str(absent))
    for where, status in (("/static/none.js", 404), ("/static/../app.py", 404), ("/none", 404)):
        reply = await client.get(where)
        world.check(f"status {status}: {where}", reply, is_blocked=reply.status_code == status)


def _figures(desk: ReviewService) -> Figures:
    return Figures(desk, Clients(KafkaSettings(bootstrap="127.0.0.1:1")))


@contextlib.asynccontextmanager
async def _world(report: Report, bootstrap: str) -> AsyncIterator[_World]:
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=f"probe{uuid.uuid4().hex[:8]}.", partitions=3)
    settings = Settings(kafka=kafka)
    await ensure_topics(Clients(kafka))
    rules, now = load_rules(settings), clock.now()
    with tempfile.TemporaryDirectory() as folder:
        async with (
            open_store(f"sqlite:///{Path(folder) / 'console.db'}") as store,
            publisher(Clients(kafka)) as sending,
            asyncio.TaskGroup() as tasks,
        ):
            hidden = f'{{"input": "card {_CARD}, mail {_MAIL}"}}'.encode()
            await take(
                store,
                a_letter_record(
                    *(0, hidden),
                    tenant="acme",
                    detail=f"mail {_MAIL}",
                    failed_at=now,
                    attempts=(an_attempt(verdict=_SAID),),
                ),
                a_letter_record(
                    1, hidden, tenant="globex", task="theirs-alone", failed_at=now - timedelta(1)
                ),
                a_letter_record(2, tenant="acme", failed_at=now - timedelta(2)),
            )
            asked = (
                (_OUR_ID, "acme", f"card {_CARD}, mail {_MAIL}"),
                (_THEIR_ID, "globex", "theirs-alone"),
                (_ODD_ID, "acme", "hostile"),
            )
            for request_id, tenant, words in asked:
                body = {"id": request_id, "tenant": tenant, "input": words, "user": _MAIL}
                value = json.dumps(body).encode()
                await (await sending.publish(kafka.topics.intake, value, key=b"k", partition=0))
            desk = ReviewService(store, sending, Policies(rules), kafka.topics, clock.now)
            token = TokenSettings(secret=SecretStr(_SECRET), role="operator")
            guard = Authenticator(store.sessions, clock.now, token=token, has_oidc=True)
            bulk = Bulk(desk)
            job = await bulk.start("somebody", CaseFilter(tenant="globex"), "requeue")
            figures = Figures(desk, Clients(kafka))
            keeping = tasks.create_task(figures.model.run())
            app = console_app(desk, guard, bulk, figures)
            world = _World(app, guard, store, desk, report, job.job_id, intake=kafka.topics.intake)
            try:
                yield world
            finally:
                keeping.cancel()
                for client in world.clients:
                    await client.aclose()


async def _run(report: Report, bootstrap: str) -> None:
    _issuers(report)
    _cells(report)
    async with _world(report, bootstrap) as world:
        await _tenants(world)
        await _forgeries(world)
        await _masks(world)
        await _hostile_ids(world)
        await _roles(world)
        await _methods(world)
        await _bodies(world)
        await _slow_bodies(world)
        await _redirects(world)
        await _oddities(world)
        await _jobs(world)
        await _sessions(world)
        await _guessing(world)
        await _statuses(world)


CLASS = ProbeClass("console", 1200, _run, needs_broker=True)
