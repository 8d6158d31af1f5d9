"""The dashboard: spend, latency and quality side by side, by the fold of the command line.

A page and `tierline quality` over the same time say the same, because both ask the same rows.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, NamedTuple, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response

from consumers.console.auth import Role, may, may_see_all, visitor_of
from consumers.console.exports import csv_of
from consumers.console.pages import Pages
from consumers.console.queries import CaseFilter
from consumers.console.review_service import ReviewService
from consumers.reports import read_quality
from consumers.runtime.clients import Clients
from router.reports.bill import Step, steps_between
from router.reports.measures import MEASURES, By, Measure, Row, alarms, format_value
from router.reports.quality import Quality
from schemas.reasons import Reason

__all__ = ["Figures", "dashboard"]

#: A range's name, its length, and how many bars its charts have.
_RANGES = {
    "1h": (timedelta(hours=1), 12),
    "24h": (timedelta(hours=24), 24),
    "7d": (timedelta(days=7), 28),
    "30d": (timedelta(days=30), 30),
}
_BYS: Sequence[By] = get_args(By)
#: A page is looked at again and again; the topics are read anew after so long.
_FRESH = timedelta(seconds=15)
_CHARTS = ("spend", "p95", "corrected")
_MOST_IDS = 1000
[_PER_COMPLETED] = [one for one in MEASURES if one.name == "per completed"]


class Bar(NamedTuple):
    """A bar of a chart, in units of the drawing."""

    x: int
    height: int
    says: str


class Chart(NamedTuple):
    """A chart with its marks: policy versions that were first used then."""

    measure: Measure
    bars: Sequence[Bar]
    #: The highest bar's figure.
    most: str
    marks: Sequence[tuple[int, str]]


@dataclass(slots=True)
class Figures:
    """The fold of a range, read when somebody asks and kept for a moment."""

    desk: ReviewService
    clients: Clients
    _kept: dict[tuple[str, int], tuple[datetime, Quality]] = field(default_factory=dict)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def of(self, span: str, times: int = 1) -> tuple[datetime, Quality]:
        """When it was read, and the fold of so many ranges up to then."""
        async with self._reading:
            now = self.desk.clock()
            kept = self._kept.get((span, times))
            if kept is None or now - kept[0] > _FRESH:
                # What was begun before the range may have ended in it.
                since = now - times * _RANGES[span][0] - timedelta(hours=1)
                kept = now, await read_quality(self.clients, since)
                self._kept[span, times] = kept
            return kept

    async def table(
        self, span: str, by: str
    ) -> tuple[Quality, list[By], list[Row], Row, datetime, datetime]:
        """The fold, its groups, their rows, the total, and the range. Raises HTTPException."""
        groups: list[By] = [one for one in _BYS if one in by.split(",")] or ["task", "tier"]
        if span not in _RANGES:
            raise HTTPException(404, f"one of {', '.join(_RANGES)} was expected")
        until, quality = await self.of(span)
        since = until - _RANGES[span][0]
        rows, total = quality.table(groups, self.desk.policy, since=since, until=until)
        return quality, groups, rows, total, since, until

    async def bill(self, span: str) -> tuple[list[int], list[Step], datetime, datetime]:
        """What was spent before and in a range, what moved it, and the range."""
        if span not in _RANGES:
            raise HTTPException(404, f"one of {', '.join(_RANGES)} was expected")
        until, quality = await self.of(span, 2)
        since = until - _RANGES[span][0]
        before = quality.bill(since - _RANGES[span][0], since)
        after = quality.bill(since, until)
        spent = [before.cost_micros, after.cost_micros]
        return spent, list(steps_between(before, after)), since, until


def dashboard(desk: ReviewService, figures: Figures, pages: Pages) -> APIRouter:
    """The routes."""
    router = APIRouter(
        default_response_class=HTMLResponse,
        include_in_schema=False,
        dependencies=[Depends(may(Role.VIEWER)), Depends(may_see_all)],
    )

    @router.get("/dashboard")
    async def page(request: Request, span: str = "24h", by: str = "task,tier") -> Response:
        """The figures of a range, one row per group, and their course."""
        quality, groups, rows, total, since, until = await figures.table(span, by)
        now = desk.clock()
        return pages.page(
            "dashboard.html",
            visitor_of(request),
            rows=rows,
            total=total,
            headline=format_value(_PER_COMPLETED, total),
            groups=groups,
            measures=MEASURES,
            format_value=format_value,
            since=since,
            until=until,
            span=span,
            spans=list(_RANGES),
            by=",".join(groups),
            bys=("task,tier", *_BYS, "task,tier,model,prompt"),
            charts=_charts(quality, since, until, _RANGES[span][1]),
            waiting=await desk.store.count(CaseFilter(), now),
            oldest=await desk.store.oldest(CaseFilter(), now),
            link=lambda row, what, by=None: urlencode(
                {
                    "span": span,
                    "by": by or ",".join(groups),
                    "row": "\x1f".join(row.name),
                    "what": what,
                }
            ),
            alarms=alarms(
                quality.table(("task", "tier"), desk.policy, since=since, until=until)[0]
            ),
            past_due=sum(one.past_due for one in await desk.store.standing(now)),
            reasons=_reasons(quality, desk, since, until),
            meanings={one.value: one.meaning for one in Reason},
        )

    @router.get("/dashboard.csv")
    async def as_csv(span: str = "24h", by: str = "task,tier") -> Response:
        """The table, for a spreadsheet."""
        _, groups, rows, total, _, _ = await figures.table(span, by)
        names = [*(row.name for row in rows), ["total", *[""] * (len(groups) - 1)]]
        figures_of = [[one.value(row) for one in MEASURES] for row in (*rows, total)]
        lines = [(*name, *said) for name, said in zip(names, figures_of, strict=True)]
        text = csv_of([[*groups, *(one.name for one in MEASURES)], *lines])
        headers = {"content-disposition": 'attachment; filename="quality.csv"'}
        return Response(text, 200, headers, "text/csv; charset=utf-8")

    @router.get("/dashboard/bill")
    async def why(request: Request, span: str = "24h") -> Response:
        """What moved the bill, against the same time before."""
        spent, steps, since, until = await figures.bill(span)
        return pages.page(
            "bill.html",
            visitor_of(request),
            span=span,
            spans=list(_RANGES),
            since=since,
            until=until,
            begin=since - _RANGES[span][0],
            spent=spent,
            steps=steps,
            most=max((abs(one.micros) for one in steps), default=0) or 1,
        )

    @router.get("/dashboard/requests")
    async def behind(
        request: Request,
        row: Annotated[str, Query(max_length=1000)],
        what: Annotated[str, Query(max_length=100)],
        span: str = "24h",
        by: str = "task,tier",
    ) -> Response:
        """The requests behind a number."""
        _, _, rows, total, _, _ = await figures.table(span, by)
        measure = next((one for one in MEASURES if one.name == what), None)
        chosen = next((one for one in [*rows, total] if "\x1f".join(one.name) == row), None)
        if measure is None or chosen is None:
            raise HTTPException(404, "there is no such number")
        ids = list(dict.fromkeys(measure.ids(chosen)))
        return pages.page(
            "behind.html",
            visitor_of(request),
            group=" · ".join(chosen.name),
            measure=measure,
            value=format_value(measure, chosen),
            ids=ids[:_MOST_IDS],
            count=len(ids),
            back=urlencode({"span": span, "by": by}),
        )

    return router


def _reasons(quality: Quality, desk: ReviewService, since: datetime, until: datetime) -> list[Row]:
    """Why answers left their tier, the most frequent reason first."""
    rows, _ = quality.table(("reason",), desk.policy, since=since, until=until)
    return sorted((row for row in rows if row.escalated), key=lambda row: -len(row.escalated))


def _charts(quality: Quality, since: datetime, until: datetime, count: int) -> list[Chart]:
    """The course of some figures, with the policy's changes on each of them."""
    step = (until - since) / count
    edges = [since + step * number for number in range(count + 1)]
    rows = quality.over_time(edges)
    marks = [
        (int((at - since) / step * 10), version)
        for version, at in sorted(quality.policies.items(), key=lambda one: one[1])
        if since <= at < until
    ]
    charts = []
    for measure in (one for one in MEASURES if one.name in _CHARTS):
        values = [measure.value(row) or 0.0 for row in rows]
        most = max(values) or 1.0
        bars = [
            Bar(
                number * 10,
                round(60 * value / most),
                f"{edges[number]:%Y-%m-%d %H:%M} UTC: {format_value(measure, rows[number])}",
            )
            for number, value in enumerate(values)
        ]
        highest = format_value(measure, rows[values.index(max(values))])
        charts.append(Chart(measure, bars, highest, marks))
    return charts
