"""The page of a case: everything on one screen, with what looks like personal data hidden."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import get_args
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response

from consumers.console.auth import Role, Visitor, visitor_of
from consumers.console.errors import ImpossibleError
from consumers.console.pages import Pages, filters_in
from consumers.console.refusals import status_of
from consumers.console.review_service import ReviewService
from consumers.console.rows import Case
from consumers.console.showing import case_view
from consumers.telemetry.redaction import redact
from schemas.review import Action

__all__ = ["CasePage"]


class CasePage:
    """The page of a case; remembers which sessions may see a case unmasked, and until when."""

    def __init__(self, reviews: ReviewService, pages: Pages) -> None:
        self._reviews = reviews
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
        problems: list[tuple[str, str]] | None = None,
        typed: Mapping[str, str] | None = None,
    ) -> Response:
        """The page, with an error and the form's input. Raises UnknownCaseError."""
        reviews, visitor, now = self._reviews, visitor_of(request), self._reviews.clock()
        case, record = await reviews.case(place)
        query = request.query_params
        hide = str if self._is_revealed(visitor, place, now) else redact
        decided = query.get("decided")
        before = await reviews.store.case(decided, now) if decided else None
        return self._pages.page(
            "case.html",
            visitor,
            status,
            view=case_view(case, record, reviews.policy, now, hide),
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
            lines=await reviews.store.trail.lines(place=place, limit=20),
            undo=before if before and _may_undo(before, visitor, now) else None,
            error=error,
            problems=problems or [],
            typed=typed or {},
            actions=get_args(Action),
            query=urlencode(filters_in(request)),
            now=now,
        )

    async def after(
        self, request: Request, place: str, error: Exception, typed: Mapping[str, str]
    ) -> Response:
        """The page after an act that was refused, with the form's input."""
        problems = error.problems if isinstance(error, ImpossibleError) else None
        status = status_of(error)
        return await self.of(
            request, place, status=status, error=str(error), problems=problems, typed=typed
        )

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


def _may_undo(case: Case, visitor: Visitor, now: datetime) -> bool:
    in_time = case.undo_until is not None and case.undo_until > now
    return case.state == "decided" and case.decided_by == visitor.who and in_time
