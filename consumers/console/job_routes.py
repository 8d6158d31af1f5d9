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
from consumers.console.exports import exported
from consumers.console.inputs import FILTERS, JobBody, JobForm, filter_of_all
from consumers.console.jobs import Job, JobCase
from consumers.console.pages import Pages, filters_in, redirect
from consumers.console.queue_routes import case_json
from consumers.console.review_service import ReviewService
from consumers.console.routes import Routes

__all__ = ["add_job_routes"]


class _Progress(NamedTuple):
    """A job, with what became of its cases, by their number and one by one."""

    job: Job
    #: By outcome: how far the job is.
    counts: Counter[str]
    #: By what became of them.
    became: Counter[str]
    outcomes: Sequence[JobCase] = ()


def add_job_routes(routes: Routes, reviews: ReviewService, bulk: Bulk, pages: Pages) -> None:
    _add_starts(routes, reviews, bulk, pages)  # before `/jobs/{job_id}`, which would match `new`
    _add_jobs(routes, reviews, pages)
    _add_files(routes, reviews, pages)


def _add_starts(routes: Routes, reviews: ReviewService, bulk: Bulk, pages: Pages) -> None:
    operator = [Depends(may(Role.OPERATOR))]

    async def dry_run(request: Request, body: JobBody) -> DryRun:
        case_filter = filter_of_all(body.filter, visitor_of(request))
        return await bulk.dry_run(case_filter, body.action, body.tier, body.most)

    async def start(request: Request, body: JobBody) -> _Progress:
        visitor = visitor_of(request)
        case_filter = filter_of_all(body.filter, visitor)
        fields = body.model_dump(exclude={"action", "filter", "dry_run"})
        job = await bulk.start(visitor.who, case_filter, body.action, **fields)
        return await _progress(reviews, job)

    @routes.pages.get("/jobs/new", dependencies=operator)
    async def new(request: Request) -> Response:
        """A dry run: what a job would do and cost."""
        query = dict(request.query_params)
        fields = {name: query.pop(name) for name in JobForm.model_fields if name in query}
        try:
            form = JobForm.model_validate(fields)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from None
        trial = await dry_run(request, form.body(query))
        filters = {name: text for name, text in query.items() if name in FILTERS and text}
        return pages.page(
            "job_new.html",
            visitor_of(request),
            form=form,
            trial=trial,
            seen=orjson.dumps(dict(trial.seen)).decode(),
            filters=filters,
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
        summary="Decide on many cases, or do a dry run",
        name="start",
    )
    async def start_by_body(request: Request, body: JobBody) -> dict[str, Any]:
        if not body.dry_run:
            return _job_json(await start(request, body))
        trial = await dry_run(request, body)
        names = ("cases", "skipped", "cost_micros", "most_cost_micros", "approvals", "seen")
        sample = [case_json(case) for case in trial.sample]
        return {**{name: getattr(trial, name) for name in names}, "sample": sample}


def _add_jobs(routes: Routes, reviews: ReviewService, pages: Pages) -> None:
    both, jobs = routes.both, reviews.store.jobs

    def jobs_page(request: Request, newest: list[_Progress]) -> Response:
        return pages.page("jobs.html", visitor_of(request), jobs=newest)

    def jobs_json(newest: list[_Progress]) -> list[dict[str, Any]]:
        return [_job_json(progress) for progress in newest]

    @both("GET /jobs", Role.OPERATOR, "The newest jobs", jobs_page, jobs_json)
    async def recent(request: Request) -> list[_Progress]:
        visitor, newest = visitor_of(request), await jobs.recent()
        visible = [job for job in newest if may_see_job(visitor, job)]
        return [await _progress(reviews, job) for job in visible]

    def job_page(request: Request, progress: _Progress) -> Response:
        return pages.page(
            "job.html",
            visitor_of(request),
            job=progress.job,
            progress=progress.counts,
            became=progress.became,
            total=sum(progress.counts.values()),
            outcomes=[case for case in progress.outcomes if case.outcome != "waiting"],
        )

    @both("GET /jobs/{job_id}", Role.OPERATOR, "The progress of a job", job_page, _outcomes_json)
    async def job(request: Request, job_id: str) -> _Progress:
        job = await jobs.job(job_id)
        if job is None:
            raise HTTPException(404, f"there is no job {job_id!r}")
        progress = await _progress(reviews, job)
        return progress._replace(outcomes=await jobs.outcomes(job_id))

    @both("POST /jobs/{job_id}/cancel", Role.OPERATOR, "Stop a job", _to_job, _outcomes_json)
    async def cancel(request: Request, job_id: str) -> _Progress:
        """Stop a job if it is running; what is done stays done."""
        if await jobs.end(job_id, "cancelled", reviews.clock()):
            await reviews.note(visitor_of(request).who, "job", note=f"{job_id}: cancelled")
        return await job(request, job_id)


def _add_files(routes: Routes, reviews: ReviewService, pages: Pages) -> None:
    admin, trail = [Depends(may(Role.ADMIN))], reviews.store.trail

    @routes.both("GET /export.{kind}", Role.OPERATOR, "Matching cases, as a file")
    async def export(request: Request, kind: Literal["jsonl", "csv"]) -> Response:
        """The matching cases as a file; the export is noted in the audit trail."""
        visitor = visitor_of(request)
        case_filter = filter_of_all(dict(request.query_params), visitor)
        filters = {name: text for name, text in filters_in(request).items() if text}
        await reviews.note(visitor.who, "export", note=f"{kind} {urlencode(filters)}"[:500])
        rows = exported(reviews.store, case_filter, reviews.clock(), kind)
        media = "text/csv; charset=utf-8" if kind == "csv" else "application/x-ndjson"
        headers = {"content-disposition": f'attachment; filename="cases.{kind}"'}
        return StreamingResponse(rows, 200, headers, media)

    @routes.pages.get("/audit", dependencies=admin)
    async def audit_page(request: Request, who: str = "", what: str = "") -> Response:
        """What people did, and whether the trail is intact."""
        lines = await trail.lines(who=who or None, what=what or None, limit=200)
        problems, filters = await trail.problems(), {"who": who, "what": what}
        visitor = visitor_of(request)
        return pages.page("audit.html", visitor, lines=lines, problems=problems, filters=filters)

    @routes.api.get("/audit", dependencies=admin, summary="What people did")
    async def audit(
        who: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> list[dict[str, Any]]:
        lines = await trail.lines(who=who, limit=limit)
        return [line.model_dump(mode="json", exclude_none=True) for line in lines]


async def _progress(reviews: ReviewService, job: Job) -> _Progress:
    jobs = reviews.store.jobs
    return _Progress(job, await jobs.progress(job.job_id), await jobs.became(job.job_id))


def _to_job(_: Request, progress: _Progress) -> Response:
    return redirect(f"/jobs/{progress.job.job_id}")


def _job_json(progress: _Progress) -> dict[str, Any]:
    """A job as JSON."""
    job = progress.job
    return {
        "job_id": job.job_id,
        "action": job.kind,
        "who": job.who,
        "state": job.state,
        "wanted": {name: value for name, value in job.wanted.items() if name != "seen"},
        "progress": dict(progress.counts),
        "became": dict(progress.became),
    }


def _outcomes_json(progress: _Progress) -> dict[str, Any]:
    """A job as JSON, with the outcome of each case."""
    names = ("place", "outcome", "detail", "became", "later")
    outcomes = [{name: getattr(case, name) for name in names} for case in progress.outcomes]
    return {**_job_json(progress), "outcomes": outcomes}
