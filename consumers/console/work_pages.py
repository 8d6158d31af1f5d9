"""Pages for operators and admins: jobs over many cases, exports, and the audit trail."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from pydantic import BaseModel, Field, Json, ValidationError

from consumers.console.auth import Role, may, may_see_job, visitor_of
from consumers.console.bulk import MOST_CASES, Bulk, BulkAction, PerSecond
from consumers.console.exports import exported
from consumers.console.pages import FILTERS, Pages, filter_of_all
from consumers.console.review_service import ReviewService
from schemas.base import Tier

__all__ = ["cancelled", "export_of", "work_pages"]

_ACTIONS: tuple[str, ...] = get_args(BulkAction)


class JobForm(BaseModel):
    """What the form of a job sends."""

    action: BulkAction = "requeue"
    tier: Annotated[str, Field(max_length=20)] = ""
    reason: Annotated[str, Field(max_length=2000)] = ""
    most: Annotated[int, Field(ge=1, le=MOST_CASES)] = 1000
    per_second: PerSecond = 10.0
    #: The answers of the dry run, as JSON: a hash by case.
    seen: Json[dict[str, str]] = Field(default_factory=dict)

    @property
    def wanted_tier(self) -> Tier | None:
        """The tier of a retry."""
        return Tier(self.tier) if self.action == "retry" and self.tier in list(Tier) else None


def work_pages(reviews: ReviewService, bulk: Bulk, pages: Pages) -> APIRouter:
    """The routes."""
    router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
    operator, admin = [Depends(may(Role.OPERATOR))], [Depends(may(Role.ADMIN))]
    jobs = reviews.store.jobs

    @router.get("/jobs", dependencies=operator)
    async def recent(request: Request) -> Response:
        """The newest jobs, and the form for another one."""
        visitor = visitor_of(request)
        found = [job for job in await jobs.recent() if may_see_job(visitor, job)]
        progress = {job.job_id: await jobs.progress(job.job_id) for job in found}
        return pages.page("jobs.html", visitor, jobs=found, progress=progress)

    @router.get("/jobs/new", dependencies=operator)
    async def dry(request: Request) -> Response:
        """A dry run: what a job would do, with what it would cost."""
        visitor, given = visitor_of(request), dict(request.query_params)
        asked = {name: given.pop(name) for name in JobForm.model_fields if name in given}
        try:
            form = JobForm.model_validate(asked)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from None
        wanted = filter_of_all(given, visitor)
        found = await bulk.dry_run(wanted, form.action, form.wanted_tier, form.most)
        return pages.page(
            "job_new.html",
            visitor,
            form=form,
            found=found,
            seen=orjson.dumps(dict(found.seen)).decode(),
            given=_filters(given),
            query=urlencode(_filters(given)),
            actions=_ACTIONS,
            tiers=list(reviews.policy.tiers),
        )

    @router.post("/jobs", dependencies=operator)
    async def start(request: Request, form: Annotated[JobForm, Form()]) -> Response:
        """Begin; from here on it goes on by itself."""
        job = await bulk.start(
            visitor_of(request).who,
            filter_of_all(dict(request.query_params), visitor_of(request)),
            form.action,
            tier=form.wanted_tier,
            reason=form.reason,
            most=form.most,
            per_second=form.per_second,
            seen=form.seen,
        )
        return RedirectResponse(f"/jobs/{job.job_id}", 303)

    @router.get("/jobs/{job_id}", dependencies=operator)
    async def one(request: Request, job_id: str) -> Response:
        """How far a job is, and what became of each case."""
        job = await jobs.job(job_id)
        if job is None:
            raise HTTPException(404, f"there is no job {job_id!r}")
        progress, outcomes = await jobs.progress(job_id), await jobs.outcomes(job_id)
        part = request.headers.get("hx-request") == "true"
        return pages.page(
            "job_progress.html" if part else "job.html",
            visitor_of(request),
            job=job,
            progress=progress,
            total=sum(progress.values()),
            outcomes=[one for one in outcomes if one.outcome != "waiting"],
        )

    @router.post("/jobs/{job_id}/cancel", dependencies=operator)
    async def cancel(request: Request, job_id: str) -> Response:
        """Stop: what is done stays done."""
        await cancelled(reviews, request, job_id)
        return RedirectResponse(f"/jobs/{job_id}", 303)

    @router.get("/export.{kind}", dependencies=operator)
    async def export(request: Request, kind: Literal["jsonl", "csv"]) -> Response:
        """The cases that fit, as a file."""
        return await export_of(reviews, request, kind)

    @router.get("/audit", dependencies=admin)
    async def audit(request: Request, who: str = "", what: str = "") -> Response:
        """What people did, and whether the trail is whole."""
        trail = reviews.store.trail
        lines = await trail.lines(who=who or None, what=what or None, limit=200)
        wrong = await trail.problems()
        given = {"who": who, "what": what}
        return pages.page("audit.html", visitor_of(request), lines=lines, wrong=wrong, given=given)

    return router


async def export_of(
    reviews: ReviewService, request: Request, kind: Literal["jsonl", "csv"]
) -> Response:
    """The cases that the URL's filters fit, as a file; that somebody took it is noted."""
    visitor, given = visitor_of(request), _filters(dict(request.query_params))
    wanted = filter_of_all(dict(request.query_params), visitor)
    await reviews.note(visitor.who, "export", note=f"{kind} {urlencode(given)}"[:500])
    rows = exported(reviews.store, wanted, reviews.clock(), kind)
    media = "text/csv; charset=utf-8" if kind == "csv" else "application/x-ndjson"
    headers = {"content-disposition": f'attachment; filename="cases.{kind}"'}
    return StreamingResponse(rows, 200, headers, media)


def _filters(given: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(text) for name, text in given.items() if name in FILTERS and text}


async def cancelled(reviews: ReviewService, request: Request, job_id: str) -> None:
    """Stop a job, if it was under way, and note who did."""
    if await reviews.store.jobs.end(job_id, "cancelled", reviews.clock()):
        await reviews.note(visitor_of(request).who, "job", note=f"{job_id}: cancelled")
