"""The flow as operators watch it: stages, topics, processes, models, and what was given up.

What processes report is shown as `tierline top` shows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import Depends, Request
from fastapi.responses import Response

from consumers.console.auth import Role, may_see_all, visitor_of
from consumers.console.pages import Pages
from consumers.console.queries import CaseFilter
from consumers.console.review_service import ReviewService
from consumers.console.routes import Routes
from consumers.runtime.processes import Processes
from schemas.reasons import Reason

__all__ = ["add_flow_routes"]

Rows = Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class _Flow:
    """Everything on the page, as of one moment."""

    at: datetime
    #: Stages that no process runs, and how much waits for each; None: that is not known.
    missing: Mapping[str, int | None]
    topics: Rows
    processes: Rows
    models: Rows
    #: Open cases by the reason of their dead letters, the most frequent first.
    letters: Sequence[tuple[Reason, int]]


def add_flow_routes(
    routes: Routes, reviews: ReviewService, processes: Processes, pages: Pages
) -> None:
    """All that is about the flow as a whole: it counts the requests of all tenants."""

    def flow_page(request: Request, flow: _Flow) -> Response:
        return pages.page("flow.html", visitor_of(request), flow=flow)

    def flow_json(flow: _Flow) -> dict[str, Any]:
        return {
            "at": flow.at,
            "stages_not_run": flow.missing,
            "topics": flow.topics,
            "processes": [
                status.model_dump(mode="json", exclude_none=True) for status in processes.statuses
            ],
            "models": flow.models,
            "dead_letters": dict(flow.letters),
        }

    @routes.both(
        "GET /flow",
        Role.OPERATOR,
        "Stages, topics, processes and models, as they are now",
        flow_page,
        flow_json,
        but=[Depends(may_see_all)],
    )
    async def flow(request: Request) -> _Flow:
        now = reviews.clock()
        letters = await reviews.store.values("reason", CaseFilter(), now)
        return _Flow(
            at=now,
            missing=processes.missing(now),
            topics=processes.topic_rows(now),
            processes=processes.process_rows(now),
            models=processes.model_rows(now),
            letters=[(Reason(reason), count) for reason, count in letters],
        )
