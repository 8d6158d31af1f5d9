"""Who may do what: roles, sessions, and the conditions of routes."""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from fastapi import HTTPException, Request

from consumers.console.errors import UnknownCaseError
from consumers.console.jobs import Job
from consumers.console.review_service import ReviewService
from consumers.console.security import check_origin
from consumers.console.sessions import Sessions
from consumers.console.tables import Session
from consumers.sign_in_settings import TokenSettings
from schemas.errors import TierlineError
from schemas.tenancy import is_reserved_tenant

__all__ = [
    "LOCAL",
    "TOKEN",
    "Authenticator",
    "NeedsSignInError",
    "Role",
    "Visitor",
    "may",
    "may_see_all",
    "may_see_job",
    "only_ones_own",
    "visitor_of",
]

#: The user where nobody has to sign in: whoever sits at the machine.
LOCAL = "local"
#: The user who signs in with the console's token.
TOKEN = "token"  # noqa: S105  a name
#: Prefix of the ids of such sessions, which end when the token changes.
_BY_TOKEN = "t."  # noqa: S105  a prefix
_UNSAFE = ("POST", "PUT", "PATCH", "DELETE")


class Role(StrEnum):
    """What a user may do; each role includes those before it."""

    #: View cases.
    VIEWER = "viewer"
    #: Claim and decide.
    REVIEWER = "reviewer"
    #: Act on many cases at once, and export them.
    OPERATOR = "operator"
    #: Read the audit trail.
    ADMIN = "admin"

    def covers(self, other: "Role") -> bool:
        """True when this role includes the other one."""
        ladder = list(Role)
        return ladder.index(self) >= ladder.index(other)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A user with a session, and the token of that session's forms."""

    session: Session
    csrf: str
    #: The session's id for the cookie, where the session is new.
    cookie: str | None = None

    @property
    def who(self) -> str:
        return self.session.who

    @property
    def role(self) -> Role:
        return Role(self.session.role)

    @property
    def tenants(self) -> frozenset[str] | None:
        """The tenants whose cases they see; None for all, which includes cases of no tenant."""
        tenants = self.session.tenants
        return tenants and frozenset(name for name in tenants if not is_reserved_tenant(name))

    def sees(self, tenant: str) -> bool:
        """True when they may see a tenant's cases."""
        return self.tenants is None or tenant in self.tenants


class Authenticator:
    """Recognises sessions by a cookie, and their forms by a token.

    A session's id is new at every sign-in and known only to the browser; the store has its hash.
    Where nobody has to sign in, no sessions are stored: the browser keeps the id of its cookie.
    """

    def __init__(
        self,
        sessions: Sessions,
        clock: Callable[[], datetime],
        *,
        token: TokenSettings | None = None,
        has_oidc: bool = False,
        is_secure: bool = False,
    ) -> None:
        self.has_oidc = has_oidc
        self._token = token
        self._token_hash = _digest(token.secret.get_secret_value()) if token else b""
        self._sessions = sessions
        self._clock = clock
        #: Browsers use https.
        self.is_secure = is_secure
        #: Browsers accept the prefix `__Host-` only over TLS, from the host itself, for all paths.
        self.cookie = "__Host-tierline" if is_secure else "tierline"

    @property
    def has_token(self) -> bool:
        """True where users can sign in with the token."""
        return self._token is not None

    @property
    def needs_sign_in(self) -> bool:
        """False for a console that only its own machine can reach."""
        return self.has_token or self.has_oidc

    @property
    def cookie_rules(self) -> dict[str, Any]:
        return {"httponly": True, "samesite": "strict", "secure": self.is_secure, "path": "/"}

    async def visitor(
        self, cookies: Mapping[str, str], *, is_by_hand: bool = True
    ) -> Visitor | None:
        """The user of a request; None where they have to sign in first.

        A request that a page makes by itself keeps no session from ending.
        """
        id_ = cookies.get(self.cookie, "")
        if not self.needs_sign_in:
            is_new = not 20 <= len(id_) <= 100
            id_ = secrets.token_urlsafe(32) if is_new else id_
            now = self._clock()
            session = Session(self._hashed(id_), LOCAL, Role.ADMIN.value, None, now, now)
            return Visitor(session, self._form_token(id_), id_ if is_new else None)
        if not id_:
            return None
        hashed, now = self._hashed(id_), self._clock()
        seen = await self._sessions.seen(hashed, now, is_by_hand=is_by_hand)
        current = self._as_set_now(seen, id_) if seen else None
        return Visitor(current, self._form_token(id_)) if current else None

    def _as_set_now(self, session: Session, id_: str) -> Session | None:
        """The session with the present settings; None where its way to sign in is gone.

        A session from a time when nobody had to sign in has ended, too.
        """
        if not id_.startswith(_BY_TOKEN):
            return session if self.has_oidc and session.who != LOCAL else None
        if self._token is None or session.who != TOKEN:
            return None
        return replace(session, role=self._token.role, tenants=self._token.tenants)

    def is_token(self, token: str) -> bool:
        """True for the console's token, compared in constant time."""
        is_same = hmac.compare_digest(_digest(token), self._token_hash)
        return self._token is not None and is_same

    def by_token(self, authorization: str) -> Visitor | None:
        """The user of a request with the token as `Authorization: Bearer` (RFC 6750)."""
        kind, _, token = authorization.partition(" ")
        if not self.is_token(token.strip()) or kind.lower() != "bearer" or self._token is None:
            return None
        now, settings = self._clock(), self._token
        return Visitor(Session(TOKEN, TOKEN, settings.role, settings.tenants, now, now), "")

    async def sign_in(self, token: str) -> Visitor | None:
        """Begin a session for the right token; None for a wrong one."""
        if not self.is_token(token) or self._token is None:
            return None
        return await self._begin(TOKEN, Role(self._token.role), self._token.tenants, _BY_TOKEN)

    async def sign_out(self, cookies: Mapping[str, str]) -> None:
        """End the session in the store."""
        if id_ := cookies.get(self.cookie):
            await self._sessions.end(self._hashed(id_))

    async def begin(self, name: str, role: Role, tenants: frozenset[str] | None) -> Visitor:
        """Begin a session for a user whom an issuer has identified.

        A user with one of our own names gets a suffix.
        """
        return await self._begin(f"{name}@oidc" if name in (LOCAL, TOKEN) else name, role, tenants)

    async def _begin(
        self, name: str, role: Role, tenants: frozenset[str] | None, prefix: str = "s."
    ) -> Visitor:
        now, id_ = self._clock(), prefix + secrets.token_urlsafe(32)
        await self._sessions.sweep(now)
        session = Session(self._hashed(id_), name, role.value, tenants, now, now)
        await self._sessions.start(session)
        return Visitor(session, self._form_token(id_), id_)

    def _hashed(self, id_: str) -> str:
        bound = self._token_hash if id_.startswith(_BY_TOKEN) else b""
        return hashlib.sha256(id_.encode() + bound).hexdigest()

    def _form_token(self, id_: str) -> str:
        """The form token of an id: it takes the store's secret, and does not reveal the id."""
        return hmac.new(self._sessions.secret, id_.encode(), hashlib.sha256).hexdigest()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class NeedsSignInError(TierlineError):
    """The user is not signed in."""


def visitor_of(request: Request) -> Visitor:
    """The user of a request. Raises NeedsSignInError."""
    visitor: Visitor | None = request.state.visitor
    if visitor is None:
        raise NeedsSignInError
    return visitor


def may(role: Role) -> Callable[[Request], Awaitable[None]]:
    """The dependency of a route that requires this role."""

    async def check(request: Request) -> None:
        visitor = visitor_of(request)
        # A call with the token in a header cannot come from a misled browser.
        has_bearer = getattr(request.state, "has_bearer", False)
        if request.method in _UNSAFE and not has_bearer:
            await check_origin(request, visitor.csrf)
        if not visitor.role.covers(role):
            raise HTTPException(403, f"this requires the role {role}; yours is {visitor.role}")

    return check


async def may_see_all(request: Request) -> None:
    """The dependency of a route that counts the requests of all tenants."""
    if visitor_of(request).tenants is not None:
        raise HTTPException(403, "this counts all tenants' requests, and you may see only some")


def may_see_job(visitor: Visitor, job: Job) -> bool:
    """True for all jobs, or for their own where a user sees only some tenants' cases."""
    return visitor.tenants is None or job.who == visitor.who


def only_ones_own(reviews: ReviewService) -> Callable[[Request], Awaitable[None]]:
    """The dependency of every route: hides other tenants' cases and jobs."""

    async def check(request: Request) -> None:
        visitor: Visitor | None = request.state.visitor
        if visitor is None or visitor.tenants is None:
            return
        if place := request.path_params.get("place"):
            case = await reviews.store.case(place, reviews.clock())
            if case is None or not visitor.sees(case.tenant):
                raise UnknownCaseError(place)
        if job_id := request.path_params.get("job_id"):
            job = await reviews.store.jobs.job(job_id)
            if job is None or not may_see_job(visitor, job):
                raise UnknownCaseError(job_id)

    return check
