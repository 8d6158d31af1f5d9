"""Sign-in by OpenID Connect: the authorization code flow with PKCE.

By OpenID Connect Core 1.0 and RFC 7636. What the browser carries between leaving and coming back is
in a cookie of ten minutes that only we can read; the session begins on a page of our own.
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import aiohttp
import httpx
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from httpx_aiohttp import AiohttpTransport
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from consumers.addresses import check_url
from consumers.console.attempts import Attempts, too_many_attempts
from consumers.console.auth import Authenticator, Role
from consumers.console.entrance import client_of
from consumers.console.pages import Pages
from consumers.console.security import own_path
from consumers.console.sign_in import SignIn
from consumers.providers.resolver import guarded_connector
from consumers.settings import OidcSettings
from schemas.errors import TierlineError

__all__ = ["oidc_routes"]

_COOKIE = "tierline-sign-in"
_MINUTES_10 = 600
_LIMIT_SECONDS = 10.0
#: Signatures by a public key alone: with a shared secret whoever has it could be anybody.
_ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
#: Clocks differ.
_LEEWAY = 60
#: Beginning a sign-in asks the issuer; an address may do so as often in a minute, and all of them.
_BEGUN, _BEGUN_IN_TOTAL = 20, 300


class SignInRefusedError(TierlineError):
    """The sign-in did not come to its end; the words are for the person."""


def oidc_routes(
    settings: OidcSettings,
    authenticator: Authenticator,
    pages: Pages,
    sign_in: SignIn,
    clock: Callable[[], datetime],
) -> APIRouter:
    """Where a sign-in begins and where it comes back to."""
    limits = {"per_address": _BEGUN, "in_total": _BEGUN_IN_TOTAL}
    begun, returned = Attempts(clock, **limits), Attempts(clock)
    router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
    rules: dict[str, Any] = {
        "httponly": True,
        "samesite": "lax",
        "secure": authenticator.is_secure,
        "path": "/sign-in",
    }

    @router.get("/sign-in/oidc")
    async def begin(request: Request, then: str = "/") -> Response:
        """Redirect the browser to the issuer; what it has to bring back is in a cookie."""
        if not begun.begin(client_of(request)):
            raise too_many_attempts()
        try:
            document = await _discovered(settings)
        except SignInRefusedError as error:
            raise HTTPException(503, str(error)) from None
        names = ("state", "nonce", "verifier")
        kept = {**{name: secrets.token_urlsafe(48) for name in names}, "then": own_path(then)}
        endpoint, redirect = document["authorization_endpoint"], _back(request, authenticator)
        reply = RedirectResponse(_authorization_url(settings, endpoint, redirect, kept), 303)
        reply.set_cookie(_COOKIE, urlencode(kept), max_age=_MINUTES_10, **rules)
        return reply

    @router.get("/sign-in/oidc/back")
    async def back(request: Request, state: str = "", code: str = "", error: str = "") -> Response:
        """Exchange the issuer's code for a token, and begin a session by what that says."""
        kept, address = dict(parse_qsl(request.cookies.get(_COOKIE, ""))), client_of(request)
        if not returned.begin(address):
            raise too_many_attempts()
        try:
            _check(state, code, error, kept.get("state", ""))
            claims = await _claims(settings, kept, code, _back(request, authenticator))
            name, role = _who(settings, claims)
            tenants = _tenants(settings, claims, role)
        except SignInRefusedError as refused:
            await sign_in.note_failure(address, f"by {settings.issuer}: {refused}"[:400])
            words = str(refused)
            reply: Response = pages.page(
                "message.html", None, 403, title="Not signed in", words=words
            )
        else:
            returned.succeeded(address)
            visitor = await authenticator.begin(name, role, tenants)
            note = f"by {settings.issuer} from {address}"
            reply = await sign_in.welcome(request, visitor, note, kept.get("then", "/"))
        reply.delete_cookie(_COOKIE, **rules)
        return reply

    return router


def _check(state: str, code: str, error: str, begun: str) -> None:
    """Raises SignInRefusedError."""
    if error or not code:
        words = f"the sign-in ended there: {error[:100] or 'no code'}"
        raise SignInRefusedError(words)
    if not state or not secrets.compare_digest(state.encode(), begun.encode()):
        words = "this sign-in was not begun in this browser: begin again"
        raise SignInRefusedError(words)


async def _discovered(settings: OidcSettings) -> dict[str, Any]:
    """The issuer's own document.

    Raises SignInRefusedError, also for endpoints that nobody may call.
    """
    where = settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
    found = await _asked(settings, where)
    # With and without a slash at the end it is the same issuer; its tokens say what it says here.
    if str(found.get("issuer")).rstrip("/") != settings.issuer.rstrip("/"):
        words = f"{where} is another issuer's"
        raise SignInRefusedError(words)
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        try:
            check_url(str(found.get(name)), allow_private=settings.may_be_private)
        except ValueError as error:
            words = f"the issuer's {name}: {error}"
            raise SignInRefusedError(words) from None
    return found


def _guarded(settings: OidcSettings) -> AiohttpTransport:
    """Connections to the issuer, and to no address that may not be called."""
    trusted = httpx.create_ssl_context(trust_env=False)

    def session() -> aiohttp.ClientSession:
        connector = guarded_connector(trusted, allow_private=settings.may_be_private)
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )

    return AiohttpTransport(verify=trusted, trust_env=False, client=session)


async def _asked(
    settings: OidcSettings, where: str, form: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What the issuer answers, to a form where one is sent. Raises SignInRefusedError."""
    secret = settings.client_secret
    proof = (settings.client_id, secret.get_secret_value()) if secret else None
    try:
        async with httpx.AsyncClient(
            timeout=_LIMIT_SECONDS, trust_env=False, transport=_guarded(settings)
        ) as http:
            if form is None:
                reply = await http.get(where)
            else:
                reply = await http.post(
                    where, data=dict(form), auth=proof or httpx.USE_CLIENT_DEFAULT
                )
            reply.raise_for_status()
            found = reply.json()
    except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError) as error:
        what = "does not answer" if form is None else "gave no token"
        words = f"the issuer {what}: {type(error).__name__}"
        raise SignInRefusedError(words) from None
    if not isinstance(found, dict):
        words = "the issuer's answer is no object"
        raise SignInRefusedError(words)
    return found


async def _claims(
    settings: OidcSettings, kept: Mapping[str, str], code: str, redirect: str
) -> dict[str, Any]:
    """What the identity token says, once its signature and everything about it is right."""
    document = await _discovered(settings)
    try:
        # RFC 6749, section 4.1.3, with the proof of RFC 7636.
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "code_verifier": kept["verifier"],
        }
        if settings.client_secret is None:  # else it is named beside its secret
            form["client_id"] = settings.client_id
        token = await _asked(settings, document["token_endpoint"], form)
        published: Any = await _asked(settings, document["jwks_uri"])
        keys = KeySet.import_key_set(published)
        decoded = jwt.decode(token["id_token"], keys, algorithms=_ALGORITHMS)
        checked = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY,
            iss={"essential": True, "value": document["issuer"]},
            aud={"essential": True, "value": settings.client_id},
            exp={"essential": True},
            nonce={"essential": True, "value": kept["nonce"]},
        )
        checked.validate(decoded.claims)
        _check_party(settings, decoded.claims)
    except SignInRefusedError:
        raise
    except (JoseError, httpx.HTTPError, KeyError, ValueError) as error:
        words = f"the issuer's token is not good: {type(error).__name__}"
        raise SignInRefusedError(words) from None
    except Exception as error:  # noqa: BLE001  the library's own, by the issuer's words
        words = f"the issuer gave no token: {type(error).__name__}"
        raise SignInRefusedError(words) from None
    return dict(decoded.claims)


def _check_party(settings: OidcSettings, claims: Mapping[str, Any]) -> None:
    """The token was made for us, not for another client that shares the audience.

    By OpenID Connect Core, 3.1.3.7: with several audiences `azp` has to be there, and where it is
    it has to be us. Raises SignInRefusedError.
    """
    audience, party = claims.get("aud"), claims.get("azp")
    is_shared = isinstance(audience, list) and len(audience) > 1
    if party != settings.client_id and (party is not None or is_shared):
        words = "the issuer's token is not good: it was made for another client"
        raise SignInRefusedError(words)


def _who(settings: OidcSettings, claims: Mapping[str, Any]) -> tuple[str, Role]:
    name = claims.get(settings.name_claim) or claims.get("sub")
    if not isinstance(name, str) or not re.fullmatch(r"[!-~]{1,180}", name):
        words = f"the claim {settings.name_claim} names nobody we could write down"
        raise SignInRefusedError(words)
    # Some issuers say it as text. Who says nothing of it vouches for all of theirs.
    is_verified = str(claims.get("email_verified", True)).lower() == "true"
    if settings.name_claim == "email" and not is_verified:
        words = f"{name} is not verified"
        raise SignInRefusedError(words)
    given = _texts(claims, settings.role_claim)
    roles = [Role(settings.roles[group]) for group in given if group in settings.roles]
    if not roles:
        words = f"{name} has no role here; ask for one of: {', '.join(settings.roles)}"
        raise SignInRefusedError(words)
    return name, max(roles, key=list(Role).index)


def _tenants(
    settings: OidcSettings, claims: Mapping[str, Any], role: Role
) -> frozenset[str] | None:
    """Whose cases they see. Raises SignInRefusedError."""
    if settings.tenant_claim is None or role is Role.ADMIN:
        return None
    tenants = frozenset(_texts(claims, settings.tenant_claim))
    if not tenants or any(len(name.split()) != 1 for name in tenants):
        words = f"the claim {settings.tenant_claim} names no tenant"
        raise SignInRefusedError(words)
    return tenants


def _texts(claims: Mapping[str, Any], name: str) -> list[str]:
    """What a claim says, alone or as a list."""
    claim = claims.get(name)
    values = claim if isinstance(claim, list) else [claim]
    return [value for value in values if isinstance(value, str)]


def _authorization_url(
    settings: OidcSettings, endpoint: str, redirect: str, begun: Mapping[str, str]
) -> str:
    """Where the browser goes to sign in (RFC 6749, section 4.1.1, with RFC 7636)."""
    digest = hashlib.sha256(begun["verifier"].encode()).digest()
    query = {
        "response_type": "code",
        "client_id": settings.client_id,
        "redirect_uri": redirect,
        "scope": settings.scope,
        "state": begun["state"],
        "nonce": begun["nonce"],
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"


def _back(request: Request, authenticator: Authenticator) -> str:
    scheme = "https" if authenticator.is_secure else request.url.scheme
    return f"{scheme}://{request.headers.get('host', '')}/sign-in/oidc/back"
