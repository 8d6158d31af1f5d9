"""The pages: a queue, groups, one case on one screen, and what people do there.

Everything that reads works without JavaScript; so do the forms.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel, Field

from consumers.console.auth import Role, Visitor, may, visitor_of
from consumers.console.errors import CaseError, JobRunningError, StaleError, UnknownCaseError
from consumers.console.review_service import (
    ImpossibleError,
    NotSentError,
    ReviewService,
    decision_of,
)
from consumers.console.rows import Case, CaseFilter, stored
from consumers.console.showing import ago, case_view, dollars, read_output
from consumers.console.store import Held
from consumers.telemetry.redaction import redact
from consumers.texts import escaped, plain
from schemas.base import Tier
from schemas.review import Action

__all__ = ["FILTERS", "MOST_VERSION", "Pages", "filter_of", "filter_of_all", "raw_of", "templates"]

_PER_PAGE = 50
#: As many changes of a case as its column counts.
MOST_VERSION = (1 << 31) - 1
#: What a queue can be narrowed by, all of it in the URL.
FILTERS = ("state", "task", "reason", "model", "tier", "tenant", "risk", "error", "text", "held")
#: Filters that have few values.
_CHOICES: Mapping[str, Sequence[str]] = {
    "state": ("open", "decided", "closed", "all"),
    "risk": ("low", "medium", "high"),
    "held": ("yes", "no"),
}
_ACTIONS = get_args(Action)


def templates(clock: Callable[[], datetime]) -> Environment:
    """The pages' templates. Everything they show is escaped, and what cannot be seen is marked."""
    made = Environment(
        loader=PackageLoader("consumers.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_seen,
    )
    made.filters["escaped"] = escaped
    made.filters["dollars"] = dollars
    made.filters["redact"] = redact
    made.filters["ago"] = lambda then: ago(then, clock())
    made.filters["iso"] = lambda then: then.isoformat(timespec="seconds")
    made.globals["Role"] = Role
    return made


def _seen(value: Any) -> Any:
    """A text as it will be published: directions, joiners and controls stand in it as escapes."""
    is_ours = not isinstance(value, str) or isinstance(value, Markup)
    return value if is_ours or (value.isascii() and value.isprintable()) else plain(value)


def filter_of(given: Mapping[str, str], visitor: Visitor) -> CaseFilter:
    """The filter that a URL's query says, within what one may see.

    What it does not know is left out.
    """
    fields: dict[str, Any] = {
        name: stored(given[name].strip()) for name in FILTERS if given.get(name, "").strip()
    }
    for name, choices in _CHOICES.items():
        if fields.get(name) not in (None, *choices):
            del fields[name]
    state = fields.pop("state", "open")
    held = fields.pop("held", None)
    return CaseFilter(
        state=None if state == "all" else state,
        held=None if held is None else held == "yes",
        tenants=visitor.tenants,
        **fields,
    )


def filter_of_all(given: Mapping[str, str], visitor: Visitor) -> CaseFilter:
    """The same, for acts on all cases that fit: none of it may go unheeded.

    Raises HTTPException with status 422.
    """
    for name, value in given.items():
        if name not in FILTERS:
            raise HTTPException(422, f"{name}: one of {', '.join(FILTERS)} was expected")
        choices = _CHOICES.get(name, ())
        if choices and value not in ("", *choices):
            raise HTTPException(422, f"{name}={value}: one of {', '.join(choices)} was expected")
    return filter_of(given, visitor)


class DecisionForm(BaseModel):
    """What the form of a decision sends."""

    action: Action
    #: The case's, when the page was made.
    version: Annotated[int, Field(ge=0, le=MOST_VERSION)]
    #: Made with the page, so that a form sent twice decides once.
    decision_id: Annotated[str, Field(pattern=r"^[\w-]{8,64}$")]
    #: When the page was made, in seconds.
    opened: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    attempt_id: Annotated[str, Field(max_length=300)] = ""
    #: The answers that the page showed, as their hash.
    answers: Annotated[str, Field(max_length=64)] = ""
    output: Annotated[str, Field(max_length=1_000_000)] = ""
    tier: Annotated[str, Field(max_length=20)] = ""
    reason: Annotated[str, Field(max_length=2000)] = ""
    keep: Literal["", "yes"] = ""


class Pages:
    """The routes of the pages."""

    def __init__(self, reviews: ReviewService) -> None:
        self._reviews = reviews
        self._env = templates(reviews.clock)
        #: Until when who may see all of what, by session.
        self._revealed: dict[tuple[str, str], datetime] = {}
        self.router = APIRouter(
            default_response_class=HTMLResponse,
            include_in_schema=False,
            dependencies=[Depends(may(Role.VIEWER))],
        )
        reviewer = Depends(may(Role.REVIEWER))
        add = self.router.add_api_route
        add("/", self._home)
        add("/cases", self._queue)
        add("/groups", self._groups)
        add("/next", self._next)
        add("/cases/{place}", self._case)
        add("/cases/{place}/brief", self._brief)
        add("/cases/{place}/brief", self._ask_brief, methods=["POST"], dependencies=[reviewer])
        add("/cases/{place}/reveal", self._reveal, methods=["POST"], dependencies=[reviewer])
        add("/cases/{place}/raw", self._raw, dependencies=[reviewer])
        for act in (self._claim, self._beat, self._release, self._decide, self._undo):
            path = "/cases/{place}/" + act.__name__.lstrip("_")
            add(path.replace("renew_lease", "beat"), act, methods=["POST"], dependencies=[reviewer])

    def page(
        self, name: str, visitor: Visitor | None, status: int = 200, **shown: Any
    ) -> HTMLResponse:
        """A page by its template."""
        text = self._env.get_template(name).render(visitor=visitor, **shown)
        return HTMLResponse(text, status)

    async def _home(self) -> Response:
        return RedirectResponse("/cases", 303)

    async def _queue(
        self, request: Request, after: Annotated[str | None, Query()] = None
    ) -> Response:
        """The cases that fit, the most urgent first."""
        store, now = self._reviews.store, self._reviews.clock()
        visitor, given = visitor_of(request), dict(request.query_params)
        wanted = filter_of(given, visitor)
        cases = await store.cases(wanted, now, _PER_PAGE + 1, after)
        count = await store.count(wanted, now)
        waiting = CaseFilter(tenants=visitor.tenants)
        return self.page(
            "queue.html",
            visitor,
            cases=cases[:_PER_PAGE],
            more=cases[_PER_PAGE - 1].place if len(cases) > _PER_PAGE else None,
            count=count,
            waiting=await store.count(waiting, now),
            held=await store.count(replace(waiting, held=True), now),
            oldest=await store.oldest(waiting, now),
            given=given,
            options={
                name: await store.values(name, replace(waiting, state=wanted.state), now)
                for name in ("task", "reason", "model", "tier", "tenant")
            },
            query=urlencode({name: text for name, text in given.items() if name in FILTERS}),
            now=now,
        )

    async def _groups(self, request: Request) -> Response:
        """Cases that are alike, probably for one cause."""
        now, given = self._reviews.clock(), dict(request.query_params)
        visitor = visitor_of(request)
        groups = await self._reviews.store.groups(filter_of(given, visitor), now)
        return self.page("groups.html", visitor, groups=groups, given=given, now=now)

    async def _next(self, request: Request, after: str | None = None) -> Response:
        """Go to the most urgent case that is free, after another one."""
        visitor, given = visitor_of(request), dict(request.query_params)
        decided = given.get("decided")
        store, now = self._reviews.store, self._reviews.clock()
        found = await store.next_case(visitor.who, filter_of(given, visitor), now, after)
        kept = {name: text for name, text in given.items() if name in (*FILTERS, "decided")}
        if found is None:
            if after is not None:  # from the front again
                return RedirectResponse(f"/next?{urlencode(kept)}", 303)
            shown = {"decided": decided} if decided else {}
            return RedirectResponse(f"/cases?{urlencode({**kept, **shown})}", 303)
        return RedirectResponse(f"/cases/{found.place}?{urlencode(kept)}", 303)

    async def _case(self, request: Request, place: str) -> Response:
        """One case on one screen."""
        return await self._shown(request, place)

    async def _shown(
        self,
        request: Request,
        place: str,
        *,
        status: int = 200,
        error: str | None = None,
        problems: list[tuple[str, str]] | None = None,
        said: Mapping[str, str] | None = None,
    ) -> Response:
        store, now, visitor = self._reviews.store, self._reviews.clock(), visitor_of(request)
        case, found = await store.case(place, now), await store.content(place)
        if case is None or found is None:
            raise UnknownCaseError(place)
        given = dict(request.query_params)
        hide = str if self._is_revealed(visitor, place, now) else redact
        decided = given.get("decided")
        before = await store.case(decided, now) if decided else None
        return self.page(
            "case.html",
            visitor,
            status,
            view=case_view(case, found, self._reviews.policy, now, hide),
            is_hidden=hide is redact,
            brief=await store.brief(place),
            can_brief=self._reviews.brief_task is not None,
            trace_url=self._reviews.trace_url,
            base=str(request.base_url).rstrip("/"),
            is_asked=given.get("brief") == "asked",
            place=place,
            case=case,
            is_mine=case.held_by == visitor.who,
            may_decide=visitor.role.covers(Role.REVIEWER),
            decision_id=secrets.token_urlsafe(12),
            opened=int(now.timestamp()),
            lines=await store.trail.lines(place=place, limit=20),
            undo=before if before and _may_undo(before, visitor, now) else None,
            error=error,
            problems=problems or [],
            said=said or {},
            actions=_ACTIONS,
            query=urlencode({name: text for name, text in given.items() if name in FILTERS}),
            now=now,
        )

    async def _ask_brief(self, request: Request, place: str) -> Response:
        await self._reviews.ask_for_brief(place)
        return self._back(request, place, brief="asked")

    async def _brief(self, place: str) -> Response:
        """The brief as a part of the case's page, which looks for it until it is there."""
        found = await self._reviews.store.brief(place)
        return self.page("brief.html", None, brief=found, place=place, is_asked=True)

    async def _reveal(self, request: Request, place: str) -> Response:
        """Show what looks like personal data too, for as long as a claim lasts."""
        visitor, now = visitor_of(request), self._reviews.clock()
        case = await self._reviews.store.case(place, now)
        if case is None:
            raise UnknownCaseError(place)
        about = {"request_id": case.request_id, "tenant": case.tenant}
        await self._reviews.note(visitor.who, "reveal", **about, letter=case.letter)
        self._revealed[visitor.session.id_hash, place] = now + self._reviews.lease
        return self._back(request, place)

    def _is_revealed(self, visitor: Visitor, place: str, now: datetime) -> bool:
        gone = [key for key, until in self._revealed.items() if until <= now]
        for key in gone:
            del self._revealed[key]
        return (visitor.session.id_hash, place) in self._revealed

    async def _raw(self, request: Request, place: str) -> Response:
        """The producer's bytes, as they came, as a file."""
        return await raw_of(self._reviews, request, place)

    async def _claim(self, request: Request, place: str) -> Response:
        taken = await self._reviews.claim(place, visitor_of(request).who)
        if isinstance(taken, Held):
            words = f"{taken.by} holds the case until {taken.until:%H:%M:%S} UTC"
            return await self._shown(request, place, status=409, error=words)
        return self._back(request, place)

    async def _beat(self, request: Request, place: str) -> Response:
        """The lease's new end, for the page that keeps it alive, with what it shows."""
        visitor = visitor_of(request)
        case = await self._reviews.renew_lease(place, visitor.who)
        if (shown := (visitor.session.id_hash, place)) in self._revealed:
            self._revealed[shown] = self._reviews.clock() + self._reviews.lease
        return self.page("lease.html", None, case=case)

    async def _release(self, request: Request, place: str) -> Response:
        await self._reviews.release(place, visitor_of(request).who)
        return self._back(request, place)

    async def _undo(self, request: Request, place: str) -> Response:
        await self._reviews.undo(place, visitor_of(request).who)
        return RedirectResponse(f"/cases/{place}", 303)

    async def _decide(
        self, request: Request, place: str, form: Annotated[DecisionForm, Form()]
    ) -> Response:
        """Decide; what was typed is never lost with an error."""
        reviews, visitor, now = self._reviews, visitor_of(request), self._reviews.clock()
        said = form.model_dump(include={"action", "output", "reason", "attempt_id"})
        found, case = await reviews.store.content(place), await reviews.store.case(place, now)
        if found is None or case is None:
            raise UnknownCaseError(place)
        output, words = read_output(form.output) if form.action == "edit" else (None, "")
        if words:
            return await self._shown(request, place, status=422, error=words, said=said)
        decision = decision_of(
            case,
            found.letter,
            form.action,
            decision_id=form.decision_id,
            attempt_id=form.attempt_id or None if form.action == "approve" else None,
            output=output,
            tier=Tier(form.tier) if form.action == "retry" and form.tier in list(Tier) else None,
            reason=form.reason.strip(),
            is_example=bool(form.keep),
            seconds_spent=_spent(form.opened, now),
        )
        try:
            await reviews.decide(visitor.who, form.version, decision, seen=form.answers)
        except ImpossibleError as error:
            return await self._shown(
                request, place, status=422, error=str(error), problems=error.problems, said=said
            )
        except (CaseError, NotSentError) as error:
            status = problem_status(error)
            return await self._shown(request, place, status=status, error=str(error), said=said)
        return self._on(request, place)

    def _back(self, request: Request, place: str, **more: str) -> Response:
        query = {name: text for name, text in request.query_params.items() if name in FILTERS}
        query |= more
        return RedirectResponse(f"/cases/{place}?{urlencode(query)}", 303)

    def _on(self, request: Request, place: str) -> Response:
        """To the next case, with a word about this one and a way back."""
        kept = {name: text for name, text in request.query_params.items() if name in FILTERS}
        return RedirectResponse(f"/next?{urlencode({**kept, 'decided': place})}", 303)


def _may_undo(case: Case, visitor: Visitor, now: datetime) -> bool:
    in_time = case.undo_until is not None and case.undo_until > now
    return case.state == "decided" and case.decided_by == visitor.who and in_time


def _spent(opened: int, now: datetime) -> float | None:
    """Seconds since the page was made, as far as that can be believed."""
    seconds = now.timestamp() - opened
    return round(seconds, 1) if 0 <= seconds <= timedelta(days=1).total_seconds() else None


async def raw_of(reviews: ReviewService, request: Request, place: str) -> Response:
    """A dead letter's bytes as a file; that somebody took it is noted. Raises UnknownCaseError."""
    found = await reviews.store.content(place)
    if found is None:
        raise UnknownCaseError(place)
    await reviews.note(visitor_of(request).who, "reveal", note=f"raw bytes of {place}")
    name = "".join(one for one in place if one.isalnum() or one in ".-")
    headers = {"content-disposition": f'attachment; filename="{name}.bin"'}
    return Response(found.value or b"", 200, headers, "application/octet-stream")


def problem_status(error: Exception) -> int:
    """The HTTP status of an act that is refused."""
    if isinstance(error, UnknownCaseError):
        return 404
    if isinstance(error, StaleError):
        return 412
    return 409 if isinstance(error, (CaseError, JobRunningError)) else 503
