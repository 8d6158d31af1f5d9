"""The first checks of every request: who sends it, and how much they may send.

No body is read before its sender is known. FastAPI reads forms before it checks a route's
dependencies, so these checks are a middleware.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import HTTPException, Request
from fastapi.responses import Response

from consumers.console.attempts import Attempts, too_many_attempts
from consumers.console.auth import Authenticator, NeedsSignInError, Role, Visitor
from consumers.console.live import EVENTS
from consumers.console.security import Receive, Scope, Send, is_loopback
from consumers.readmodel.database import StoreAwayError

__all__ = ["Entrance", "client_of"]

_SIGN_IN = ("/sign-in", "/sign-in/oidc", "/sign-in/oidc/back")
_HOST = re.compile(r"([\w.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?", re.ASCII)
#: The most bytes of a body: a reviewer's form may hold the longest answer, URL-encoded.
_MOST, _MOST_OF_OTHERS = 12 * 1024 * 1024, 64 * 1024


@dataclass(frozen=True, slots=True)
class Entrance:
    """ASGI middleware: admits requests of known users, with a body of limited size."""

    app: Callable[[Scope, Receive, Send], Awaitable[None]]
    authenticator: Authenticator
    attempts: Attempts
    note_failure: Callable[[str, str], Awaitable[None]]
    #: Makes a page, or JSON under `/api`, of a status and words.
    say: Callable[[Request, int, str], Response]
    sign_in_first: Callable[[Request], Response]
    #: Seconds for a body to arrive: a reviewer's, and others'.
    patience: tuple[float, float] = (60.0, 10.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on with its whole body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        request.state.visitor = None
        has_body = _has_body(request)
        try:
            self._check_shape(request)
            await self._find_visitor(request)
            if has_body:
                receive = await self._whole_body(request, receive)
        except HTTPException as error:
            refusal = self.say(request, error.status_code, error.detail)
            refusal.headers.update(error.headers or {})
        except StoreAwayError as error:
            refusal = self.say(request, 503, str(error))
        except NeedsSignInError:
            refusal = self.sign_in_first(request)
        else:
            await self.app(scope, receive, self._with_cookie(request.state.visitor, send))
            return
        if has_body:  # it was not read to its end
            refusal.headers["connection"] = "close"
        await refusal(scope, receive, send)

    def _check_shape(self, request: Request) -> None:
        """Raise HTTPException for malformed requests."""
        if "\0" in request.scope["path"]:  # no database accepts it
            raise HTTPException(404, "there is no such page")
        if b"%00" in request.scope["query_string"]:
            raise HTTPException(400, "the query contains a NUL character")
        host = request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            raise HTTPException(400, "the host name is not valid")
        if not self.authenticator.needs_sign_in and not is_loopback(request.url.hostname or ""):
            # Another site's name may point at this machine (DNS rebinding).
            raise HTTPException(421, "wrong host name")

    async def _find_visitor(self, request: Request) -> None:
        """Find the user. Raises NeedsSignInError, and HTTPException for too many attempts."""
        path = request.scope["path"]
        if path.startswith("/static/"):
            return
        authorization = request.headers.get("authorization") if path.startswith("/api/") else None
        if authorization is None or not self.authenticator.needs_sign_in:
            request.state.visitor = await self.authenticator.visitor(
                request.cookies, is_by_hand=_is_by_hand(request)
            )
        elif (visitor := self.authenticator.by_token(authorization)) is not None:
            # The token is too long to guess, so others' failures need not lock its holder out.
            request.state.visitor, request.state.has_bearer = visitor, True
        elif not self.attempts.begin(client_of(request)):
            raise too_many_attempts()
        else:
            await self.note_failure(client_of(request), "a bearer token")
        if request.state.visitor is None and path not in _SIGN_IN:
            raise NeedsSignInError

    async def _whole_body(self, request: Request, receive: Receive) -> Receive:
        """Read the whole body. Raises HTTPException where it is too long or too slow."""
        visitor: Visitor | None = request.state.visitor
        is_known = visitor is not None and visitor.role.covers(Role.REVIEWER)
        most = _MOST if is_known else _MOST_OF_OTHERS
        patience = self.patience[0] if is_known else self.patience[1]
        too_long = HTTPException(413, f"at most {most} bytes were expected")
        declared = request.headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared[:20]) > most:
            raise too_long
        body = bytearray()
        try:
            async with asyncio.timeout(patience):
                has_more = True
                while has_more:
                    message = await receive()
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_long
                    has_more = message.get("more_body", False)
        except TimeoutError:
            raise HTTPException(408, "the request took too long to arrive") from None
        return _replayed(bytes(body), receive)

    def _with_cookie(self, visitor: Visitor | None, send: Send) -> Send:
        """Set the cookie of a new session."""
        if visitor is None or visitor.cookie is None:
            return send
        carrier = Response()
        carrier.set_cookie(
            self.authenticator.cookie, visitor.cookie, **self.authenticator.cookie_rules
        )
        cookie = (b"set-cookie", carrier.headers["set-cookie"].encode())

        async def sent(message: Scope) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), cookie]
            await send(message)

        return sent


def client_of(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _is_by_hand(request: Request) -> bool:
    """False for what an open page asks for by itself: its stream, and parts of it."""
    asks_itself = "x-live" in request.headers or "hx-request" in request.headers
    return request.scope["path"] != EVENTS and not (asks_itself and request.method == "GET")


def _has_body(request: Request) -> bool:
    length = request.headers.get("content-length", "0")
    return "transfer-encoding" in request.headers or length.strip("0") != ""


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Deliver the body again, then whatever the connection delivers."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def received() -> Scope:
        message = next(messages, None)
        return message if message is not None else await receive()

    return received
