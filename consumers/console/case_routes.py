"""Routes about single cases, for browsers and programs: their pages, and acts on them."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Form, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError

from consumers.console.auth import Role, may, visitor_of
from consumers.console.case_page import CasePage
from consumers.console.edit_form import Edited, fields_of
from consumers.console.errors import CaseError, ImpossibleError, LeaseLostError, NotSentError
from consumers.console.inputs import (
    MOST_VERSION,
    AssignBody,
    CommentBody,
    DecisionBody,
    DecisionForm,
    filter_of,
)
from consumers.console.pages import Pages, filters_in, redirect
from consumers.console.queue_routes import case_json
from consumers.console.refusals import status_of
from consumers.console.review_service import ReviewService
from consumers.console.routes import Routes
from consumers.console.rows import readable
from consumers.console.showing import TOO_MANY_DIGITS, hidden
from consumers.console.store import Brief, Held
from consumers.console.tables import Case
from consumers.readmodel.model import ReadModel
from consumers.telemetry.redaction import redact
from router.review.decisions import hash_of_answers
from schemas.codec import dump
from schemas.json_numbers import loses_digits

__all__ = ["add_case_routes"]


def add_case_routes(routes: Routes, reviews: ReviewService, model: ReadModel, pages: Pages) -> None:
    case_page = CasePage(reviews, model, pages)
    _add_case(routes, reviews, pages, case_page)
    _add_claims(routes, reviews, pages, case_page)
    _add_talk(routes, reviews)
    _add_decisions(routes, reviews, case_page)


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
        return _back(request, place)

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

    def asked_page(request: Request, _: dict[str, Any]) -> Response:
        query = {**filters_in(request), "brief": "asked"}
        return redirect(f"/cases/{request.path_params['place']}", query)

    @both("POST /cases/{place}/brief", Role.REVIEWER, "Ask for a brief", asked_page)
    async def ask(request: Request, place: str) -> dict[str, Any]:
        await reviews.ask_for_brief(place)
        return {"asked": True}


def _add_claims(routes: Routes, reviews: ReviewService, pages: Pages, case_page: CasePage) -> None:
    both = routes.both

    async def claimed_page(request: Request, claimed: Case | Held) -> Response:
        typed, place = await _typed(request), request.path_params["place"]
        if isinstance(claimed, Held):
            words = f"{claimed.by} holds the case until {claimed.until:%H:%M:%S} UTC"
            return await case_page.of(request, place, status=409, error=words, typed=typed)
        # What somebody had typed before their claim ended is in the form again.
        if "output" in typed:
            return await case_page.redrawn(request, place, typed)
        is_typed = "action" in typed
        return (
            await case_page.of(request, place, typed=typed) if is_typed else _back(request, place)
        )

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

    def back(request: Request, case: Case) -> Response:
        return _back(request, case.place)

    @both("POST /cases/{place}/release", Role.REVIEWER, "Release a case", back, case_json)
    async def release(request: Request, place: str) -> Case:
        await reviews.release(place, visitor_of(request).who)
        return (await reviews.case(place))[0]


def _add_talk(routes: Routes, reviews: ReviewService) -> None:
    """Comments, and whose case it is."""
    reviewer = [Depends(may(Role.REVIEWER))]

    @routes.pages.post("/cases/{place}/comment", dependencies=reviewer)
    async def comment_by_form(
        request: Request, place: str, text: Annotated[str, Form(max_length=2000)] = ""
    ) -> Response:
        if text.strip():
            await reviews.comment(place, visitor_of(request).who, text.strip())
        return _back(request, place)

    @routes.api.post(
        "/cases/{place}/comment",
        dependencies=reviewer,
        summary="Comment on a case",
        name="comment",
    )
    async def comment_by_body(request: Request, place: str, body: CommentBody) -> dict[str, Any]:
        await reviews.comment(place, visitor_of(request).who, body.text.strip())
        return {"commented": True}

    @routes.pages.post("/cases/{place}/assign", dependencies=reviewer)
    async def assign_by_form(
        request: Request, place: str, to: Annotated[str, Form(max_length=200)] = ""
    ) -> Response:
        try:
            body = AssignBody(to=to.strip() or None)
        except ValidationError:
            words = "a name as people sign in with it was expected, without blanks"
            raise ImpossibleError(words) from None
        await reviews.assign(place, visitor_of(request).who, body.to)
        return _back(request, place)

    @routes.api.post(
        "/cases/{place}/assign",
        dependencies=reviewer,
        summary="Make a case somebody's to decide",
        name="assign",
    )
    async def assign_by_body(request: Request, place: str, body: AssignBody) -> dict[str, Any]:
        return case_json(await reviews.assign(place, visitor_of(request).who, body.to))


def _add_decisions(routes: Routes, reviews: ReviewService, case_page: CasePage) -> None:
    both = routes.both

    @routes.pages.post("/cases/{place}/decide", dependencies=[Depends(may(Role.REVIEWER))])
    async def by_form(
        request: Request, place: str, form: Annotated[DecisionForm, Form()]
    ) -> Response:
        """Decide, and go to the next case; an error keeps the form's input."""
        typed, visitor = await _typed(request), visitor_of(request)
        edited: Edited | None = None
        try:
            edited = await case_page.edited(place, form.action, typed)
            fields = form.fields(reviews.clock(), edited.output if edited else None)
            await reviews.decide_on(place, visitor.who, form.version, seen=form.answers, **fields)
        except (CaseError, ImpossibleError, NotSentError) as error:
            problems = error.problems if isinstance(error, ImpossibleError) else []
            return await case_page.of(
                request,
                place,
                status=status_of(error),
                error=str(error),
                problems=edited.located(problems) if edited else problems,
                typed=typed,
            )
        query = {**filters_in(request), "decided": place}
        if not form.go_on:
            return redirect("/next", query)
        following = await reviews.claim_next(visitor.who, filter_of(query, visitor))
        where = f"/cases/{following.place}" if following else "/cases"
        return redirect(where, {**query, "go_on": "yes"})

    @routes.pages.post("/cases/{place}/draft", dependencies=[Depends(may(Role.REVIEWER))])
    async def redraw(request: Request, place: str) -> Response:
        """The page again with an edited answer as a form or as JSON, or with more rows."""
        return await case_page.redrawn(request, place, await _typed(request))

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


def _back(request: Request, place: str) -> Response:
    """Redirect to the case's page."""
    return redirect(f"/cases/{place}", filters_in(request))


async def _typed(request: Request) -> Mapping[str, str]:
    """The fields of a form, those of an edited answer among them."""
    return fields_of(await request.form())
