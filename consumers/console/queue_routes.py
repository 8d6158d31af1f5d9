"""Routes about many cases: the queue with its filters and counts, groups, and the next case."""

from dataclasses import asdict, replace
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Form, Query, Request
from fastapi.responses import Response

from consumers.console.auth import Role, may, visitor_of
from consumers.console.case_page import undoable
from consumers.console.exports import row_of
from consumers.console.inputs import FILTERS, FilterName, KeptFilterBody, filter_of, filter_of_all
from consumers.console.pages import Pages, filters_in, redirect
from consumers.console.queries import CaseFilter, Group
from consumers.console.review_service import ReviewService
from consumers.console.routes import Routes
from consumers.console.tables import Case
from consumers.telemetry.redaction import redact

__all__ = ["add_queue_routes", "case_json"]

_PER_PAGE = 50
_COUNTED = ("task", "reason", "model", "tier", "tenant")


def case_json(case: Case) -> dict[str, Any]:
    """A case as JSON, masked like on the pages."""
    row = {**row_of(case), "version": case.version, "held_until": case.held_until}
    return {**row, "detail": redact(case.detail)}


def add_queue_routes(routes: Routes, reviews: ReviewService, pages: Pages) -> None:
    _add_queue(routes, reviews, pages)
    _add_kept_filters(routes, reviews)
    _add_groups(routes, reviews, pages)
    _add_next(routes, reviews)


def _add_queue(routes: Routes, reviews: ReviewService, pages: Pages) -> None:
    store = reviews.store

    async def counts(request: Request, case_filter: CaseFilter) -> dict[str, Any]:
        """How many cases wait, of those that a user may see."""
        now, visitor = reviews.clock(), visitor_of(request)
        waiting = CaseFilter(tenants=visitor.tenants)
        return {
            "waiting": await store.count(waiting, now),
            "held": await store.count(replace(waiting, held=True), now),
            "mine": await store.count(replace(waiting, assigned_to=visitor.who), now),
            "matching": await store.count(case_filter, now),
            "oldest": await store.oldest(waiting, now),
        }

    @routes.pages.get("/")
    async def home() -> Response:
        return redirect("/cases")

    @routes.pages.get("/cases")
    async def queue(request: Request, after: str | None = None) -> Response:
        now, visitor = reviews.clock(), visitor_of(request)
        case_filter = filter_of(request.query_params, visitor)
        page = await store.cases(case_filter, now, _PER_PAGE + 1, after)
        waiting = CaseFilter(tenants=visitor.tenants, state=case_filter.state)
        filters = {name: text for name, text in filters_in(request).items() if text.strip()}
        return pages.page(
            "queue.html",
            visitor,
            cases=page[:_PER_PAGE],
            more=page[_PER_PAGE - 1].place if len(page) > _PER_PAGE else None,
            counts=await counts(request, case_filter),
            filters=filters,
            chips=[(name, text, _query(filters, {name})) for name, text in filters.items()],
            kept=await store.filters.of(visitor.who),
            options={name: await store.values(name, waiting, now) for name in _COUNTED},
            undo=await undoable(reviews, request),
            query=urlencode(filters),
            now=now,
        )

    @routes.api.get("/counts", summary="How many cases wait")
    async def counted(request: Request) -> dict[str, Any]:
        return await counts(request, _filter(request))

    @routes.api.get("/cases", summary="Matching cases, the most urgent first")
    async def cases(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        after: Annotated[str | None, Query(description="The last place of the page before")] = None,
    ) -> dict[str, Any]:
        case_filter, now = _filter(request, "limit", "after"), reviews.clock()
        page = await store.cases(case_filter, now, limit, after)
        count = await store.count(case_filter, now)
        return {"count": count, "cases": [case_json(case) for case in page]}


def _add_kept_filters(routes: Routes, reviews: ReviewService) -> None:
    kept = reviews.store.filters
    reviewer = [Depends(may(Role.REVIEWER))]

    async def keep(request: Request, name: str) -> dict[str, str]:
        who = visitor_of(request).who
        given = {name: text for name, text in filters_in(request).items() if text.strip()}
        await kept.keep(who, name.strip(), urlencode(given))
        return await kept.of(who)

    @routes.pages.post("/filters", dependencies=reviewer)
    async def by_form(request: Request, name: Annotated[FilterName, Form()]) -> Response:
        await keep(request, name)
        return redirect("/cases", filters_in(request))

    @routes.api.post(
        "/filters", dependencies=reviewer, summary="Keep the filter of this URL", name="keep_filter"
    )
    async def by_body(request: Request, body: KeptFilterBody) -> dict[str, str]:
        _filter(request)
        return await keep(request, body.name)

    @routes.both(
        "POST /filters/{name}/forget",
        Role.REVIEWER,
        "Forget a kept filter",
        lambda _, __: redirect("/cases"),
    )
    async def forget(request: Request, name: str) -> dict[str, str]:
        who = visitor_of(request).who
        await kept.forget(who, name)
        return await kept.of(who)

    @routes.api.get("/filters", summary="The filters that you keep")
    async def own(request: Request) -> dict[str, str]:
        return await kept.of(visitor_of(request).who)


def _add_groups(routes: Routes, reviews: ReviewService, pages: Pages) -> None:
    def groups_page(request: Request, groups: list[Group]) -> Response:
        return pages.page("groups.html", visitor_of(request), groups=groups)

    def groups_json(groups: list[Group]) -> list[dict[str, Any]]:
        return [asdict(group) for group in groups]

    @routes.both("GET /groups", Role.VIEWER, "Groups of similar cases", groups_page, groups_json)
    async def groups(request: Request) -> list[Group]:
        return await reviews.store.groups(_filter(request), reviews.clock())


def _add_next(routes: Routes, reviews: ReviewService) -> None:
    def next_page(request: Request, case: Case | None) -> Response:
        """Redirect to the case's page; after the last case, begin at the front again."""
        query = request.query_params
        names = (*FILTERS, "decided", "go_on")
        kept = {name: text for name, text in query.items() if name in names}
        if case is not None:
            return redirect(f"/cases/{case.place}", kept)
        return redirect("/next" if "after" in query else "/cases", kept)

    def next_json(case: Case | None) -> dict[str, Any]:
        return {"case": case_json(case) if case else None}

    @routes.both(
        "GET /next",
        Role.VIEWER,
        "The most urgent case that is free or held by you",
        next_page,
        next_json,
    )
    async def following(
        request: Request,
        after: Annotated[str | None, Query(description="The place of the previous case")] = None,
    ) -> Case | None:
        who, case_filter = visitor_of(request).who, _filter(request, "after")
        return await reviews.store.next_case(who, case_filter, reviews.clock(), after)

    @routes.both(
        "POST /next",
        Role.REVIEWER,
        "Claim the most urgent case that is free",
        next_page,
        next_json,
        name="claim_next",
    )
    async def claimed(request: Request) -> Case | None:
        return await reviews.claim_next(visitor_of(request).who, _filter(request))


def _query(filters: dict[str, str], without: set[str]) -> str:
    return urlencode({name: text for name, text in filters.items() if name not in without})


def _filter(request: Request, *others: str) -> CaseFilter:
    """The filter in the URL's query, without these other parameters.

    An unknown parameter is an error for programs, and ignored on a page.
    """
    filters = {name: text for name, text in request.query_params.items() if name not in others}
    read = filter_of_all if request.url.path.startswith("/api/") else filter_of
    return read(filters, visitor_of(request))
