"""What every request meets first: who comes, whether they may go on, and how much they may send.

Nothing of a body is read before it is known who sends it. FastAPI reads a form before it asks the
route's own conditions, so this is in front of it.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import HTTPException, Request
from fastapi.responses import Response

from consumers.console.attempts import Attempts, too_many_attempts
from consumers.console.auth import Authenticator, NeedsSignInError, Role, Visitor
from consumers.console.security import Receive, Scope, Send, is_loopback
from consumers.readmodel.database import StoreAwayError

__all__ = ["Entrance", "client_of"]

_SIGN_IN = ("/sign-in", "/sign-in/oidc", "/sign-in/oidc/back")
_HOST = re.compile(r"([\w.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?", re.ASCII)
#: Bytes that a form of a decision may take: an answer as long as a record may be, as a URL has it.
_MOST, _MOST_OF_OTHERS = 12 * 1024 * 1024, 64 * 1024

#: A page or a line of JSON for a status and its words, as the path wants it.
Say = Callable[[Request, int, str], Response]
#: What somebody gets who has to sign in first.
SignInFirst = Callable[[Request], Response]


@dataclass(frozen=True, slots=True)
class Entrance:
    """ASGI middleware: lets those in who may come in, with what they may bring."""

    app: Callable[[Scope, Receive, Send], Awaitable[None]]
    authenticator: Authenticator
    attempts: Attempts
    note_failure: Callable[[str, str], Awaitable[None]]
    say: Say
    sign_in_first: SignInFirst
    #: Seconds that a body may take: a reviewer's, and others'.
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
        if has_body:  # it was not read, or not to its end
            refusal.headers["connection"] = "close"
        await refusal(scope, receive, send)

    def _check_shape(self, request: Request) -> None:
        """Raises HTTPException for what nobody of ours would ask."""
        if "\0" in request.scope["path"]:  # no database has a place for it
            raise HTTPException(404, "there is no such page")
        if b"%00" in request.scope["query_string"]:
            raise HTTPException(400, "no text of ours has a NUL in it")
        host = request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            raise HTTPException(400, "the host name is none")
        if not self.authenticator.needs_sign_in and not is_loopback(request.url.hostname or ""):
            # Another site's name that points at this machine must not pass for it.
            raise HTTPException(421, "wrong host name")

    async def _find_visitor(self, request: Request) -> None:
        """Find out who it is. Raises NeedsSignInError, and HTTPException for too many attempts."""
        path = request.scope["path"]
        if path.startswith("/static/"):
            return
        given = request.headers.get("authorization") if path.startswith("/api/") else None
        if given is None or not self.authenticator.needs_sign_in:
            request.state.visitor = await self.authenticator.visitor(request.cookies)
        elif (visitor := self.authenticator.by_token(given)) is not None:
            # Nobody guesses a token of its length, and others' failures lock its holder not out.
            request.state.visitor, request.state.is_by_name = visitor, True
        elif not self.attempts.begin(client_of(request)):
            raise too_many_attempts()
        else:
            await self.note_failure(client_of(request), "a bearer token")
        if request.state.visitor is None and path not in _SIGN_IN:
            raise NeedsSignInError

    async def _whole_body(self, request: Request, receive: Receive) -> Receive:
        """The body, whole. Raises HTTPException where it is too long or too slow."""
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
        """Give whoever has none yet a cookie of their own."""
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


def _has_body(request: Request) -> bool:
    length = request.headers.get("content-length", "0")
    return "transfer-encoding" in request.headers or length.strip("0") != ""


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever the connection says."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def received() -> Scope:
        message = next(messages, None)
        return message if message is not None else await receive()

    return received
