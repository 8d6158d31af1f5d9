"""The API: what the pages do, for integrators. Its document is at `/api/openapi.json`.

Sign in as for the pages (and send `x-csrf-token`), or with the console's token as
`Authorization: Bearer` with each call.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from consumers.console.auth import Role, may, may_see_all, may_see_job, visitor_of
from consumers.console.bulk import MOST_CASES, Bulk, BulkAction, PerSecond
from consumers.console.dashboard import Figures
from consumers.console.errors import LeaseLostError, UnknownCaseError
from consumers.console.exports import row_of
from consumers.console.jobs import Job
from consumers.console.pages import MOST_VERSION, filter_of_all, raw_of
from consumers.console.review_service import ImpossibleError, ReviewService, decision_of
from consumers.console.rows import Case, CaseFilter, LetterRecord, readable
from consumers.console.showing import TOO_MANY_DIGITS
from consumers.console.store import Held
from consumers.console.work_pages import cancelled, export_of
from consumers.telemetry.redaction import redact
from router.reports.measures import alarms, names_of, values_of
from router.review.decisions import hash_of_answers
from schemas.base import Instant, JsonObject, Tier
from schemas.codec import dump
from schemas.json_numbers import loses_digits
from schemas.review import Action

__all__ = ["api"]


#: What only these decisions heed: with another one it is a mistake.
_ONLY_WITH: Mapping[str, Sequence[Action]] = {
    "attempt_id": ("approve",),
    "output": ("edit",),
    "tier": ("retry",),
    "deadline": ("retry", "requeue"),
    "is_example": ("approve", "edit"),
}


class _Body(BaseModel):
    """Fields that we do not know are mistakes."""

    model_config = ConfigDict(extra="forbid")


class DecisionBody(_Body):
    """A decision on a case that one holds."""

    action: Action
    #: Send the same one again after an error: it decides once.
    decision_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{8,64}$")] | None = None
    attempt_id: str | None = None
    answers: Annotated[
        str,
        Field(
            max_length=100,
            description="What was seen: the case's `answers`. An approval has to name it; where "
            "the case has other answers by then it is refused with 409.",
        ),
    ] = ""
    output: JsonObject | None = None
    tier: Tier | None = None
    deadline: Instant | None = None
    reason: Annotated[str, Field(max_length=2000)] = ""
    is_example: bool = False
    undo_seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 10.0

    @model_validator(mode="after")
    def _heeds_all(self) -> "DecisionBody":
        for name, actions in _ONLY_WITH.items():
            if getattr(self, name) and self.action not in actions:
                msg = f"{name}: {self.action} takes none, only {' and '.join(actions)} do"
                raise ValueError(msg)
        return self


class JobBody(_Body):
    """One decision on every case that fits."""

    action: BulkAction
    #: As in the URL of the queue: state, task, reason, model, tier, tenant, risk, error, text.
    filter: dict[str, str] = Field(default_factory=dict)
    tier: Tier | None = None
    reason: Annotated[str, Field(max_length=2000)] = ""
    most: Annotated[int, Field(ge=1, le=MOST_CASES)] = 1000
    per_second: PerSecond = 10.0
    dry_run: bool = False
    seen: dict[str, str] = Field(
        default_factory=dict,
        description="What was seen: the dry run's `seen`, by case. An approval has to name it, is "
        "about these cases alone, and leaves alone those that have other answers by then.",
    )

    @model_validator(mode="after")
    def _heeds_all(self) -> "JobBody":
        if self.tier is not None and self.action != "retry":
            msg = f"tier: {self.action} takes none, only retry does"
            raise ValueError(msg)
        return self


def api(reviews: ReviewService, bulk: Bulk, figures: Figures) -> APIRouter:
    """The routes under `/api`."""
    router = APIRouter(prefix="/api", dependencies=[Depends(may(Role.VIEWER))])
    _add_reading(router, reviews)
    _add_acts(router, reviews)
    _add_jobs(router, reviews, bulk)
    _add_files(router, reviews)
    _add_figures(router, figures)
    return router


def _add_reading(router: APIRouter, reviews: ReviewService) -> None:
    store = reviews.store

    @router.get("/cases", summary="Cases that fit, the most urgent first")
    async def cases(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        after: Annotated[str | None, Query(description="The last place of the page before")] = None,
    ) -> dict[str, Any]:
        wanted, now = _wanted(request, "limit", "after"), reviews.clock()
        found = await store.cases(wanted, now, limit, after)
        count = await store.count(wanted, now)
        return {"count": count, "cases": [_told(case) for case in found]}

    @router.get("/groups", summary="Cases that are alike")
    async def groups(request: Request) -> list[dict[str, Any]]:
        wanted = _wanted(request)
        found = await store.groups(wanted, reviews.clock())
        return [
            {
                "reason": group.reason,
                "task": group.task,
                "model": group.model,
                "error": group.error,
                "count": group.count,
                "first": group.first,
                "last": group.last,
                "hours": list(group.hours),
            }
            for group in found
        ]

    @router.get("/next", summary="The most urgent case that is free, or one's own")
    async def following(
        request: Request,
        after: Annotated[str | None, Query(description="The place of the one before")] = None,
    ) -> dict[str, Any]:
        visitor = visitor_of(request)
        wanted = _wanted(request, "after")
        found = await store.next_case(visitor.who, wanted, reviews.clock(), after)
        return {"case": _told(found) if found else None}

    @router.get("/cases/{place}/brief", summary="The case in a few lines, once somebody asked")
    async def brief(place: str) -> dict[str, Any]:
        found = await store.brief(place)
        return {"brief": redact(found.words) if found else None}

    @router.get("/cases/{place}", summary="One case with its dead letter")
    async def case(
        request: Request,
        place: str,
        reveal: Annotated[bool, Query(description="Without masks; takes a reviewer")] = False,
    ) -> Any:
        found, content = await _found(reviews, place)
        if reveal:
            await may(Role.REVIEWER)(request)
            who = visitor_of(request).who
            about = {"request_id": found.request_id, "tenant": found.tenant}
            await reviews.note(who, "reveal", **about, letter=found.letter)
        hide = str if reveal else redact
        plain = (content.value or b"").decode("utf-8", "backslashreplace")
        letter = _hidden(content.letter.model_dump(), hide)
        value = plain if reveal else redact(readable(content.value))
        answers = hash_of_answers(content.letter)
        told = {**_told(found), "letter": letter, "value": value, "answers": answers}
        # As it would be published: another writer of JSON rounds numbers.
        return Response(dump(told), media_type="application/json")

    @router.get("/audit", dependencies=[Depends(may(Role.ADMIN))], summary="What people did")
    async def audit(
        who: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> list[dict[str, Any]]:
        lines = await store.trail.lines(who=who, limit=limit)
        return [line.model_dump(mode="json", exclude_none=True) for line in lines]


def _add_acts(router: APIRouter, reviews: ReviewService) -> None:
    reviewer = Depends(may(Role.REVIEWER))

    @router.post("/cases/{place}/claim", dependencies=[reviewer], summary="Claim a case")
    async def claim(request: Request, place: str) -> Any:
        taken = await reviews.claim(place, visitor_of(request).who)
        if isinstance(taken, Held):
            words = f"{taken.by} holds the case until {taken.until.isoformat()}"
            return JSONResponse({"error": words}, 409)
        return _told(taken)

    @router.post("/cases/{place}/beat", dependencies=[reviewer], summary="Go on holding it")
    async def beat(request: Request, place: str) -> dict[str, Any]:
        return _told(await reviews.renew_lease(place, visitor_of(request).who))

    @router.post("/cases/{place}/release", dependencies=[reviewer], summary="Give it back")
    async def release(request: Request, place: str) -> dict[str, Any]:
        await reviews.release(place, visitor_of(request).who)
        return _told((await _found(reviews, place))[0])

    @router.post("/cases/{place}/decision", dependencies=[reviewer], summary="Decide on it")
    async def decide(
        request: Request,
        place: str,
        body: DecisionBody,
        if_match: Annotated[
            int | None, Header(description="The case's version", ge=0, le=MOST_VERSION)
        ] = None,
    ) -> dict[str, Any]:
        found, content = await _found(reviews, place)
        if found.state == "open" and found.held_by is None:
            raise LeaseLostError(found)
        if body.action == "approve" and not body.answers:
            words = "answers: what was seen was expected, as GET of the case has it"
            raise ImpossibleError(words)
        if body.output is not None and loses_digits(await request.body()):
            raise ImpossibleError(TOO_MANY_DIGITS)
        fields = body.model_dump(exclude={"action", "decision_id", "answers"})
        decision = decision_of(
            found,
            content.letter,
            body.action,
            decision_id=body.decision_id or secrets.token_urlsafe(12),
            **fields,
        )
        version = found.version if if_match is None else if_match
        who = visitor_of(request).who
        return _told(await reviews.decide(who, version, decision, seen=body.answers))

    @router.post("/cases/{place}/brief", dependencies=[reviewer], summary="Ask for a brief")
    async def ask(place: str) -> dict[str, Any]:
        await reviews.ask_for_brief(place)
        return {"asked": True}

    @router.post("/cases/{place}/undo", dependencies=[reviewer], summary="Take a decision back")
    async def undo(request: Request, place: str) -> dict[str, Any]:
        return _told(await reviews.undo(place, visitor_of(request).who))


def _add_jobs(router: APIRouter, reviews: ReviewService, bulk: Bulk) -> None:
    operator, store = Depends(may(Role.OPERATOR)), reviews.store

    @router.post("/jobs", dependencies=[operator], summary="Decide on many cases, or try it dry")
    async def start(request: Request, body: JobBody) -> dict[str, Any]:
        wanted = filter_of_all(body.filter, visitor_of(request))
        if body.dry_run:
            found = await bulk.dry_run(wanted, body.action, body.tier, body.most)
            return {
                "cases": found.cases,
                "skipped": dict(found.skipped),
                "cost_micros": found.cost_micros,
                "sample": [_told(one) for one in found.sample],
                "seen": dict(found.seen),
            }
        job = await bulk.start(
            visitor_of(request).who,
            wanted,
            body.action,
            tier=body.tier,
            reason=body.reason,
            most=body.most,
            per_second=body.per_second,
            seen=body.seen,
        )
        return await _progress(reviews, job)

    @router.get("/jobs", dependencies=[operator], summary="The newest jobs")
    async def recent(request: Request) -> list[dict[str, Any]]:
        visitor, found = visitor_of(request), await store.jobs.recent()
        return [await _progress(reviews, one) for one in found if may_see_job(visitor, one)]

    @router.get("/jobs/{job_id}", dependencies=[operator], summary="How far a job is")
    async def job(job_id: str) -> dict[str, Any]:
        found = await store.jobs.job(job_id)
        if found is None:
            raise UnknownCaseError(job_id)
        outcomes = await store.jobs.outcomes(job_id)
        told = [{"place": o.place, "outcome": o.outcome, "detail": o.detail} for o in outcomes]
        return {**await _progress(reviews, found), "outcomes": told}

    @router.post("/jobs/{job_id}/cancel", dependencies=[operator], summary="Stop a job")
    async def cancel(request: Request, job_id: str) -> dict[str, Any]:
        await cancelled(reviews, request, job_id)
        return await job(job_id)


def _add_files(router: APIRouter, reviews: ReviewService) -> None:
    reviewer, operator = Depends(may(Role.REVIEWER)), Depends(may(Role.OPERATOR))

    @router.get("/cases/{place}/raw", dependencies=[reviewer], summary="The producer's bytes")
    async def raw(request: Request, place: str) -> Response:
        return await raw_of(reviews, request, place)

    @router.get("/export.{kind}", dependencies=[operator], summary="Cases that fit, as a file")
    async def export(request: Request, kind: Literal["jsonl", "csv"]) -> Response:
        return await export_of(reviews, request, kind)


def _add_figures(router: APIRouter, figures: Figures) -> None:
    all_of_it = [Depends(may_see_all)]

    @router.get("/dashboard", dependencies=all_of_it, summary="Spend, latency and quality")
    async def dashboard(span: str = "24h", by: str = "task,tier") -> dict[str, Any]:
        quality, groups, rows, total, since, until = await figures.table(span, by)
        by_tier, _ = quality.table(("task", "tier"), figures.desk.policy, since=since, until=until)
        return {
            "since": since,
            "until": until,
            "rows": [{**names_of(row, groups), **values_of(row)} for row in rows],
            "total": values_of(total),
            "alarms": [one.words for one in alarms(by_tier)],
        }

    @router.get("/dashboard/bill", dependencies=all_of_it, summary="What moved the bill")
    async def bill(span: str = "24h") -> dict[str, Any]:
        (before, now), steps, since, until = await figures.bill(span)
        moved = {one.name: one.micros for one in steps}
        told = {"before_micros": before, "moved_micros": moved, "now_micros": now}
        return {"since": since, "until": until, **told}


def _wanted(request: Request, *others: str) -> CaseFilter:
    """What the URL's query asks for beside these: a name that nothing reads is a mistake."""
    given = {name: text for name, text in request.query_params.items() if name not in others}
    return filter_of_all(given, visitor_of(request))


async def _found(reviews: ReviewService, place: str) -> tuple[Case, LetterRecord]:
    """A case with its dead letter. Raises UnknownCaseError."""
    case, content = (
        await reviews.store.case(place, reviews.clock()),
        await reviews.store.content(place),
    )
    if case is None or content is None:
        raise UnknownCaseError(place)
    return case, content


def _hidden(value: Any, hide: Callable[[str], str]) -> Any:
    """The texts in a value as others may see them."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {hide(name): _hidden(one, hide) for name, one in value.items()}
    return [_hidden(one, hide) for one in value] if isinstance(value, list) else value


def _told(case: Case) -> dict[str, Any]:
    """A case as lists have it, masked as the pages mask it."""
    row = {**row_of(case), "version": case.version, "held_until": case.held_until}
    return {**row, "detail": redact(case.detail)}


async def _progress(reviews: ReviewService, job: Job) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "action": job.kind,
        "who": job.who,
        "state": job.state,
        "wanted": {name: value for name, value in job.wanted.items() if name != "seen"},
        "progress": dict(await reviews.store.jobs.progress(job.job_id)),
    }
