"""What a route asks of whoever calls it: a session, a role, and for acts our own page's token."""

import hmac
from collections.abc import Awaitable, Callable

from fastapi import HTTPException, Request

from consumers.console.deciding import Desk
from consumers.console.errors import UnknownCaseError
from consumers.console.jobs import Job
from consumers.console.security import Role, Visitor
from schemas.errors import TierlineError

__all__ = [
    "NeedsSignInError",
    "is_same_origin",
    "may",
    "may_see_all",
    "may_see_job",
    "only_ones_own",
    "visitor_of",
]

_UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
_TOKEN = "csrf"  # noqa: S105  the field's name
_TOKEN_HEADER = "x-csrf-token"  # noqa: S105  the header's name


class NeedsSignInError(TierlineError):
    """Nobody knows who it is."""


def visitor_of(request: Request) -> Visitor:
    """Who calls. Raises NeedsSignInError."""
    visitor: Visitor | None = request.state.visitor
    if visitor is None:
        raise NeedsSignInError
    return visitor


def may(role: Role) -> Callable[[Request], Awaitable[None]]:
    """The dependency of a route that takes this role."""

    async def check(request: Request) -> None:
        visitor = visitor_of(request)
        # Who gives the token with the call is no browser that was led astray.
        is_by_name = getattr(request.state, "is_by_name", False)
        if request.method in _UNSAFE and not is_by_name:
            await _check_act(request, visitor)
        if not visitor.role.covers(role):
            raise HTTPException(403, f"this takes a {role}; you are a {visitor.role}")

    return check


async def may_see_all(request: Request) -> None:
    """The dependency of a route that counts the requests of all tenants."""
    if visitor_of(request).tenants is not None:
        raise HTTPException(403, "this counts all tenants' requests, and you see only some")


def may_see_job(visitor: Visitor, job: Job) -> bool:
    """Who sees only some tenants' cases sees only what they began themselves."""
    return visitor.tenants is None or job.who == visitor.who


def only_ones_own(desk: Desk) -> Callable[[Request], Awaitable[None]]:
    """The dependency of every route: other tenants' cases and jobs do not exist."""

    async def check(request: Request) -> None:
        visitor: Visitor | None = request.state.visitor
        if visitor is None or visitor.tenants is None:
            return
        if place := request.path_params.get("place"):
            case = await desk.store.case(place, desk.clock())
            if case is None or not visitor.sees(case.tenant):
                raise UnknownCaseError(place)
        if job_id := request.path_params.get("job_id"):
            job = await desk.store.jobs.job(job_id)
            if job is None or not may_see_job(visitor, job):
                raise UnknownCaseError(job_id)

    return check


def is_same_origin(request: Request) -> bool:
    """By Origin; where that says nothing, by what the browser says of the site it was sent from.

    Our pages name no referrer, and then browsers send `Origin: null` with our own forms too.
    """
    origin = request.headers.get("origin")
    if origin is not None and origin != "null":
        return origin.partition("://")[2] == request.headers.get("host")
    otherwise = "cross-site" if origin == "null" else "none"
    return request.headers.get("sec-fetch-site", otherwise) in ("same-origin", "none")


async def _check_act(request: Request, visitor: Visitor) -> None:
    """Acts come from our own pages: the browser says from where, the form proves it."""
    if not is_same_origin(request):
        raise HTTPException(403, "this was sent from another site")
    token = request.headers.get(_TOKEN_HEADER)
    if token is None:
        found = (await request.form()).get(_TOKEN)
        token = found if isinstance(found, str) else ""
    if not hmac.compare_digest(token.encode(), visitor.csrf.encode()):
        raise HTTPException(403, "the form's token is missing or old: load the page again")
