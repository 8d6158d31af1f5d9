"""The page of a case: everything on one screen, with what looks like personal data hidden."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response

from consumers.console.auth import Role, Visitor, visitor_of
from consumers.console.edit_form import Edited, controls_of, draft_of, edited_answer, is_form
from consumers.console.errors import ImpossibleError
from consumers.console.pages import Pages, filters_in
from consumers.console.review_service import ReviewService
from consumers.console.rows import Case, request_of
from consumers.console.showing import CaseView, Shown, case_view, contract_of, pretty, read_output
from consumers.journeys.gathering import gathered
from consumers.journeys.journey import Journey
from consumers.journeys.moments import feedback_moment
from consumers.readmodel.database import StoreAwayError
from consumers.readmodel.following import IncompleteError, OtherTopicsError
from consumers.readmodel.model import ReadModel
from consumers.runtime.connection import KafkaUnreachableError
from consumers.telemetry.redaction import redact
from consumers.texts import escaped
from schemas.result import Result
from schemas.tenancy import RequestKey

__all__ = ["CasePage", "undoable"]

_Problems = Sequence[tuple[str, str]]
#: Seconds that the page of a case waits for what became of it.
_PATIENCE = 3.0
_AWAY = (KafkaUnreachableError, StoreAwayError, IncompleteError, OtherTopicsError, TimeoutError)


class CasePage:
    """The page of a case; remembers which sessions may see a case unmasked, and until when."""

    def __init__(self, reviews: ReviewService, model: ReadModel, pages: Pages) -> None:
        self._reviews = reviews
        self._model = model
        self._pages = pages
        #: Until when a case is unmasked, by session and place.
        self._revealed: dict[tuple[str, str], datetime] = {}

    async def of(
        self,
        request: Request,
        place: str,
        *,
        status: int = 200,
        error: str | None = None,
        problems: _Problems = (),
        typed: Mapping[str, str] | None = None,
    ) -> Response:
        """The page, with an error and the form's input. Raises UnknownCaseError."""
        reviews, visitor, now = self._reviews, visitor_of(request), self._reviews.clock()
        case, record = await reviews.case(place)
        query, typed = request.query_params, typed or {}
        hide = str if self._is_revealed(visitor, place, now) else redact
        view = case_view(case, record, await reviews.policy_of(record), now, hide)
        is_over = case.state != "open"
        trail = reviews.store.trail
        return self._pages.page(
            "case.html",
            visitor,
            status,
            view=view,
            hide=hide,
            is_hidden=hide is redact,
            brief=await reviews.store.brief(place),
            can_brief=reviews.brief_task is not None,
            trace_url=reviews.trace_url,
            base=str(request.base_url).rstrip("/"),
            is_asked=query.get("brief") == "asked",
            place=place,
            case=case,
            is_mine=case.held_by == visitor.who,
            may_decide=visitor.role.covers(Role.REVIEWER),
            decision_id=secrets.token_urlsafe(12),
            opened=int(now.timestamp()),
            lines=await trail.lines(place=place, limit=50),
            comments=(await trail.lines(place=place, what="comment", limit=100))[::-1],
            aftermath=await _aftermath_of(self._model, case, hide) if is_over else None,
            undo=await undoable(reviews, request),
            editing=_editing(view, hide, typed, problems),
            goes_on="yes" in (query.get("go_on"), typed.get("go_on")),
            error=error,
            problems=problems,
            typed=typed,
            query=urlencode(filters_in(request)),
            now=now,
        )

    async def edited(self, place: str, action: str, typed: Mapping[str, str]) -> Edited | None:
        """The answer of a form that edits one; None for other decisions.

        Raises ImpossibleError, also where no decision was chosen, and UnknownCaseError.
        """
        if not action:
            words = "choose a decision: approve, edit, retry, requeue, reject or discard"
            raise ImpossibleError(words)
        if action != "edit":
            return None
        edited = await self._read(place, typed)
        if edited.problems:
            words = "the answer does not have the task's format"
            raise ImpossibleError(words, list(edited.problems))
        return edited

    async def redrawn(self, request: Request, place: str, typed: Mapping[str, str]) -> Response:
        """The page with an edited answer as a form, as JSON, or with more rows in a list."""
        fields, error = {**typed, "action": "edit"}, None
        if typed.get("view") == "json":
            fields = {name: text for name, text in fields.items() if not is_form({name: text})}
            fields["output"] = pretty((await self._read(place, typed)).output)
        elif typed.get("view") == "form":
            output, error = read_output(typed.get("output", ""))
            if output is not None:
                fields["base"] = pretty(output)
                del fields["output"]
        status = 422 if error else 200
        return await self.of(request, place, status=status, error=error or None, typed=fields)

    def reveal(self, visitor: Visitor, place: str) -> None:
        """Unmask a case for a session, for as long as a claim lasts."""
        until = self._reviews.clock() + self._reviews.lease
        self._revealed[visitor.session.id_hash, place] = until

    def go_on_revealing(self, visitor: Visitor, place: str) -> None:
        """Keep an unmasked case unmasked for as long as the renewed claim lasts."""
        if (visitor.session.id_hash, place) in self._revealed:
            self.reveal(visitor, place)

    def _is_revealed(self, visitor: Visitor, place: str, now: datetime) -> bool:
        for key in [key for key, until in self._revealed.items() if until <= now]:
            del self._revealed[key]
        return (visitor.session.id_hash, place) in self._revealed

    async def _read(self, place: str, typed: Mapping[str, str]) -> Edited:
        """The answer of a form, or as it was written as JSON. Raises ImpossibleError."""
        output, words = read_output(typed.get("base" if is_form(typed) else "output", ""))
        if output is None:
            raise ImpossibleError(words)
        if not is_form(typed):
            return Edited(output)
        _, record = await self._reviews.case(place)
        policy = await self._reviews.policy_of(record)
        contract = contract_of(request_of(record), record.letter, policy)
        return edited_answer(output, contract, typed)


def _editing(
    view: CaseView, hide: Callable[[str], str], typed: Mapping[str, str], problems: _Problems
) -> dict[str, Any]:
    """What the page shows to edit an answer with."""
    written = pretty(draft_of(view.output, view.contract))
    base = typed.get("base") or written
    # With a number that cannot be published as it is, it is edited as JSON.
    output, _ = read_output(base)
    controls = controls_of(output, view.contract, typed, problems) if output is not None else None
    text = typed.get("output")
    if text is not None or output is None or not is_form(typed):
        edited_text = text or ""
    else:
        edited_text = pretty(edited_answer(output, view.contract, typed).output)
    schema = view.contract.schema if view.contract else None
    return {
        "base": escaped(base),
        # None where the answer is edited as JSON.
        "controls": controls if text is None else None,
        "text": escaped(written if text is None else text),
        "schema": pretty(schema) if schema else "",
        # An edit would publish the mask.
        "is_hidden": hide(written) != written and not typed.get("base") and text is None,
        "has_form": controls is not None,
        # For a page that takes no more edits.
        "typed": edited_text,
    }


async def undoable(reviews: ReviewService, request: Request) -> Case | None:
    """The case that the URL names as decided, if the user can still undo their decision."""
    place, now = request.query_params.get("decided"), reviews.clock()
    case = await reviews.store.case(place, now) if place else None
    if case is None or case.state != "decided" or case.undo_until is None:
        return None
    is_own = case.decided_by == visitor_of(request).who
    return case if is_own and case.undo_until > now else None


@dataclass(frozen=True, slots=True)
class _Aftermath:
    """What the topics say about a case after its end: what was published, and how it was taken."""

    #: False where they cannot be read now.
    is_known: bool
    #: The result that followed; None where none has yet, or Kafka no longer has it.
    result: Result | None = None
    output: Shown | None = None
    #: Who decided on what was published, where a person did.
    by: str | None = None
    #: What downstream services noted about it, in words.
    feedback: Sequence[str] = ()


async def _aftermath_of(model: ReadModel, case: Case, hide: Callable[[str], str]) -> _Aftermath:
    """What became of a case, as far as Kafka still has its records."""
    if case.request_id is None:
        return _Aftermath(is_known=True)
    key = RequestKey(case.tenant, case.request_id)
    with contextlib.suppress(*_AWAY):
        async with asyncio.timeout(_PATIENCE):
            await model.refresh()
            places = [written.place for written in await model.records(key)]
            return _became(await gathered(model.clients, key, places), case, hide)
    return _Aftermath(is_known=False)


def _became(journey: Journey, case: Case, hide: Callable[[str], str]) -> _Aftermath:
    result = _result_after(journey, case)
    if result is None:
        return _Aftermath(is_known=True)
    moments = [
        feedback_moment(feedback)
        for feedback in journey.feedback
        if feedback.source == "downstream" and feedback.generation == result.router.generation
    ]
    return _Aftermath(
        is_known=True,
        result=result,
        output=Shown.of(pretty(result.router.output), hide),
        by=journey.decided_by(result),
        feedback=[hide(moment.words) for moment in moments],
    )


def _result_after(journey: Journey, case: Case) -> Result | None:
    """The result that stands in for the dead letter, else the last one of a later generation."""
    final = [result for result in journey.results if result.router.final]
    own = [result for result in final if result.router.resolves == case.place]
    later = [result for result in final if result.router.generation > case.generation]
    return next(iter(own or reversed(later)), None)
