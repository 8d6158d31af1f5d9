"""Who may do what: users, sessions, and what every request and reply has to have."""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from consumers.console.sessions import Session, Sessions

__all__ = [
    "HEADERS",
    "LOCAL",
    "Guard",
    "Role",
    "SecureHeaders",
    "User",
    "UsersError",
    "Visitor",
    "hash_password",
    "is_loopback",
    "is_password",
    "read_users",
]

#: By RFC 7914's advice for signing in: 16 MiB and some 50 ms.
_COST = {"n": 2**14, "r": 8, "p": 1}
_IDLE, _LONGEST = timedelta(minutes=30), timedelta(hours=8)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: Who acts where nobody has to sign in: whoever sits at the machine.
LOCAL = "local"

#: On every reply. Nothing is loaded from elsewhere, framed, or told where a link was.
HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class Role(StrEnum):
    """What somebody may do; each may do what those before it may."""

    #: Look.
    VIEWER = "viewer"
    #: Claim and decide.
    REVIEWER = "reviewer"
    #: Act on many cases at once, and take them out.
    OPERATOR = "operator"
    #: Read the audit trail.
    ADMIN = "admin"

    def covers(self, other: "Role") -> bool:
        """True when this role may do what the other one may."""
        ladder = list(Role)
        return ladder.index(self) >= ladder.index(other)


class UsersError(ValueError):
    """The users file cannot be used; the message says where and what was expected."""


@dataclass(frozen=True, slots=True)
class User:
    """One line of the users file."""

    role: Role
    hashed: str
    #: Whose cases they see; None: all.
    tenants: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody with a session, and the token that forms of that session carry."""

    session: Session
    csrf: str
    #: The session's id for the cookie, where it has just begun.
    cookie: str | None = None

    @property
    def who(self) -> str:
        """Their name."""
        return self.session.who

    @property
    def role(self) -> Role:
        """What they may do."""
        return Role(self.session.role)

    @property
    def tenants(self) -> frozenset[str] | None:
        """Whose cases they see; None: all."""
        return self.session.tenants

    def sees(self, tenant: str) -> bool:
        """True when a tenant's cases are theirs to see."""
        return self.tenants is None or tenant in self.tenants


def hash_password(password: str) -> str:
    """A password as the users file has it: `scrypt$salt$hash`, by RFC 7914."""
    salt = secrets.token_bytes(16)
    made = hashlib.scrypt(password.encode(), salt=salt, **_COST)
    return f"scrypt${base64.b64encode(salt).decode()}${base64.b64encode(made).decode()}"


def is_password(password: str, hashed: str) -> bool:
    """True when it is the password that was hashed."""
    try:
        kind, salt, made = hashed.split("$")
        wanted = base64.b64decode(made, validate=True)
        found = hashlib.scrypt(
            password.encode(), salt=base64.b64decode(salt, validate=True), **_COST
        )
    except ValueError:
        return False
    return kind == "scrypt" and hmac.compare_digest(wanted, found)


def read_users(file: Path) -> Mapping[str, User]:
    """The users of a file: a line each, `name:role:hash` or `name:role:hash:tenant tenant`.

    Raises UsersError and OSError.
    """
    users: dict[str, User] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.strip().partition(":")
        role, _, rest = rest.partition(":")
        hashed, has_tenants, tenants = rest.partition(":")
        where = f"{file}:{number}"
        if not name.isprintable() or " " in name or name in ("", LOCAL, *users):
            msg = f"{where}: a name without blanks was expected, each only once, and not {LOCAL!r}"
            raise UsersError(msg)
        if role not in list(Role):
            msg = f"{where}: role {role!r}: one of {', '.join(Role)} was expected"
            raise UsersError(msg)
        if hashed.count("$") != 2 or not hashed.startswith("scrypt$"):
            msg = f"{where}: a hash was expected; `tierline console-user {name}` makes the line"
            raise UsersError(msg)
        if has_tenants and (role == Role.ADMIN or not tenants.split()):
            msg = f"{where}: tenants with blanks between them were expected; an admin sees all"
            raise UsersError(msg)
        users[name] = User(Role(role), hashed, frozenset(tenants.split()) or None)
    if not users:
        msg = f"{file}: nobody is in it; `tierline console-user NAME` makes a line"
        raise UsersError(msg)
    return users


def is_loopback(host: str) -> bool:
    """True for an address that only this machine can reach."""
    try:
        return host in _LOOPBACK or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name, perhaps one that only begins like an address


class Guard:
    """Sessions by a cookie, their forms by a token.

    A session's id is new at every sign-in and known to the browser alone; the store has its hash.
    """

    def __init__(
        self,
        sessions: Sessions,
        users: Mapping[str, User] | None,
        clock: Callable[[], datetime],
        *,
        is_secure: bool = False,
        has_oidc: bool = False,
    ) -> None:
        self.has_oidc = has_oidc
        #: None: nobody has to sign in, which is for one's own machine alone.
        self.users = users
        self._sessions = sessions
        self._clock = clock
        #: Browsers come by https.
        self.is_secure = is_secure
        #: A host's prefix can only be set over TLS, by the host itself, for all of it.
        self.cookie = "__Host-tierline" if is_secure else "tierline"
        self._known: set[str] = set()
        self._decoy = hash_password(secrets.token_hex())

    @property
    def cookie_rules(self) -> dict[str, Any]:
        """How the cookie is set."""
        return {"httponly": True, "samesite": "strict", "secure": self.is_secure, "path": "/"}

    async def visitor(self, cookies: Mapping[str, str]) -> Visitor | None:
        """Who a request comes from; None where they have to sign in first."""
        if id_ := cookies.get(self.cookie):
            found = await self._sessions.seen(
                _hashed(id_), self._clock(), idle=_IDLE, longest=_LONGEST
            )
            if found is not None and (known := self._as_known(found)) is not None:
                return Visitor(known, _token(id_))
        return await self._begin(LOCAL, Role.ADMIN) if self.users is None else None

    def _as_known(self, session: Session) -> Session | None:
        """With what the users file says now; None for who is in it no more.

        Nor does a session go on that began when nobody had to sign in.
        """
        if self.users is None:
            return session
        user = self.users.get(session.who)
        if user is not None:
            return replace(session, role=user.role.value, tenants=user.tenants)
        return session if self.has_oidc and session.who != LOCAL else None

    async def sign_in(self, name: str, password: str) -> Visitor | None:
        """A session of its own for the right password, None for a wrong one."""
        user = (self.users or {}).get(name)
        # As long as with a name that exists: who has an account is nobody's business.
        hashed = user.hashed if user else self._decoy
        is_right = await asyncio.to_thread(is_password, password, hashed)
        return await self._begin(name, user.role, user.tenants) if user and is_right else None

    async def named(self, authorization: str) -> Visitor | None:
        """Who names themselves with the call itself, by `Authorization: Basic` (RFC 7617).

        A right password is remembered by a hash while this process runs: finding out takes time.
        """
        kind, _, told = authorization.partition(" ")
        try:
            name, _, password = base64.b64decode(told, validate=True).decode().partition(":")
        except ValueError:
            return None
        user, now = (self.users or {}).get(name), self._clock()
        if kind.lower() != "basic" or user is None:
            return None
        told = hashlib.sha256(authorization.encode()).hexdigest()
        if told not in self._known:
            if not await asyncio.to_thread(is_password, password, user.hashed):
                return None
            self._known.add(told)
        return Visitor(Session(told, name, user.role.value, user.tenants, now, now), "")

    async def sign_out(self, cookies: Mapping[str, str]) -> None:
        """End the session, on our side too."""
        if id_ := cookies.get(self.cookie):
            await self._sessions.end(_hashed(id_))

    async def begin(self, name: str, role: Role, tenants: frozenset[str] | None) -> Visitor:
        """A session for somebody whom another has identified.

        Who has a name of the users file there is somebody else.
        """
        if name in (self.users or {}) or name == LOCAL:
            name = f"{name} (oidc)"
        return await self._begin(name, role, tenants)

    async def _begin(self, name: str, role: Role, tenants: frozenset[str] | None = None) -> Visitor:
        now, id_ = self._clock(), secrets.token_urlsafe(32)
        await self._sessions.sweep(now, idle=_IDLE, longest=_LONGEST)
        session = await self._sessions.start(_hashed(id_), name, role.value, now, tenants)
        return Visitor(session, _token(id_), id_)


def _hashed(id_: str) -> str:
    return hashlib.sha256(id_.encode()).hexdigest()


def _token(id_: str) -> str:
    """Only who has the session's id can make its token, and the token does not give the id away."""
    return hmac.new(id_.encode(), b"form", hashlib.sha256).hexdigest()


Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class SecureHeaders:
    """ASGI middleware: our headers on every reply, errors included."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its reply back."""

        async def secured(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message.get("headers", ())}
                ours = [
                    (name.encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.encode() not in given
                ]
                message["headers"] = [*message.get("headers", ()), *ours]
            await send(message)

        await self._app(scope, receive, secured)
