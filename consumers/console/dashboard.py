"""The dashboard: spend, latency and quality side by side.

A page and `tierline quality` over the same time say the same, because both ask the read model.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, NamedTuple, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection

from consumers.console.auth import Role, may, may_see_all, visitor_of
from consumers.console.exports import csv_of
from consumers.console.pages import Pages
from consumers.console.queries import CaseFilter
from consumers.console.review_service import ReviewService
from consumers.readmodel.model import ReadModel
from consumers.readmodel.queries import (
    Behind,
    figures_by,
    figures_over_time,
    newest_behind,
    releases,
)
from consumers.runtime.clients import Clients
from consumers.runtime.poison import Guard
from router.reports.bill import Step, steps_between
from router.reports.measures import MEASURES, By, Measure, Row, alarms, format_value, regrouped
from schemas.base import EARLIEST, LATEST
from schemas.reasons import Reason

__all__ = ["Figures", "dashboard", "groups_of"]

#: A range's name, its length, and how many bars its charts have.
_RANGES = {
    "1h": (timedelta(hours=1), 12),
    "24h": (timedelta(hours=24), 24),
    "7d": (timedelta(days=7), 28),
    "30d": (timedelta(days=30), 30),
}
_BYS: Sequence[By] = get_args(By)
_TABLE: Sequence[By] = ("task", "tier")
_REASON: By = "reason"
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


class Figures:
    """What the read model says of a range, as of now."""

    def __init__(
        self,
        desk: ReviewService,
        clients: Clients,
        keep: timedelta | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.desk = desk
        self.model = ReadModel(desk.store.database, clients, keep, guard)

    def span(self, name: str) -> tuple[datetime, datetime]:
        """When a range begins and ends. Raises HTTPException."""
        if name not in _RANGES:
            raise HTTPException(404, f"one of {', '.join(_RANGES)} was expected")
        now = self.desk.clock()
        return self.model.begin(now - _RANGES[name][0], now), now

    async def rows(
        self, by: Sequence[By], since: datetime, until: datetime = LATEST
    ) -> tuple[list[Row], Row]:
        """The rows of these groups, and the total."""
        await self.model.refresh()
        policy = self.desk.policy
        return await self.model.ask(lambda tables: figures_by(tables, by, policy, since, until))

    async def bill(self, span: str) -> tuple[list[int], list[Step], datetime, datetime]:
        """What was spent before and in a range, what moved it, and the range."""
        since, until = self.span(span)
        kinds: Sequence[By] = ("task", "tier", "model")
        begin = self.model.begin(since - _RANGES[span][0], until)
        before, former = await self.rows(kinds, begin, since)
        after, latter = await self.rows(kinds, since)
        spent = [former.own_micros, latter.own_micros]
        return spent, steps_between(before, after), since, until


def groups_of(by: str) -> list[By]:
    """The groups that a text names; those of the table where it names none."""
    return [one for one in _BYS if one in by.split(",")] or [*_TABLE]


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
        groups, (since, now) = groups_of(by), figures.span(span)
        # The page has several tables; the database is asked once.
        finest = list(dict.fromkeys([*groups, *_TABLE, _REASON]))
        found, total = await figures.rows(finest, since)
        by_reason = regrouped(found, finest, [_REASON])
        return pages.page(
            "dashboard.html",
            visitor_of(request),
            rows=regrouped(found, finest, groups),
            total=total,
            headline=format_value(_PER_COMPLETED, total),
            groups=groups,
            measures=MEASURES,
            format_value=format_value,
            since=since,
            until=now,
            span=span,
            spans=list(_RANGES),
            by=",".join(groups),
            bys=("task,tier", *_BYS, "task,tier,model,prompt"),
            charts=await figures.model.ask(lambda tables: _charts(tables, now, *_RANGES[span])),
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
            alarms=alarms(regrouped(found, finest, _TABLE)),
            past_due=sum(one.past_due for one in await desk.store.standing(now)),
            reasons=sorted((row for row in by_reason if row.escalated), key=_most_escalated),
            meanings={one.value: one.meaning for one in Reason},
        )

    @router.get("/dashboard.csv")
    async def as_csv(span: str = "24h", by: str = "task,tier") -> Response:
        """The table, for a spreadsheet."""
        groups = groups_of(by)
        rows, total = await figures.rows(groups, figures.span(span)[0])
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
        groups, (since, _) = groups_of(by), figures.span(span)
        rows, total = await figures.rows(groups, since)
        measure = next((one for one in MEASURES if one.name == what), None)
        chosen = next((one for one in [*rows, total] if "\x1f".join(one.name) == row), None)
        if measure is None or chosen is None:
            raise HTTPException(404, "there is no such number")
        figure = Behind(measure, groups, None if chosen is total else chosen.name, since)
        found = await figures.model.ask(lambda asked: newest_behind(asked, figure, _MOST_IDS + 1))
        return pages.page(
            "behind.html",
            visitor_of(request),
            group=" · ".join(chosen.name),
            measure=measure,
            value=format_value(measure, chosen),
            ids=found[:_MOST_IDS],
            has_more=len(found) > _MOST_IDS,
            back=urlencode({"span": span, "by": by}),
        )

    return router


def _most_escalated(row: Row) -> int:
    return -row.escalated


def _charts(tables: Connection, now: datetime, span: timedelta, count: int) -> list[Chart]:
    """The course of some figures, with the policy's changes on each of them.

    The last bar is of the hour, the day or whatever a bar is of that is not over yet.
    """
    step = span / count
    begin = now - (now - EARLIEST) % step - (count - 1) * step
    edges = [begin + step * number for number in range(count)]
    rows = figures_over_time(tables, begin, step, count)
    marks = [(no * 10, version) for version, no in releases(tables, begin, step, count)]
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
