"""Sign-in by OpenID Connect: the authorization code flow with PKCE.

By OpenID Connect Core 1.0 and RFC 7636. The state of a sign-in is in a cookie of ten minutes; the
session begins on a page of our own.
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
from consumers.sign_in_settings import OidcSettings
from schemas.errors import TierlineError

__all__ = ["oidc_routes"]

_COOKIE = "tierline-sign-in"
_MINUTES_10 = 600
_LIMIT_SECONDS = 10.0
#: Only signatures by a public key: whoever has a shared secret could sign as anybody.
_ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
#: Seconds by which clocks may differ.
_LEEWAY = 60
#: Sign-ins that may begin in a minute, by an address and in total: each one calls the issuer.
_BEGUN, _BEGUN_IN_TOTAL = 20, 300


class SignInRefusedError(TierlineError):
    """The sign-in failed; the message is for the user."""


def oidc_routes(
    settings: OidcSettings,
    authenticator: Authenticator,
    pages: Pages,
    sign_in: SignIn,
    clock: Callable[[], datetime],
) -> APIRouter:
    """The routes where a sign-in begins and where the issuer returns to."""
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
        """Redirect the browser to the issuer; a cookie has what must come back."""
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
        """Exchange the issuer's code for a token, and begin a session for its user."""
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
        words = f"the issuer ended the sign-in: {error[:100] or 'it sent no code'}"
        raise SignInRefusedError(words)
    if not state or not secrets.compare_digest(state.encode(), begun.encode()):
        words = "this sign-in was not started in this browser: start again"
        raise SignInRefusedError(words)


async def _discovered(settings: OidcSettings) -> dict[str, Any]:
    """The issuer's own document.

    Raises SignInRefusedError, also for endpoints that may not be called.
    """
    where = settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
    document = await _call(settings, where)
    # A slash at the end makes no other issuer; its tokens have the spelling of this document.
    if str(document.get("issuer")).rstrip("/") != settings.issuer.rstrip("/"):
        words = f"{where} belongs to another issuer"
        raise SignInRefusedError(words)
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        try:
            check_url(str(document.get(name)), allow_private=settings.may_be_private)
        except ValueError as error:
            words = f"the issuer's {name}: {error}"
            raise SignInRefusedError(words) from None
    return document


def _guarded(settings: OidcSettings) -> AiohttpTransport:
    """A transport that refuses to connect to addresses that may not be called."""
    trusted = httpx.create_ssl_context(trust_env=False)

    def session() -> aiohttp.ClientSession:
        connector = guarded_connector(trusted, allow_private=settings.may_be_private)
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )

    return AiohttpTransport(verify=trusted, trust_env=False, client=session)


async def _call(
    settings: OidcSettings, where: str, form: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The issuer's answer to a GET, or to a POST of a form. Raises SignInRefusedError."""
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
            answer = reply.json()
    except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError) as error:
        what = "does not answer" if form is None else "gave no token"
        words = f"the issuer {what}: {type(error).__name__}"
        raise SignInRefusedError(words) from None
    if not isinstance(answer, dict):
        words = "the issuer's answer is not a JSON object"
        raise SignInRefusedError(words)
    return answer


async def _claims(
    settings: OidcSettings, kept: Mapping[str, str], code: str, redirect: str
) -> dict[str, Any]:
    """The claims of the identity token, after all checks. Raises SignInRefusedError."""
    document = await _discovered(settings)
    try:
        # RFC 6749, section 4.1.3, with the proof of RFC 7636.
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "code_verifier": kept["verifier"],
        }
        if settings.client_secret is None:  # else `auth` has it, with the secret
            form["client_id"] = settings.client_id
        token = await _call(settings, document["token_endpoint"], form)
        published: Any = await _call(settings, document["jwks_uri"])
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
        words = f"the issuer's token is not valid: {type(error).__name__}"
        raise SignInRefusedError(words) from None
    except Exception as error:  # noqa: BLE001  the library raises others, too
        words = f"the issuer gave no token: {type(error).__name__}"
        raise SignInRefusedError(words) from None
    return dict(decoded.claims)


def _check_party(settings: OidcSettings, claims: Mapping[str, Any]) -> None:
    """Check that the token was issued to us, not to another client that shares the audience.

    By OpenID Connect Core, 3.1.3.7: with several audiences `azp` must be there, and where it is
    there it must be us. Raises SignInRefusedError.
    """
    audience, party = claims.get("aud"), claims.get("azp")
    is_shared = isinstance(audience, list) and len(audience) > 1
    if party != settings.client_id and (party is not None or is_shared):
        words = "the issuer's token is not valid: it was issued to another client"
        raise SignInRefusedError(words)


def _who(settings: OidcSettings, claims: Mapping[str, Any]) -> tuple[str, Role]:
    name = claims.get(settings.name_claim) or claims.get("sub")
    if not isinstance(name, str) or not re.fullmatch(r"[!-~]{1,180}", name):
        words = f"the claim {settings.name_claim} has no name that can be used here"
        raise SignInRefusedError(words)
    # Some issuers send it as text; one that does not send it vouches for all its addresses.
    is_verified = str(claims.get("email_verified", True)).lower() == "true"
    if settings.name_claim == "email" and not is_verified:
        words = f"the issuer has not verified {name}"
        raise SignInRefusedError(words)
    groups = _texts(claims, settings.role_claim)
    roles = [Role(settings.roles[group]) for group in groups if group in settings.roles]
    if not roles:
        words = f"{name} has no role here; ask for one of: {', '.join(settings.roles)}"
        raise SignInRefusedError(words)
    return name, max(roles, key=list(Role).index)


def _tenants(
    settings: OidcSettings, claims: Mapping[str, Any], role: Role
) -> frozenset[str] | None:
    """The tenants whose cases they see; None for all. Raises SignInRefusedError."""
    if settings.tenant_claim is None or role is Role.ADMIN:
        return None
    tenants = frozenset(_texts(claims, settings.tenant_claim))
    if not tenants or any(len(name.split()) != 1 for name in tenants):
        words = f"the claim {settings.tenant_claim} names no tenant"
        raise SignInRefusedError(words)
    return tenants


def _texts(claims: Mapping[str, Any], name: str) -> list[str]:
    """The texts of a claim, which may be one text or a list."""
    claim = claims.get(name)
    values = claim if isinstance(claim, list) else [claim]
    return [value for value in values if isinstance(value, str)]


def _authorization_url(
    settings: OidcSettings, endpoint: str, redirect: str, begun: Mapping[str, str]
) -> str:
    """The URL to sign in at (RFC 6749, section 4.1.1, with RFC 7636)."""
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
