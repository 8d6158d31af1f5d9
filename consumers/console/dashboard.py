"""The dashboard: spend, latency and quality side by side, as pages, as CSV and for programs.

It shows the same figures as `tierline quality`, because both ask the read model.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple, get_args
from urllib.parse import urlencode

from fastapi import Depends, HTTPException, Query, Request
from fastapi.responses import Response
from sqlalchemy import Connection

from consumers.console.auth import may_see_all, visitor_of
from consumers.console.exports import csv_of
from consumers.console.pages import Pages
from consumers.console.queries import CaseFilter
from consumers.console.review_service import ReviewService
from consumers.console.routes import Routes
from consumers.readmodel.model import ReadModel
from consumers.readmodel.queries import (
    Behind,
    figures_by,
    figures_over_time,
    newest_behind,
    releases,
)
from consumers.runtime.clients import Clients
from router.intake.admission import Admission
from router.reports.bill import Step, steps_between
from router.reports.measures import (
    MEASURES,
    By,
    Measure,
    Row,
    alarms,
    format_value,
    names_of,
    regrouped,
    values_of,
)
from schemas.base import EARLIEST, LATEST
from schemas.reasons import Reason

__all__ = ["Figures", "add_dashboard"]

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
    """A bar of a chart, with its position and height in the drawing."""

    x: int
    height: int
    says: str


class Chart(NamedTuple):
    """A chart, with marks where policy versions were first used."""

    measure: Measure
    bars: Sequence[Bar]
    #: The figure of the highest bar.
    most: str
    marks: Sequence[tuple[int, str]]


class Figures:
    """The read model's figures for ranges of time up to now."""

    def __init__(
        self,
        reviews: ReviewService,
        clients: Clients,
        keep: timedelta | None = None,
        admission: Admission | None = None,
    ) -> None:
        self.reviews = reviews
        self.model = ReadModel(reviews.store.database, clients, keep, admission=admission)

    def span(self, name: str) -> tuple[datetime, datetime]:
        """The begin and the end of a range. Raises HTTPException."""
        if name not in _RANGES:
            raise HTTPException(404, f"one of {', '.join(_RANGES)} was expected")
        now = self.reviews.clock()
        return self.model.begin(now - _RANGES[name][0], now), now

    async def rows(
        self, by: Sequence[By], since: datetime, until: datetime = LATEST
    ) -> tuple[list[Row], Row]:
        """The rows of these groups, and their total."""
        await self.model.refresh()
        policy = self.reviews.policy
        return await self.model.ask(lambda tables: figures_by(tables, by, policy, since, until))

    async def bill(self, span: str) -> tuple[list[int], list[Step], datetime, datetime]:
        """The spend before and in a range, the causes of the difference, and the range."""
        since, until = self.span(span)
        kinds: Sequence[By] = ("task", "tier", "model")
        begin = self.model.begin(since - _RANGES[span][0], until)
        before, former = await self.rows(kinds, begin, since)
        after, latter = await self.rows(kinds, since)
        spent = [former.own_micros, latter.own_micros]
        return spent, steps_between(before, after), since, until


def _groups_of(by: str) -> list[By]:
    """The groups that a text names; by default, those of the table."""
    return [name for name in _BYS if name in by.split(",")] or [*_TABLE]


def add_dashboard(routes: Routes, reviews: ReviewService, figures: Figures, pages: Pages) -> None:
    _add_pages(routes, reviews, figures, pages)
    _add_json(routes, figures)


def _add_pages(routes: Routes, reviews: ReviewService, figures: Figures, pages: Pages) -> None:
    sees_all = [Depends(may_see_all)]

    @routes.pages.get("/dashboard", dependencies=sees_all)
    async def page(request: Request, span: str = "24h", by: str = "task,tier") -> Response:
        """The figures of a range, with a row per group, and charts."""
        groups, (since, now) = _groups_of(by), figures.span(span)
        # All tables of the page are regrouped from one query.
        finest = list(dict.fromkeys([*groups, *_TABLE, _REASON]))
        finest_rows, total = await figures.rows(finest, since)
        by_reason = regrouped(finest_rows, finest, [_REASON])
        return pages.page(
            "dashboard.html",
            visitor_of(request),
            rows=regrouped(finest_rows, finest, groups),
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
            waiting=await reviews.store.count(CaseFilter(), now),
            oldest=await reviews.store.oldest(CaseFilter(), now),
            link=lambda row, what, by=None: urlencode(
                {
                    "span": span,
                    "by": by or ",".join(groups),
                    "row": "\x1f".join(row.name),
                    "what": what,
                }
            ),
            alarms=alarms(regrouped(finest_rows, finest, _TABLE)),
            past_due=sum(risk.past_due for risk in await reviews.store.standing(now)),
            reasons=sorted((row for row in by_reason if row.escalated), key=_most_escalated),
            meanings={reason.value: reason.meaning for reason in Reason},
        )

    @routes.pages.get("/dashboard.csv", dependencies=sees_all)
    async def as_csv(span: str = "24h", by: str = "task,tier") -> Response:
        """The table, for a spreadsheet."""
        groups = _groups_of(by)
        rows, total = await figures.rows(groups, figures.span(span)[0])
        names = [*(row.name for row in rows), ["total", *[""] * (len(groups) - 1)]]
        values = [[measure.value(row) for measure in MEASURES] for row in (*rows, total)]
        lines = [(*name, *cells) for name, cells in zip(names, values, strict=True)]
        text = csv_of([[*groups, *(measure.name for measure in MEASURES)], *lines])
        headers = {"content-disposition": 'attachment; filename="quality.csv"'}
        return Response(text, 200, headers, "text/csv; charset=utf-8")

    @routes.pages.get("/dashboard/bill", dependencies=sees_all)
    async def why(request: Request, span: str = "24h") -> Response:
        """Why the bill changed from the period before."""
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
            most=max((abs(step.micros) for step in steps), default=0) or 1,
        )

    @routes.pages.get("/dashboard/requests", dependencies=sees_all)
    async def behind(
        request: Request,
        row: Annotated[str, Query(max_length=1000)],
        what: Annotated[str, Query(max_length=100)],
        span: str = "24h",
        by: str = "task,tier",
    ) -> Response:
        """The requests behind a figure."""
        groups, (since, _) = _groups_of(by), figures.span(span)
        rows, total = await figures.rows(groups, since)
        measure = next((one for one in MEASURES if one.name == what), None)
        chosen = next((one for one in [*rows, total] if "\x1f".join(one.name) == row), None)
        if measure is None or chosen is None:
            raise HTTPException(404, "there is no such figure")
        figure = Behind(measure, groups, None if chosen is total else chosen.name, since)
        requests = await figures.model.ask(
            lambda tables: newest_behind(tables, figure, _MOST_IDS + 1)
        )
        return pages.page(
            "behind.html",
            visitor_of(request),
            group=" · ".join(chosen.name),
            measure=measure,
            value=format_value(measure, chosen),
            ids=requests[:_MOST_IDS],
            has_more=len(requests) > _MOST_IDS,
            back=urlencode({"span": span, "by": by}),
        )


def _add_json(routes: Routes, figures: Figures) -> None:
    sees_all = [Depends(may_see_all)]

    @routes.api.get("/dashboard", dependencies=sees_all, summary="Spend, latency and quality")
    async def dashboard(span: str = "24h", by: str = "task,tier") -> dict[str, Any]:
        groups, (since, until) = _groups_of(by), figures.span(span)
        rows, total = await figures.rows(groups, since)
        by_tier, _ = await figures.rows(_TABLE, since)
        return {
            "since": since,
            "until": until,
            "rows": [{**names_of(row, groups), **values_of(row)} for row in rows],
            "total": values_of(total),
            "alarms": [alarm.words for alarm in alarms(by_tier)],
        }

    @routes.api.get("/dashboard/bill", dependencies=sees_all, summary="Why the bill changed")
    async def bill(span: str = "24h") -> dict[str, Any]:
        (before, now), steps, since, until = await figures.bill(span)
        moved = {step.name: step.micros for step in steps}
        moves = {"before_micros": before, "moved_micros": moved, "now_micros": now}
        return {"since": since, "until": until, **moves}


def _most_escalated(row: Row) -> int:
    return -row.escalated


def _charts(tables: Connection, now: datetime, span: timedelta, count: int) -> list[Chart]:
    """Charts of some figures over time, with the policy's changes marked.

    The last bar is of a span that has not ended yet.
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
