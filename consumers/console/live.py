"""Live updates: streams of server-sent events that say which parts of a page have changed.

A stream keeps nothing of its own. What it follows has a mark, made of what the store holds now, and
an event's id consists of the marks that were sent with it. A browser that comes back with its last
id, after a restart or to another console of the store, is told what has changed since, once.
"""

import asyncio
import contextlib
import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import orjson
from fastapi import Header, HTTPException, Query, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from consumers.console.auth import TOKEN, Authenticator, Role, Visitor, may_see_job, visitor_of
from consumers.console.errors import UnknownRequestError
from consumers.console.queries import CaseFilter, standing_of
from consumers.console.review_service import ReviewService
from consumers.console.routes import Routes
from consumers.console.security import Receive, Scope, Send
from consumers.readmodel.database import StoreAwayError
from consumers.readmodel.model import ReadModel
from schemas.errors import TierlineError
from schemas.tenancy import RequestKey

__all__ = ["EVENTS", "Live", "Pace", "add_live"]

EVENTS = "/events"
#: The most things that one stream follows.
_MOST_FOLLOWED = 8
_MARK_LENGTH = 12
_MOST_ID = (_MARK_LENGTH + 1) * _MOST_FOLLOWED
#: Milliseconds until a browser comes back: not all at once after a restart.
_RETRY_MS, _RETRY_SPREAD_MS = 1_000, 2_000


class Pace(NamedTuple):
    """The times of a stream in seconds, and how many streams there may be."""

    look: float = 1.0
    #: Between two comments, which keep proxies from ending the stream; the session is checked then.
    beat: float = 15.0
    life: float = 600.0
    most: int = 96
    most_each: int = 6


@dataclass(frozen=True, slots=True)
class _Kind:
    """Something that pages may follow: `state` differs after each change of it.

    `state` raises what a page of it raises where the visitor may not see it.
    """

    role: Role
    #: How many names come after the kind's, with blanks between.
    names: int
    state: Callable[[Visitor, Sequence[str]], Awaitable[object]]


class Live:
    """The streams of this process, and what they follow."""

    def __init__(
        self,
        authenticator: Authenticator,
        reviews: ReviewService,
        model: ReadModel,
        pace: Pace | None = None,
    ) -> None:
        self.pace = pace or Pace()
        self._authenticator = authenticator
        self._reviews = reviews
        self._model = model
        self._kinds = {
            "cases": _Kind(Role.VIEWER, 0, self._cases),
            "request": _Kind(Role.VIEWER, 2, self._request),
            "job": _Kind(Role.OPERATOR, 1, self._job),
        }
        self._open: Counter[str] = Counter()
        #: Marks with the time until which they count as new.
        self._marks: dict[tuple[object, ...], tuple[float, str]] = {}
        self._turn = asyncio.Lock()

    async def _cases(self, visitor: Visitor, _names: Sequence[str]) -> object:
        now = self._reviews.clock()
        wanted = standing_of(CaseFilter(tenants=visitor.tenants), now)
        return await self._reviews.store.database.read(wanted)

    async def _request(self, visitor: Visitor, names: Sequence[str]) -> object:
        key = RequestKey(*names)
        if not visitor.sees(key.tenant):
            raise UnknownRequestError(key.id)
        wanted = CaseFilter(state=None, request_id=key.id, tenant=key.tenant)
        cases = await self._reviews.store.cases(wanted, self._reviews.clock())
        return await self._model.records(key), [
            (case.place, case.version, case.state) for case in cases
        ]

    async def _job(self, visitor: Visitor, names: Sequence[str]) -> object:
        jobs = self._reviews.store.jobs
        job = await jobs.job(names[0])
        if job is None or not may_see_job(visitor, job):
            raise HTTPException(404, f"there is no job {names[0]!r}")
        return job.state, sorted((await jobs.progress(job.job_id)).items())

    async def mark(self, visitor: Visitor, followed: str) -> str:
        """A text that differs after each change of what is followed; as old as a look at most.

        Raises HTTPException, UnknownRequestError and StoreAwayError.
        """
        name, *names = followed.split(" ")
        kind = self._kinds.get(name)
        if kind is None or len(names) != kind.names:
            words = "follow: `cases`, `job ID` or `request TENANT ID` was expected"
            raise HTTPException(422, words)
        if not visitor.role.covers(kind.role):
            words = f"this requires the role {kind.role}; yours is {visitor.role}"
            raise HTTPException(403, words)
        # People who see the same share one look.
        who = None if visitor.tenants is None else visitor.who
        place = followed, visitor.tenants, who
        async with self._turn:
            now = asyncio.get_running_loop().time()
            self._marks = {key: mark for key, mark in self._marks.items() if mark[0] > now}
            if place not in self._marks:
                state = repr(await kind.state(visitor, names)).encode()
                mark = hashlib.sha256(state).hexdigest()[:_MARK_LENGTH]
                self._marks[place] = now + 0.9 * self.pace.look, mark
            return self._marks[place][1]

    @contextlib.contextmanager
    def place(self, visitor: Visitor) -> Iterator[bool]:
        """One of the places for streams, while the context is open; False where none is free."""
        # Everybody who signs in with the token has the same name.
        person = visitor.session.id_hash if visitor.who == TOKEN else visitor.who
        if self._open.total() >= self.pace.most or self._open[person] >= self.pace.most_each:
            yield False
            return
        self._open[person] += 1
        try:
            yield True
        finally:
            self._open[person] -= 1
            if not self._open[person]:
                del self._open[person]

    async def events(
        self, request: Request, visitor: Visitor, followed: Sequence[str], seen: Sequence[str]
    ) -> AsyncIterator[bytes]:
        """What changes of `followed` after the marks that were `seen`, until the session ends.

        Changes are looked for when the last event has been taken, so a slow reader misses those
        between, and nothing piles up.
        """
        time = asyncio.get_running_loop().time
        end, beat_at = time() + self.pace.life, time() + self.pace.beat
        yield b"retry: %d\n\n" % (_RETRY_MS + secrets.randbelow(_RETRY_SPREAD_MS))
        while time() < end:
            try:
                marks = [await self.mark(visitor, name) for name in followed]
            except StoreAwayError:  # what has changed is told once it is back
                marks = list(seen)
            except (HTTPException, TierlineError):
                return
            if changed := [
                name for name, mark, old in zip(followed, marks, seen, strict=True) if mark != old
            ]:
                seen = marks
                yield b"id: %b\ndata: %b\n\n" % (".".join(marks).encode(), orjson.dumps(changed))
            if time() >= beat_at:
                beat_at = time() + self.pace.beat
                if not await self._is_still(request, visitor):
                    return
                yield b":\n\n"
            await asyncio.sleep(self.pace.look)

    async def _is_still(self, request: Request, visitor: Visitor) -> bool:
        """True while the session lasts, and shows what it showed at the start."""
        try:
            present = await self._authenticator.visitor(request.cookies, is_by_hand=False)
        except StoreAwayError:
            return True
        if present is None:
            return False
        return (present.who, present.role, present.tenants) == (
            visitor.who,
            visitor.role,
            visitor.tenants,
        )


class _Stream(StreamingResponse):
    """A stream that has a place for as long as it lasts."""

    def __init__(self, live: Live, visitor: Visitor, events: AsyncIterator[bytes]) -> None:
        # The header asks nginx and its kind to pass each event on at once.
        super().__init__(events, 200, {"x-accel-buffering": "no"}, "text/event-stream")
        self._live, self._visitor = live, visitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._live.place(self._visitor) as is_free:
            if is_free:
                await super().__call__(scope, receive, send)
                return
        refusal = PlainTextResponse("too many streams are open", 429, {"retry-after": "10"})
        await refusal(scope, receive, send)


def add_live(routes: Routes, live: Live) -> None:
    @routes.pages.get(EVENTS)
    async def events(
        request: Request,
        follow: Annotated[list[str], Query(min_length=1, max_length=_MOST_FOLLOWED)],
        seen: Annotated[str, Query(max_length=_MOST_ID)] = "",
        last_event_id: Annotated[str, Header(max_length=_MOST_ID)] = "",
    ) -> Response:
        """The stream of what a page follows. `seen` is the last id where a page begins anew."""
        visitor = visitor_of(request)
        for name in follow:
            await live.mark(visitor, name)
        marks = (last_event_id or seen).split(".")
        if len(marks) != len(follow):
            marks = [""] * len(follow)
        return _Stream(live, visitor, live.events(request, visitor, follow, marks))
