"""Requests in a browser and for programs: a search, each one's journey, and its raw records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response

from consumers.console.auth import Role, Visitor, visitor_of
from consumers.console.errors import UnknownRequestError
from consumers.console.pages import Pages
from consumers.console.queries import CaseFilter
from consumers.console.request_page import RequestView, request_json, request_view
from consumers.console.review_service import ReviewService
from consumers.console.routes import Routes
from consumers.console.spans import read_instant, written
from consumers.journeys.gathering import gathered
from consumers.readmodel.model import ReadModel
from consumers.readmodel.queries import Behind
from consumers.readmodel.requests import (
    MOST_BEHIND,
    RequestFilter,
    RequestPage,
    requests,
    tenants_with,
)
from consumers.runtime.offset_lookup import records_at
from router.reports.measures import OUTCOME_COUNTS, QUALITY_GROUPS, By
from schemas.base import EARLIEST, LATEST, Tier, is_identifier
from schemas.codec import dump
from schemas.tenancy import RequestKey

__all__ = ["add_request_routes"]

_PER_PAGE = 50
_FILTERS = ("id", "conversation", "user", "text", "tenant")
#: What is asked of a request's calls: their group, and what became of one of them.
_KINDS: Sequence[By] = QUALITY_GROUPS
_OF_CALLS, _TIMES = frozenset((*_KINDS, "outcome")), ("from", "to")
_ALL = (*_FILTERS, *_KINDS, "outcome", *_TIMES)
_OF_REQUEST = ("appended_at", "task", "plan", "user", "conversation_id", "words")
_MOST = 2000

_Tenant = Annotated[str | None, Query(description="Where several have this id", max_length=_MOST)]


@dataclass(frozen=True, slots=True)
class _Several:
    """Tenants that each have a request of this id."""

    request_id: str
    tenants: list[str]


def add_request_routes(
    routes: Routes, reviews: ReviewService, model: ReadModel, pages: Pages
) -> None:
    """All that is about single requests, answered or not."""
    _add_search(routes, model, pages)
    _add_request(routes, reviews, model, pages)
    _add_record(routes, reviews, model)


def _add_search(routes: Routes, model: ReadModel, pages: Pages) -> None:
    def search_page(request: Request, page: RequestPage) -> Response:
        given = _given(request)
        return pages.page(
            "requests.html",
            visitor_of(request),
            given=given,
            listed=page,
            filters=_FILTERS,
            kinds=_KINDS,
            is_of_calls=not _OF_CALLS.isdisjoint(given),
            most_behind=MOST_BEHIND,
            outcomes=list(OUTCOME_COUNTS),
            tiers=list(Tier),
        )

    def search_json(page: RequestPage) -> dict[str, Any]:
        return {
            "requests": [
                {
                    "request_id": asked.key.id,
                    "tenant": asked.key.tenant,
                    "place": str(asked.place),
                    **{name: getattr(asked, name) for name in _OF_REQUEST},
                }
                for asked in page.requests
            ],
            "after": page.after,
            "searched_since": page.until,
        }

    @routes.both(
        "GET /requests", Role.VIEWER, "Requests, the newest first", search_page, search_json
    )
    async def search(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=500)] = _PER_PAGE,
        after: Annotated[str | None, Query(description="`after` of the page before")] = None,
    ) -> RequestPage:
        wanted = _filter_of(_given(request), visitor_of(request))
        await model.refresh()
        return await model.ask(lambda tables: requests(tables, wanted, limit, after))


def _add_request(routes: Routes, reviews: ReviewService, model: ReadModel, pages: Pages) -> None:
    def journey_page(request: Request, view: RequestView | _Several) -> Response:
        visitor = visitor_of(request)
        if isinstance(view, _Several):
            return pages.page("several.html", visitor, 300, several=view)
        return pages.page(
            "request.html",
            visitor,
            view=view,
            facts=view.facts,
            trace_url=reviews.trace_url,
            may_read=visitor.role.covers(Role.REVIEWER),
        )

    def journey_json(view: RequestView | _Several) -> Any:
        if isinstance(view, _Several):
            words = f"several tenants have a request {view.request_id!r}; name one with tenant="
            return JSONResponse({"error": words, "tenants": view.tenants}, 409)
        return Response(dump(request_json(view)), media_type="application/json")

    @routes.both(
        "GET /requests/{request_id:path}",
        Role.VIEWER,
        "One request with all that became of it",
        journey_page,
        journey_json,
    )
    async def journey(
        request: Request, request_id: str, tenant: _Tenant = None
    ) -> RequestView | _Several:
        await model.refresh()
        seen = visitor_of(request).tenants
        wanted = seen if tenant is None else {tenant} if seen is None else seen & {tenant}
        proves_none = [model.clients.settings.topics.feedback]
        tenants = await model.ask(
            lambda tables: tenants_with(tables, request_id, proves_none, wanted)
        )
        if not tenants:
            raise UnknownRequestError(request_id)
        if len(tenants) > 1:
            return _Several(request_id, tenants)
        key = RequestKey(tenants[0], request_id)
        page = await model.ask(
            lambda tables: requests(tables, RequestFilter(id=key.id, tenant=key.tenant), 1)
        )
        records = await model.records(key)
        places = [written.place for written in records]
        now = reviews.clock()
        wanted_cases = CaseFilter(state=None, request_id=key.id, tenant=key.tenant)
        return request_view(
            await gathered(model.clients, key, places),
            next(iter(page.requests), None),
            records,
            await reviews.store.cases(wanted_cases, now),
            model.clients.settings.topics,
            now,
        )


def _add_record(routes: Routes, reviews: ReviewService, model: ReadModel) -> None:
    @routes.both("GET /records/{record}/raw", Role.REVIEWER, "The bytes of a request's record")
    async def raw(
        request: Request,
        record: str,
        request_id: Annotated[str, Query(max_length=_MOST)],
        tenant: Annotated[str, Query(max_length=_MOST)],
    ) -> Response:
        """A record's value, as it is, as a file; that somebody took it is noted."""
        visitor, key = visitor_of(request), RequestKey(tenant, request_id)
        records = await model.records(key) if visitor.sees(tenant) else []
        places = [written.place for written in records if str(written.place) == record]
        raw_records = await records_at(model.clients, places)
        if not raw_records:
            raise HTTPException(404, f"there is no record {record!r} of this request any more")
        note = f"raw bytes of {record}"
        is_named = is_identifier(key.id) and is_identifier(key.tenant)
        named = {"request_id": key.id, "tenant": key.tenant} if is_named else {}
        await reviews.note(visitor.who, "reveal", note=note, **named)
        headers = {"content-disposition": f'attachment; filename="{places[0]}.bin"'}
        return Response(raw_records[0].value or b"", 200, headers, "application/octet-stream")


def _given(request: Request) -> Mapping[str, str]:
    """The filters of a search in a URL, with instants as a form's fields have them.

    For programs a name that nothing reads is a mistake; on a page it is left out. Raises
    HTTPException with status 422.
    """
    given = {name: text.strip() for name, text in request.query_params.items()}
    unread = [name for name in given if name not in (*_ALL, "limit", "after")]
    if unread and request.url.path.startswith("/api/"):
        raise HTTPException(422, f"{unread[0]}: one of {', '.join(_ALL)} was expected")
    if given.get("outcome", "") not in ("", *OUTCOME_COUNTS):
        raise HTTPException(422, f"outcome: one of {', '.join(OUTCOME_COUNTS)} was expected")
    for name in _TIMES:
        if given.get(name):
            given[name] = written(read_instant(name, given[name]))
    return {name: given[name] for name in _ALL if given.get(name)}


def _filter_of(given: Mapping[str, str], visitor: Visitor) -> RequestFilter:
    """The filter of a search. With conditions on calls, its times are those of the calls."""
    own: dict[str, Any] = {name: given[name] for name in _FILTERS if name in given}
    since, until = (read_instant(name, given[name]) if name in given else None for name in _TIMES)
    if _OF_CALLS.isdisjoint(given):
        return RequestFilter(**own, tenants=visitor.tenants, since=since, until=until)
    group = {kind: given[kind] for kind in _KINDS if kind in given}
    outcome = given.get("outcome", "called")
    behind = Behind(outcome, group, since or EARLIEST, until or LATEST)
    return RequestFilter(**own, tenants=visitor.tenants, behind=behind)
