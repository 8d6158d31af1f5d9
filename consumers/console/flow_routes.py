"""The flow as operators watch it: stages, topics, processes, models, and what was given up.

What processes report is shown as `tierline top` shows it.
"""

from typing import Any

from fastapi import Depends, Request

from consumers.console.auth import Role, may_see_all, visitor_of
from consumers.console.pages import Pages
from consumers.console.queries import CaseFilter
from consumers.console.review_service import ReviewService
from consumers.console.routes import Routes
from consumers.runtime.processes import Processes
from schemas.reasons import Reason

__all__ = ["add_flow_routes"]


def add_flow_routes(
    routes: Routes, reviews: ReviewService, processes: Processes, pages: Pages
) -> None:
    """All that is about the flow as a whole: it counts the requests of all tenants."""

    def flow_json(flow: dict[str, Any]) -> dict[str, Any]:
        dumps = [status.model_dump(mode="json", exclude_none=True) for status in processes.statuses]
        return {
            "at": flow["at"],
            "stages_not_run": flow["missing"],
            "topics": flow["topics"],
            "processes": dumps,
            "models": flow["models"],
            "dead_letters": dict(flow["letters"]),
        }

    @routes.both(
        "GET /flow",
        Role.OPERATOR,
        "Stages, topics, processes and models, as they are now",
        lambda request, flow: pages.page("flow.html", visitor_of(request), flow=flow),
        flow_json,
        but=[Depends(may_see_all)],
    )
    async def flow(request: Request) -> dict[str, Any]:
        now = reviews.clock()
        letters = await reviews.store.values("reason", CaseFilter(), now)
        return {
            "at": now,
            # How much waits for each stage that no process runs; None: that is not known.
            "missing": processes.missing(now),
            "topics": processes.topic_rows(now),
            "processes": processes.process_rows(now),
            "models": processes.model_rows(now),
            "letters": [(Reason(reason), count) for reason, count in letters],
        }
