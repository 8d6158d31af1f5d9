"""What keeps other sites out: headers, the origin of acts, and where redirects may lead."""

import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from fastapi import HTTPException, Request

__all__ = [
    "HEADERS",
    "Receive",
    "Scope",
    "SecureHeaders",
    "Send",
    "check_origin",
    "is_loopback",
    "is_same_origin",
    "own_path",
]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TOKEN = "csrf"  # noqa: S105  the field's name
_TOKEN_HEADER = "x-csrf-token"  # noqa: S105  the header's name
#: A path of ours with its query: no slash behind a slash, which could begin a host, no backslash,
#: which browsers take for one, and nothing that they leave out.
_PART = r"[^/\\?\x00-\x20\x7f-\U0010ffff]+"
_OWN_PATH = re.compile(rf"/(?:{_PART}(?:/{_PART})*/?)?(?:\?[^\\\x00-\x20\x7f-\U0010ffff]*)?")
_MOST_PATH = 2000

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


Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


def is_loopback(host: str) -> bool:
    """True for an address that only this machine can reach."""
    try:
        return host in _LOOPBACK or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name, perhaps one that only begins like an address


def own_path(then: str) -> str:
    """A path of our own to go on to, whatever was asked for: `/` for everything else."""
    return then if len(then) <= _MOST_PATH and _OWN_PATH.fullmatch(then) else "/"


def is_same_origin(request: Request) -> bool:
    """By Origin; where that says nothing, by what the browser says of the site it was sent from.

    Our pages name no referrer, and then browsers send `Origin: null` with our own forms too.
    """
    origin = request.headers.get("origin")
    if origin is not None and origin != "null":
        return origin.partition("://")[2] == request.headers.get("host")
    otherwise = "cross-site" if origin == "null" else "none"
    return request.headers.get("sec-fetch-site", otherwise) in ("same-origin", "none")


async def check_origin(request: Request, form_token: str) -> None:
    """An act comes from one of our own pages: the browser says so, the form's token proves it.

    Raises HTTPException with status 403.
    """
    if not is_same_origin(request):
        raise HTTPException(403, "this was sent from another site")
    token = request.headers.get(_TOKEN_HEADER)
    if token is None:
        field = (await request.form()).get(_TOKEN)
        token = field if isinstance(field, str) else ""
    if not hmac.compare_digest(token.encode(), form_token.encode()):
        raise HTTPException(403, "the form's token is missing or old: load the page again")


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
