"""The dashboard: spend, latency and quality side by side, as pages, as CSV and for programs.

It shows the same figures as `tierline quality`, because both ask the read model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, HTTPException, Request
from fastapi.responses import Response

from consumers.console.auth import Role, visitor_of
from consumers.console.exports import csv_of
from consumers.console.pages import Pages
from consumers.console.queries import CaseFilter
from consumers.console.review_service import ReviewService
from consumers.console.routes import Routes
from consumers.console.spans import NAMED, AskedSpan, Span, asked_span, span_of, written
from consumers.readmodel.model import ReadModel
from consumers.readmodel.queries import figures_by, releases
from consumers.runtime.clients import Clients
from consumers.runtime.poison import Guard
from router.intake.admission import Admission
from router.reports.bill import Mover, Step, movers_between, steps_between
from router.reports.measures import (
    MEASURES,
    QUALITY_GROUPS,
    By,
    Row,
    alarms,
    format_figure,
    format_value,
    names_of,
    regrouped,
    values_of,
)
from router.reports.plots import Period, Plot, plots_of
from schemas.reasons import Reason

__all__ = ["Figures", "add_dashboard"]

_TABLE: Sequence[By] = ("task", "tier")
_BILL: Sequence[By] = ("task", "tier", "model")
_REASON: By = "reason"
[_PER_COMPLETED] = [measure for measure in MEASURES if measure.name == "per completed"]
_MOST_MOVERS = 15

_Asked = Annotated[AskedSpan, Depends(asked_span)]


@dataclass(frozen=True, slots=True)
class _OverTime:
    """The periods of a span, with plots of them and the policy versions first used in them."""

    periods: Sequence[Period]
    plots: Sequence[Plot]
    #: By the number of the period.
    releases: Mapping[int, Sequence[str]]


@dataclass(frozen=True, slots=True)
class _View:
    """What the dashboard shows of a span."""

    span: Span
    groups: Sequence[By]
    rows: Sequence[Row]
    total: Row
    #: By task and tier, and by reason.
    usual: Sequence[Row]
    by_reason: Sequence[Row]
    over_time: _OverTime


@dataclass(frozen=True, slots=True)
class _Bill:
    """Why the spend of a span differs from that of the span before."""

    span: Span
    begin: datetime
    before_micros: int
    now_micros: int
    steps: Sequence[Step]
    movers: Sequence[Mover]


class Figures:
    """The read model's figures for spans of time."""

    def __init__(
        self,
        reviews: ReviewService,
        clients: Clients,
        keep: timedelta | None = None,
        admission: Admission | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.reviews = reviews
        self.model = ReadModel(reviews.store.database, clients, keep, admission, guard)

    def span(self, asked: AskedSpan) -> Span:
        """The span that a URL names. Raises HTTPException."""
        return span_of(asked, self.model, self.reviews.clock())

    async def rows(
        self, by: Sequence[By], since: datetime, until: datetime
    ) -> tuple[list[Row], Row]:
        """The rows of these groups, and their total."""
        await self.model.refresh()
        policy = self.reviews.policy
        return await self.model.ask(lambda tables: figures_by(tables, by, policy, since, until))

    async def view(self, span: Span, groups: Sequence[By]) -> _View:
        """All that the dashboard shows."""
        # All tables of the page are regrouped from one query.
        finest = list(dict.fromkeys([*groups, *_TABLE, _REASON]))
        rows, total = await self.rows(finest, span.since, span.end)
        return _View(
            span,
            groups,
            regrouped(rows, finest, groups),
            total,
            regrouped(rows, finest, _TABLE),
            regrouped(rows, finest, [_REASON]),
            await self.over_time(span),
        )

    async def over_time(self, span: Span) -> _OverTime:
        """The figures of the periods of a span."""
        await self.model.refresh()
        ends = span.since, span.until, self.reviews.clock()
        periods, step = await self.model.periods(
            self.reviews.policy, *ends, is_open=span.name is not None
        )
        uses = await self.model.ask(
            lambda tables: releases(tables, periods[0].at, step, len(periods))
        )
        versions: dict[int, list[str]] = {}
        for version, no in uses:
            versions.setdefault(no, []).append(version)
        return _OverTime(periods, plots_of(periods), versions)

    async def bill(self, span: Span) -> _Bill:
        """The spend before and in a span, and the causes of the difference."""
        begin = self.model.begin(span.since - (span.until - span.since), span.until)
        before, former = await self.rows(_BILL, begin, span.since)
        after, latter = await self.rows(_BILL, span.since, span.end)
        steps, movers = steps_between(before, after), movers_between(before, after, _MOST_MOVERS)
        return _Bill(span, begin, former.own_micros, latter.own_micros, steps, movers)


def _groups_of(by: str) -> list[By]:
    """The groups that a text names; by default, those of the table."""
    return [name for name in QUALITY_GROUPS if name in by.split(",")] or [*_TABLE]


def _behind(
    outcome: str, group: Mapping[By, str], since: datetime, until: datetime | None = None
) -> str:
    """The search for the requests behind a figure."""
    query = [*group.items(), ("outcome", outcome), ("from", written(since))]
    if until is not None:
        query.append(("to", written(until)))
    return f"/requests?{urlencode(query)}"


def add_dashboard(routes: Routes, reviews: ReviewService, figures: Figures, pages: Pages) -> None:
    _add_figures(routes, reviews, figures, pages)
    _add_bill(routes, figures, pages)
    _add_csv(routes, figures)


def _add_figures(routes: Routes, reviews: ReviewService, figures: Figures, pages: Pages) -> None:
    async def page(request: Request, view: _View) -> Response:
        now, span = reviews.clock(), view.span
        end = span.asked_end

        def behind(row: Row, outcome: str, by: Sequence[By] = view.groups) -> str:
            group: dict[By, str] = {}
            if row is not view.total:
                group.update(zip(by, row.name, strict=True))
            return _behind(outcome, group, span.since, end)

        return pages.page(
            "dashboard.html",
            visitor_of(request),
            view=view,
            total=view.total,
            headline=format_value(_PER_COMPLETED, view.total),
            measures=MEASURES,
            format_value=format_value,
            format_figure=format_figure,
            named=list(NAMED),
            query=span.query,
            by=",".join(view.groups),
            bys=("task,tier", *QUALITY_GROUPS, "task,tier,model,prompt"),
            waiting=await reviews.store.count(CaseFilter(), now),
            oldest=await reviews.store.oldest(CaseFilter(), now),
            behind=behind,
            behind_number=_behind,
            written=written,
            table=_TABLE,
            alarms=alarms(view.usual),
            past_due=sum(risk.past_due for risk in await reviews.store.standing(now)),
            reasons=sorted((row for row in view.by_reason if row.escalated), key=_most_escalated),
            meanings={reason.value: reason.meaning for reason in Reason},
        )

    def as_json(view: _View) -> dict[str, Any]:
        over_time = view.over_time
        begins = [period.at for period in over_time.periods]
        return {
            "since": view.span.since,
            "until": view.span.until,
            "rows": [{**names_of(row, view.groups), **values_of(row)} for row in view.rows],
            "total": values_of(view.total),
            "alarms": [alarm.words for alarm in alarms(view.usual)],
            "periods": begins,
            "releases": [
                {"at": begins[no], "policy": version}
                for no, versions in over_time.releases.items()
                for version in versions
            ],
            "plots": [
                {
                    "name": plot.name,
                    "unit": plot.unit,
                    "series": {series.name: series.values for series in plot.series},
                }
                for plot in over_time.plots
            ],
        }

    @routes.both("GET /dashboard", Role.VIEWER, "Spend, latency and quality", page, as_json)
    async def dashboard(request: Request, asked: _Asked, by: str = "task,tier") -> _View:
        return await figures.view(figures.span(asked), _groups_of(by))


def _add_bill(routes: Routes, figures: Figures, pages: Pages) -> None:
    def group_of(mover: Mover) -> dict[By, str]:
        return dict(zip(_BILL, mover.name, strict=True))

    def behind(mover: Mover, since: datetime, until: datetime | None) -> str:
        return _behind("called", group_of(mover), since, until)

    def page(request: Request, bill: _Bill) -> Response:
        span = bill.span
        reached = [bill.before_micros]
        for step in bill.steps:
            reached.append(reached[-1] + step.micros)
        return pages.page(
            "bill.html",
            visitor_of(request),
            bill=bill,
            span=span,
            named=list(NAMED),
            query=span.query,
            written=written,
            reached=reached,
            most=max(reached) or 1,
            behind_before=lambda mover: behind(mover, bill.begin, span.since),
            behind_now=lambda mover: behind(mover, span.since, span.asked_end),
        )

    def as_json(bill: _Bill) -> dict[str, Any]:
        return {
            "since": bill.span.since,
            "until": bill.span.until,
            "before_micros": bill.before_micros,
            "moved_micros": {step.name: step.micros for step in bill.steps},
            "now_micros": bill.now_micros,
            "movers": [
                {**group_of(mover), "before_micros": mover.before, "now_micros": mover.now}
                for mover in bill.movers
            ],
        }

    @routes.both("GET /dashboard/bill", Role.VIEWER, "Why the bill changed", page, as_json)
    async def why(request: Request, asked: _Asked) -> _Bill:
        return await figures.bill(figures.span(asked))


def _add_csv(routes: Routes, figures: Figures) -> None:
    @routes.pages.get("/dashboard.csv")
    async def table(asked: _Asked, by: str = "task,tier") -> Response:
        """The table, for a spreadsheet."""
        groups, span = _groups_of(by), figures.span(asked)
        rows, total = await figures.rows(groups, span.since, span.end)
        names = [*(row.name for row in rows), ["total", *[""] * (len(groups) - 1)]]
        values = [[measure.value(row) for measure in MEASURES] for row in (*rows, total)]
        lines = [(*name, *cells) for name, cells in zip(names, values, strict=True)]
        return _csv("quality", [*groups, *(measure.name for measure in MEASURES)], lines)

    @routes.pages.get("/dashboard/plots/{name}.csv")
    async def numbers(name: str, asked: _Asked) -> Response:
        """The numbers of a plot, for a spreadsheet: micro-dollars, milliseconds, or shares."""
        over_time = await figures.over_time(figures.span(asked))
        plot = next((plot for plot in over_time.plots if plot.name == name), None)
        if plot is None:
            names = ", ".join(plot.name for plot in over_time.plots)
            raise HTTPException(404, f"there is no such plot; these are: {names}")
        lines = [
            (
                written(period.since),
                written(period.until),
                " ".join(over_time.releases.get(no, ())),
                *(series.values[no] for series in plot.series),
            )
            for no, period in enumerate(over_time.periods)
        ]
        units = [f"{series.name} ({plot.unit})" for series in plot.series]
        return _csv(name, ["from (UTC)", "to (UTC)", "policy first used", *units], lines)


def _csv(name: str, head: Sequence[str], lines: Sequence[Sequence[Any]]) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}.csv"'}
    return Response(csv_of([head, *lines]), 200, headers, "text/csv; charset=utf-8")


def _most_escalated(row: Row) -> int:
    return -row.escalated
