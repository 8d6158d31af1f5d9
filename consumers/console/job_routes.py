"""For operators and admins: jobs over many cases, exports, and the audit trail."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, get_args
from urllib.parse import urlencode

import orjson
from fastapi import Depends, Form, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from pydantic import ValidationError

from consumers.console.auth import Role, may, may_see_job, visitor_of
from consumers.console.bulk import Bulk, BulkAction, DryRun
from consumers.console.case_routes import case_json
from consumers.console.exports import exported
from consumers.console.inputs import FILTERS, JobBody, JobForm, filter_of_all
from consumers.console.jobs import Job, JobCase
from consumers.console.pages import Pages, filters_in, redirect
from consumers.console.review_service import ReviewService
from consumers.console.routes import Routes

__all__ = ["add_job_routes"]


class _Progress(NamedTuple):
    """How far a job is."""

    job: Job
    counts: Counter[str]
    outcomes: Sequence[JobCase] = ()


def add_job_routes(routes: Routes, reviews: ReviewService, bulk: Bulk, pages: Pages) -> None:
    """All that is about many cases at once."""
    _add_starts(routes, reviews, bulk, pages)  # before `/jobs/{job_id}`, as which `new` could pass
    _add_jobs(routes, reviews, pages)
    _add_files(routes, reviews, pages)


def _add_starts(routes: Routes, reviews: ReviewService, bulk: Bulk, pages: Pages) -> None:
    operator = [Depends(may(Role.OPERATOR))]

    async def dry_run(request: Request, body: JobBody) -> DryRun:
        wanted = filter_of_all(body.filter, visitor_of(request))
        return await bulk.dry_run(wanted, body.action, body.tier, body.most)

    async def start(request: Request, body: JobBody) -> _Progress:
        """Begin; from here on it goes on by itself."""
        visitor = visitor_of(request)
        wanted = filter_of_all(body.filter, visitor)
        fields = body.model_dump(exclude={"action", "filter", "dry_run"})
        job = await bulk.start(visitor.who, wanted, body.action, **fields)
        return _Progress(job, await reviews.store.jobs.progress(job.job_id))

    @routes.pages.get("/jobs/new", dependencies=operator)
    async def new(request: Request) -> Response:
        """A dry run: what a job would do, with what it would cost."""
        given = dict(request.query_params)
        asked = {name: given.pop(name) for name in JobForm.model_fields if name in given}
        try:
            form = JobForm.model_validate(asked)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from None
        found = await dry_run(request, form.body(given))
        filters = {name: text for name, text in given.items() if name in FILTERS and text}
        return pages.page(
            "job_new.html",
            visitor_of(request),
            form=form,
            found=found,
            seen=orjson.dumps(dict(found.seen)).decode(),
            given=filters,
            query=urlencode(filters),
            actions=get_args(BulkAction),
            tiers=list(reviews.policy.tiers),
        )

    @routes.pages.post("/jobs", dependencies=operator)
    async def start_by_form(request: Request, form: Annotated[JobForm, Form()]) -> Response:
        return _to_job(request, await start(request, form.body(request.query_params)))

    @routes.api.post(
        "/jobs",
        dependencies=operator,
        summary="Decide on many cases, or try it dry",
        name="start",
    )
    async def start_by_body(request: Request, body: JobBody) -> dict[str, Any]:
        if not body.dry_run:
            return _job_json(await start(request, body))
        found = await dry_run(request, body)
        return {
            "cases": found.cases,
            "skipped": dict(found.skipped),
            "cost_micros": found.cost_micros,
            "sample": [case_json(case) for case in found.sample],
            "seen": dict(found.seen),
        }


def _add_jobs(routes: Routes, reviews: ReviewService, pages: Pages) -> None:
    both, jobs = routes.both, reviews.store.jobs

    def jobs_page(request: Request, found: list[_Progress]) -> Response:
        """The newest jobs, and the way to another one."""
        return pages.page("jobs.html", visitor_of(request), jobs=found)

    def jobs_json(found: list[_Progress]) -> list[dict[str, Any]]:
        return [_job_json(progress) for progress in found]

    @both("GET /jobs", Role.OPERATOR, "The newest jobs", jobs_page, jobs_json)
    async def recent(request: Request) -> list[_Progress]:
        visitor, found = visitor_of(request), await jobs.recent()
        seen = [job for job in found if may_see_job(visitor, job)]
        return [_Progress(job, await jobs.progress(job.job_id)) for job in seen]

    def job_page(request: Request, found: _Progress) -> Response:
        is_part = request.headers.get("hx-request") == "true"
        return pages.page(
            "job_progress.html" if is_part else "job.html",
            visitor_of(request),
            job=found.job,
            progress=found.counts,
            total=sum(found.counts.values()),
            outcomes=[case for case in found.outcomes if case.outcome != "waiting"],
        )

    @both("GET /jobs/{job_id}", Role.OPERATOR, "How far a job is", job_page, _outcomes_json)
    async def job(request: Request, job_id: str) -> _Progress:
        """How far a job is, and what became of each case."""
        found = await jobs.job(job_id)
        if found is None:
            raise HTTPException(404, f"there is no job {job_id!r}")
        return _Progress(found, await jobs.progress(job_id), await jobs.outcomes(job_id))

    @both("POST /jobs/{job_id}/cancel", Role.OPERATOR, "Stop a job", _to_job, _outcomes_json)
    async def cancel(request: Request, job_id: str) -> _Progress:
        """Stop a job, if it is under way: what is done stays done."""
        if await jobs.end(job_id, "cancelled", reviews.clock()):
            await reviews.note(visitor_of(request).who, "job", note=f"{job_id}: cancelled")
        return await job(request, job_id)


def _add_files(routes: Routes, reviews: ReviewService, pages: Pages) -> None:
    admin, trail = [Depends(may(Role.ADMIN))], reviews.store.trail

    @routes.both("GET /export.{kind}", Role.OPERATOR, "Cases that fit, as a file")
    async def export(request: Request, kind: Literal["jsonl", "csv"]) -> Response:
        """The cases that the URL's filters fit, as a file; that somebody took it is noted."""
        visitor = visitor_of(request)
        wanted = filter_of_all(dict(request.query_params), visitor)
        filters = {name: text for name, text in filters_in(request).items() if text}
        await reviews.note(visitor.who, "export", note=f"{kind} {urlencode(filters)}"[:500])
        rows = exported(reviews.store, wanted, reviews.clock(), kind)
        media = "text/csv; charset=utf-8" if kind == "csv" else "application/x-ndjson"
        headers = {"content-disposition": f'attachment; filename="cases.{kind}"'}
        return StreamingResponse(rows, 200, headers, media)

    @routes.pages.get("/audit", dependencies=admin)
    async def audit_page(request: Request, who: str = "", what: str = "") -> Response:
        """What people did, and whether the trail is whole."""
        lines = await trail.lines(who=who or None, what=what or None, limit=200)
        wrong, given = await trail.problems(), {"who": who, "what": what}
        return pages.page("audit.html", visitor_of(request), lines=lines, wrong=wrong, given=given)

    @routes.api.get("/audit", dependencies=admin, summary="What people did")
    async def audit(
        who: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> list[dict[str, Any]]:
        lines = await trail.lines(who=who, limit=limit)
        return [line.model_dump(mode="json", exclude_none=True) for line in lines]


def _to_job(_: Request, found: _Progress) -> Response:
    return redirect(f"/jobs/{found.job.job_id}")


def _job_json(found: _Progress) -> dict[str, Any]:
    """A job as lists have it."""
    job = found.job
    return {
        "job_id": job.job_id,
        "action": job.kind,
        "who": job.who,
        "state": job.state,
        "wanted": {name: value for name, value in job.wanted.items() if name != "seen"},
        "progress": dict(found.counts),
    }


def _outcomes_json(found: _Progress) -> dict[str, Any]:
    """A job, and what became of each case."""
    outcomes = [
        {"place": case.place, "outcome": case.outcome, "detail": case.detail}
        for case in found.outcomes
    ]
    return {**_job_json(found), "outcomes": outcomes}
