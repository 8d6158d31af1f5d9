"""Sign-in by OpenID Connect, against an issuer of our own over real HTTP."""

import base64
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey

from consumers import clock
from consumers.console.app import console_app
from consumers.console.auth import Authenticator
from consumers.console.bulk import Bulk
from consumers.console.dashboard import Figures
from consumers.console.review_service import ReviewService
from consumers.console.store import open_store
from consumers.policies import Policies
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from consumers.runtime.topics import ensure_topics
from consumers.settings import Settings
from consumers.sign_in_settings import OidcSettings

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

_KEY = RSAKey.generate_key(2048, {"kid": "one"})
_HERE = "http://localhost"


class Issuer:
    """Knows one person. Says what the test wants it to say in the token."""

    def __init__(self) -> None:
        self.url = ""
        self.claims: dict[str, Any] = {}
        self.key = _KEY
        self._asked: dict[str, str] = {}

    async def document(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
            }
        )

    async def keys(self, _: web.Request) -> web.Response:
        return web.json_response({"keys": [_KEY.as_dict(private=False)]})

    def approve(self, where: str) -> tuple[str, str]:
        """The person signs in: a code, and the state that goes back with it."""
        self._asked = {name: said[0] for name, said in parse_qs(urlsplit(where).query).items()}
        assert self._asked["code_challenge_method"] == "S256"
        assert self._asked["redirect_uri"] == f"{_HERE}/sign-in/oidc/back"
        return "code-1", self._asked["state"]

    async def token(self, request: web.Request) -> web.Response:
        said = await request.post()
        verifier = str(said["code_verifier"]).encode()
        made = base64.urlsafe_b64encode(hashlib.sha256(verifier).digest()).rstrip(b"=").decode()
        if said["code"] != "code-1" or made != self._asked["code_challenge"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = {
            "iss": self.url,
            "aud": "console",
            "sub": "42",
            "exp": int(time.time()) + 300,  # noqa: TID251
            "nonce": self._asked["nonce"],
            "email": "ann@example.com",
            "groups": ["staff", "support-leads"],
            **self.claims,
        }
        written = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)
        return web.json_response({"access_token": "a", "token_type": "Bearer", "id_token": written})


@contextlib.asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    issuer, app = Issuer(), web.Application()
    app.router.add_get("/.well-known/openid-configuration", issuer.document)
    app.router.add_get("/keys", issuer.keys)
    app.router.add_post("/token", issuer.token)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield issuer
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def signing_in(
    settings: Settings, tmp_path: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, Issuer]]:
    assert await ensure_topics(Clients(settings.kafka)) == []
    rules, topics = load_rules(settings), settings.kafka.topics
    async with (
        issuing() as issuer,
        open_store(f"sqlite:///{tmp_path / 'console.db'}") as store,
        publisher(Clients(settings.kafka)) as out,
    ):
        oidc = OidcSettings(
            issuer=issuer.url,
            client_id="console",
            roles={"staff": "viewer", "support-leads": "operator"},
        )
        desk = ReviewService(store, out, Policies(rules), topics, clock.now)
        guard = Authenticator(store.sessions, clock.now, has_oidc=True)
        figures = Figures(desk, Clients(settings.kafka))
        app = console_app(desk, guard, Bulk(desk), figures, oidc)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=_HERE) as browser:
            yield browser, issuer


async def _sign_in(browser: httpx.AsyncClient, issuer: Issuer, **changed: str) -> httpx.Response:
    page = await browser.get("/cases")
    assert page.headers["location"].startswith("/sign-in?")
    begun = await browser.get("/sign-in/oidc", params={"then": "/jobs"})
    assert "samesite=lax" in begun.headers["set-cookie"].lower()
    code, state = issuer.approve(begun.headers["location"])
    return await browser.get("/sign-in/oidc/back", params={"code": code, "state": state, **changed})


async def test_somebody_the_issuer_knows_gets_the_role_of_their_groups(
    settings: Settings, tmp_path: Path
) -> None:
    async with signing_in(settings, tmp_path) as (browser, issuer):
        back = await _sign_in(browser, issuer)
        assert back.status_code == 200
        assert "url=/jobs" in back.text
        jobs = await browser.get("/jobs")
        assert jobs.status_code == 200
        assert "ann@example.com · operator" in jobs.text
        assert (await browser.get("/audit")).status_code == 403


@pytest.mark.parametrize(
    ("claims", "changed", "words"),
    [
        pytest.param({}, {"state": "forged"}, "not started in this browser", id="another's state"),
        pytest.param({}, {"code": "stolen"}, "no token", id="another's code"),
        pytest.param({}, {"code": ""}, "no code", id="no code"),
        pytest.param({"aud": "other"}, {}, "not valid", id="for another client"),
        pytest.param({"iss": "https://evil.example"}, {}, "not valid", id="of another issuer"),
        pytest.param({"nonce": "old"}, {}, "not valid", id="of another sign-in"),
        pytest.param({"exp": 1}, {}, "not valid", id="too old"),
        pytest.param({"groups": ["guests"]}, {}, "no role", id="without a role"),
        pytest.param({"email_verified": False}, {}, "not verified", id="not verified"),
        pytest.param({"email_verified": "false"}, {}, "not verified", id="not verified, as text"),
        pytest.param({"azp": "other"}, {}, "another client", id="of another party"),
        pytest.param({"aud": ["console", "other"]}, {}, "another client", id="of no party"),
        pytest.param({"email": "a b"}, {}, "has no name", id="no name"),
        pytest.param({"key": "own"}, {}, "not valid", id="signed by somebody else"),
    ],
)
async def test_nobody_else_comes_in(
    settings: Settings, tmp_path: Path, claims: dict[str, Any], changed: dict[str, str], words: str
) -> None:
    async with signing_in(settings, tmp_path) as (browser, issuer):
        issuer.claims = dict(claims)
        if issuer.claims.pop("key", None):
            issuer.key = RSAKey.generate_key(2048, {"kid": "one"})
        back = await _sign_in(browser, issuer, **changed)
        assert back.status_code == 403
        assert words in back.text
        assert (await browser.get("/cases")).status_code == 303
