"""The dashboard's figures for programs."""

from typing import Any

from fastapi import Depends

from consumers.console.auth import may_see_all
from consumers.console.dashboard import Figures, groups_of
from consumers.console.routes import Routes
from router.reports.measures import alarms, names_of, values_of

__all__ = ["add_figures"]


def add_figures(routes: Routes, figures: Figures) -> None:
    """What `/api/dashboard` answers."""
    all_of_it = [Depends(may_see_all)]

    @routes.api.get("/dashboard", dependencies=all_of_it, summary="Spend, latency and quality")
    async def dashboard(span: str = "24h", by: str = "task,tier") -> dict[str, Any]:
        groups, (since, until) = groups_of(by), figures.span(span)
        rows, total = await figures.rows(groups, since)
        by_tier, _ = await figures.rows(("task", "tier"), since)
        return {
            "since": since,
            "until": until,
            "rows": [{**names_of(row, groups), **values_of(row)} for row in rows],
            "total": values_of(total),
            "alarms": [alarm.words for alarm in alarms(by_tier)],
        }

    @routes.api.get("/dashboard/bill", dependencies=all_of_it, summary="What moved the bill")
    async def bill(span: str = "24h") -> dict[str, Any]:
        (before, now), steps, since, until = await figures.bill(span)
        moved = {step.name: step.micros for step in steps}
        moves = {"before_micros": before, "moved_micros": moved, "now_micros": now}
        return {"since": since, "until": until, **moves}
