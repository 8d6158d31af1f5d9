"""Routes about cases, for browsers and programs: the queue, groups, cases, and acts on them."""

from dataclasses import asdict, replace
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Form, Header, Query, Request
from fastapi.responses import JSONResponse, Response

from consumers.console.auth import Role, may, visitor_of
from consumers.console.case_page import CasePage
from consumers.console.errors import CaseError, ImpossibleError, LeaseLostError, NotSentError
from consumers.console.exports import row_of
from consumers.console.inputs import (
    FILTERS,
    MOST_VERSION,
    DecisionBody,
    DecisionForm,
    filter_of,
    filter_of_all,
)
from consumers.console.pages import Pages, filters_in, redirect
from consumers.console.queries import CaseFilter, Group
from consumers.console.review_service import ReviewService
from consumers.console.routes import Routes
from consumers.console.rows import readable
from consumers.console.showing import TOO_MANY_DIGITS, hidden
from consumers.console.store import Brief, Held
from consumers.console.tables import Case
from consumers.telemetry.redaction import redact
from router.review.decisions import hash_of_answers
from schemas.codec import dump
from schemas.json_numbers import loses_digits

__all__ = ["add_case_routes", "case_json"]

_PER_PAGE = 50


def add_case_routes(routes: Routes, reviews: ReviewService, pages: Pages) -> None:
    case_page = CasePage(reviews, pages)
    _add_queue(routes, reviews, pages)
    _add_case(routes, reviews, pages, case_page)
    _add_claims(routes, reviews, pages, case_page)
    _add_decisions(routes, reviews, case_page)


def case_json(case: Case) -> dict[str, Any]:
    """A case as JSON, masked like on the pages."""
    row = {**row_of(case), "version": case.version, "held_until": case.held_until}
    return {**row, "detail": redact(case.detail)}


def _add_queue(routes: Routes, reviews: ReviewService, pages: Pages) -> None:
    both, store = routes.both, reviews.store

    @routes.pages.get("/")
    async def home() -> Response:
        return redirect("/cases")

    @routes.pages.get("/cases")
    async def queue(request: Request, after: str | None = None) -> Response:
        now, visitor, filters = reviews.clock(), visitor_of(request), dict(request.query_params)
        case_filter = filter_of(filters, visitor)
        page = await store.cases(case_filter, now, _PER_PAGE + 1, after)
        waiting = CaseFilter(tenants=visitor.tenants)
        return pages.page(
            "queue.html",
            visitor,
            cases=page[:_PER_PAGE],
            more=page[_PER_PAGE - 1].place if len(page) > _PER_PAGE else None,
            count=await store.count(case_filter, now),
            waiting=await store.count(waiting, now),
            held=await store.count(replace(waiting, held=True), now),
            oldest=await store.oldest(waiting, now),
            filters=filters,
            options={
                name: await store.values(name, replace(waiting, state=case_filter.state), now)
                for name in ("task", "reason", "model", "tier", "tenant")
            },
            query=urlencode(filters_in(request)),
            now=now,
        )

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

    def groups_page(request: Request, groups: list[Group]) -> Response:
        return pages.page("groups.html", visitor_of(request), groups=groups)

    def groups_json(groups: list[Group]) -> list[dict[str, Any]]:
        return [asdict(group) for group in groups]

    @both("GET /groups", Role.VIEWER, "Groups of similar cases", groups_page, groups_json)
    async def groups(request: Request) -> list[Group]:
        return await store.groups(_filter(request), reviews.clock())

    def next_page(request: Request, case: Case | None) -> Response:
        """Redirect to the case's page; after the last case, begin at the front again."""
        query = request.query_params
        kept = {name: text for name, text in query.items() if name in (*FILTERS, "decided")}
        if case is not None:
            return redirect(f"/cases/{case.place}", kept)
        return redirect("/next" if "after" in query else "/cases", kept)

    def next_json(case: Case | None) -> dict[str, Any]:
        return {"case": case_json(case) if case else None}

    @both(
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
        return await store.next_case(who, case_filter, reviews.clock(), after)


def _add_case(routes: Routes, reviews: ReviewService, pages: Pages, case_page: CasePage) -> None:
    both = routes.both

    @routes.pages.get("/cases/{place}")
    async def page(request: Request, place: str) -> Response:
        return await case_page.of(request, place)

    @routes.api.get("/cases/{place}", summary="One case with its dead letter")
    async def case(
        request: Request,
        place: str,
        reveal: Annotated[bool, Query(description="Without masks; requires a reviewer")] = False,
    ) -> Any:
        case, record = await reviews.case(place)
        if reveal:
            await may(Role.REVIEWER)(request)
            await reviews.note_reveal(visitor_of(request).who, case)
        hide = str if reveal else redact
        plain = (record.value or b"").decode("utf-8", "backslashreplace")
        fields = {
            **case_json(case),
            "letter": hidden(record.letter.model_dump(), hide),
            "value": plain if reveal else redact(readable(record.value)),
            "answers": hash_of_answers(record.letter),
        }
        # With the digits that would be published: FastAPI's encoder rounds numbers.
        return Response(dump(fields), media_type="application/json")

    @both("GET /cases/{place}/raw", Role.REVIEWER, "The producer's bytes")
    async def raw(request: Request, place: str) -> Response:
        """The producer's bytes as a file; the download is noted in the audit trail."""
        _, record = await reviews.case(place)
        await reviews.note(visitor_of(request).who, "reveal", note=f"raw bytes of {place}")
        name = "".join(letter for letter in place if letter.isalnum() or letter in ".-")
        headers = {"content-disposition": f'attachment; filename="{name}.bin"'}
        return Response(record.value or b"", 200, headers, "application/octet-stream")

    @routes.pages.post("/cases/{place}/reveal", dependencies=[Depends(may(Role.REVIEWER))])
    async def reveal(request: Request, place: str) -> Response:
        """Show the case unmasked, for as long as a claim lasts."""
        visitor = visitor_of(request)
        case, _ = await reviews.case(place)
        await reviews.note_reveal(visitor.who, case)
        case_page.reveal(visitor, place)
        return _back(request, case)

    def brief_page(request: Request, brief: Brief | None) -> Response:
        """The brief as a part of the case's page, which polls until it is there."""
        place = request.path_params["place"]
        return pages.page("brief.html", None, brief=brief, place=place, is_asked=True)

    def brief_json(brief: Brief | None) -> dict[str, Any]:
        return {"brief": redact(brief.words) if brief else None}

    @both(
        "GET /cases/{place}/brief",
        Role.VIEWER,
        "The brief of a case, once somebody asked for it",
        brief_page,
        brief_json,
    )
    async def brief(request: Request, place: str) -> Brief | None:
        return await reviews.store.brief(place)

    def asked_page(request: Request, _: None) -> Response:
        query = {**filters_in(request), "brief": "asked"}
        return redirect(f"/cases/{request.path_params['place']}", query)

    def asked_json(_: None) -> dict[str, Any]:
        return {"asked": True}

    @both("POST /cases/{place}/brief", Role.REVIEWER, "Ask for a brief", asked_page, asked_json)
    async def ask(request: Request, place: str) -> None:
        await reviews.ask_for_brief(place)


def _add_claims(routes: Routes, reviews: ReviewService, pages: Pages, case_page: CasePage) -> None:
    both = routes.both

    async def claimed_page(request: Request, claimed: Case | Held) -> Response:
        if isinstance(claimed, Case):
            return _back(request, claimed)
        words = f"{claimed.by} holds the case until {claimed.until:%H:%M:%S} UTC"
        return await case_page.of(request, request.path_params["place"], status=409, error=words)

    def claimed_json(claimed: Case | Held) -> Any:
        if isinstance(claimed, Case):
            return case_json(claimed)
        words = f"{claimed.by} holds the case until {claimed.until.isoformat()}"
        return JSONResponse({"error": words}, 409)

    @both("POST /cases/{place}/claim", Role.REVIEWER, "Claim a case", claimed_page, claimed_json)
    async def claim(request: Request, place: str) -> Case | Held:
        return await reviews.claim(place, visitor_of(request).who)

    def lease_page(_: Request, case: Case) -> Response:
        """The lease's new end, for the page that renews it."""
        return pages.page("lease.html", None, case=case)

    @both(
        "POST /cases/{place}/beat",
        Role.REVIEWER,
        "Renew the lease of a case",
        lease_page,
        case_json,
        name="beat",
    )
    async def renew_lease(request: Request, place: str) -> Case:
        """Renew the lease of a case, and keep it unmasked if it is."""
        visitor = visitor_of(request)
        case = await reviews.renew_lease(place, visitor.who)
        case_page.go_on_revealing(visitor, place)
        return case

    @both("POST /cases/{place}/release", Role.REVIEWER, "Release a case", _back, case_json)
    async def release(request: Request, place: str) -> Case:
        await reviews.release(place, visitor_of(request).who)
        return (await reviews.case(place))[0]


def _add_decisions(routes: Routes, reviews: ReviewService, case_page: CasePage) -> None:
    both = routes.both

    @routes.pages.post("/cases/{place}/decide", dependencies=[Depends(may(Role.REVIEWER))])
    async def by_form(
        request: Request, place: str, form: Annotated[DecisionForm, Form()]
    ) -> Response:
        """Decide, and go to the next case; an error keeps the form's input."""
        try:
            fields, who = form.fields(reviews.clock()), visitor_of(request).who
            await reviews.decide_on(place, who, form.version, seen=form.answers, **fields)
        except (CaseError, ImpossibleError, NotSentError) as error:
            typed = form.model_dump(include={"action", "output", "reason", "attempt_id"})
            return await case_page.after(request, place, error, typed)
        return redirect("/next", {**filters_in(request), "decided": place})

    @routes.api.post(
        "/cases/{place}/decision",
        dependencies=[Depends(may(Role.REVIEWER))],
        summary="Decide on a case",
        name="decide",
    )
    async def by_body(
        request: Request,
        place: str,
        body: DecisionBody,
        if_match: Annotated[
            int | None, Header(description="The case's version", ge=0, le=MOST_VERSION)
        ] = None,
    ) -> dict[str, Any]:
        case, _ = await reviews.case(place)
        if case.state == "open" and case.held_by is None:
            raise LeaseLostError(case)
        if body.action == "approve" and not body.answers:
            words = "answers: the value from GET of the case was expected"
            raise ImpossibleError(words)
        if body.output is not None and loses_digits(await request.body()):
            raise ImpossibleError(TOO_MANY_DIGITS)
        fields, who = body.model_dump(exclude={"answers"}), visitor_of(request).who
        decided = await reviews.decide_on(place, who, if_match, seen=body.answers, **fields)
        return case_json(decided)

    def undone_page(_: Request, case: Case) -> Response:
        return redirect(f"/cases/{case.place}")

    @both("POST /cases/{place}/undo", Role.REVIEWER, "Take a decision back", undone_page, case_json)
    async def undo(request: Request, place: str) -> Case:
        return await reviews.undo(place, visitor_of(request).who)


def _filter(request: Request, *others: str) -> CaseFilter:
    """The filter in the URL's query, without these other parameters.

    An unknown parameter is an error for programs, and ignored on a page.
    """
    filters = {name: text for name, text in request.query_params.items() if name not in others}
    read = filter_of_all if request.url.path.startswith("/api/") else filter_of
    return read(filters, visitor_of(request))


def _back(request: Request, case: Case) -> Response:
    """Redirect to the case's page."""
    return redirect(f"/cases/{case.place}", filters_in(request))
