"""Protection from other sites: headers, the origin of acts, and targets of redirects."""

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
#: A path of ours with its query: no slash after a slash, which could begin a host, no backslash,
#: which browsers read as a slash, and no characters that they remove.
_PART = r"[^/\\?\x00-\x20\x7f-\U0010ffff]+"
_OWN_PATH = re.compile(rf"/(?:{_PART}(?:/{_PART})*/?)?(?:\?[^\\\x00-\x20\x7f-\U0010ffff]*)?")
_MOST_PATH = 2000

#: Headers of every reply. They forbid foreign content, frames and referrers.
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
        return False  # a host name


def own_path(then: str) -> str:
    """The path where it is one of our own, else `/`."""
    return then if len(then) <= _MOST_PATH and _OWN_PATH.fullmatch(then) else "/"


def is_same_origin(request: Request) -> bool:
    """True for a request from our own pages, by `Origin`, else by `Sec-Fetch-Site`.

    Our pages send no referrer, so browsers send `Origin: null` with our own forms, too.
    """
    origin = request.headers.get("origin")
    if origin is not None and origin != "null":
        return origin.partition("://")[2] == request.headers.get("host")
    otherwise = "cross-site" if origin == "null" else "none"
    return request.headers.get("sec-fetch-site", otherwise) in ("same-origin", "none")


async def check_origin(request: Request, form_token: str) -> None:
    """Check that an act comes from our own pages, by its origin and by the form's token.

    Raises HTTPException with status 403.
    """
    if not is_same_origin(request):
        raise HTTPException(403, "this was sent from another site")
    token = request.headers.get(_TOKEN_HEADER)
    if token is None:
        field = (await request.form()).get(_TOKEN)
        token = field if isinstance(field, str) else ""
    if not hmac.compare_digest(token.encode(), form_token.encode()):
        raise HTTPException(403, "the form's token is missing or old; reload the page")


class SecureHeaders:
    """ASGI middleware: sets our headers on every reply, including errors."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def secured(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message.get("headers", ())}
                ours = [
                    (name.encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.encode() not in names
                ]
                message["headers"] = [*message.get("headers", ()), *ours]
            await send(message)

        await self._app(scope, receive, secured)
