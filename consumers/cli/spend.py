"""`tierline spend` and `tierline report`: what completed actions cost, and what a review needs."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Annotated, get_args

import typer
from typer import Option

from consumers import clock
from consumers.cli.common import (
    AsJson,
    KafkaAddress,
    StoreUrl,
    UserError,
    asynchronous,
    read_settings,
    span_of,
)
from consumers.cli.read_model import groups_of, read_model
from consumers.cli.terminal import console, print_json, print_table
from consumers.files import read_text, write_own
from consumers.policy_file import read_policy
from consumers.readmodel.model import ReadModel
from consumers.readmodel.queries import figures_by, first_hour
from consumers.texts import say
from router.policy.load import load_policy
from router.policy.table import Policy
from router.reports.measures import By, Row, format_figure
from router.reports.plots import Period, Plot, plots_of
from router.reports.report import DAILY, ROUTES, Facts, premium_plot, sections_of
from router.reports.spend import People, Section, measured, spend_measures

__all__ = ["report", "spend"]

_AsCsv = Annotated[bool, Option("--csv", help="Print CSV: money in millionths of a dollar.")]
_MinutePrice = Annotated[
    float | None,
    Option(
        "--minute-price",
        metavar="DOLLARS",
        min=0,
        help="Price people's time by the minute; else by the policy's `costs.person` each time.",
    ),
]
_CaseMinutes = Annotated[
    float,
    Option(
        "--case-minutes",
        metavar="MINUTES",
        min=0,
        help="With --minute-price: the time of an answer that nobody measured.",
    ),
]
#: Reasons are those of single answers.
_GROUPS: Sequence[By] = [name for name in get_args(By) if name != "reason"]
#: Columns that are left out on a narrow terminal, the first named first.
_OPTIONAL = (
    *("own calls", "calls paid", "retried", "fell back", "by person", "people", "all low"),
    *("requests", "with people", "all premium"),
)
_DAY = timedelta(days=1)


@asynchronous
async def spend(
    since: Annotated[
        str, Option(metavar="SPAN", help="Look back this far, for example 90m, 24h or 7d.")
    ] = "7d",
    by: Annotated[
        str,
        Option(
            metavar="GROUPS",
            help=f"Print a row for each of {', '.join(_GROUPS)} (of UTC), or for several of them, "
            "with commas between.",
        ),
    ] = "task,tier",
    minute_price: _MinutePrice = None,
    case_minutes: _CaseMinutes = 5.0,
    store: StoreUrl = None,
    kafka: KafkaAddress = None,
    as_csv: _AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """Show what completed actions cost, every call and people's time included, by group."""
    groups = groups_of(by, _GROUPS)
    if "user" in groups and "tenant" not in groups:
        groups.insert(groups.index("user"), "tenant")
    settings, now, span = read_settings(kafka), clock.now(), span_of(since, "--since")
    policy = read_policy(settings)
    async with read_model(settings, store, settings.kafka.topics.of_figures, now - span) as model:
        begin = model.begin(now - span, now, of_users="user" in groups)
        rows, total = await model.ask(lambda tables: figures_by(tables, groups, policy, begin))
    if "day" in groups:
        rows.sort(key=lambda row: row.name[groups.index("day")])
    total.name = ("total", *[""] * (len(groups) - 1))
    measures = spend_measures(policy, _people(policy, minute_price, case_minutes))
    title = f"since {begin.isoformat(timespec='seconds')}"
    table = measured("spend", title, [*rows, total], groups, measures)
    if as_csv:
        _print_csv([table])
    elif as_json:
        *values, sums = table.values
        print_json({"since": begin, "rows": values, "total": sums})
    else:
        print_table(table.texts, tuple(table.columns), title=title, optional=_OPTIONAL)


@asynchronous
async def report(  # noqa: PLR0913, PLR0917  an option each
    since: Annotated[
        str, Option(metavar="SPAN", help="Look back this far, for example 24h or 30d.")
    ] = "30d",
    section: Annotated[
        str | None, Option(metavar="NAME", help="Print one table alone, such as worksheet.")
    ] = None,
    requests: Annotated[
        int | None, Option(metavar="COUNT", min=1, help="Expect so many requests a month.")
    ] = None,
    candidate: Annotated[
        Path | None,
        Option(metavar="FILE", help="Compare with the models and prices of this policy."),
    ] = None,
    html: Annotated[
        Path | None,
        Option("--html", metavar="FILE", help="Write one page with plots, all in one file."),
    ] = None,
    minute_price: _MinutePrice = None,
    case_minutes: _CaseMinutes = 5.0,
    store: StoreUrl = None,
    kafka: KafkaAddress = None,
    as_csv: _AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """Report what a budget review needs: audit figures, worksheet, scenarios, growth, the bill."""
    settings, now, span = read_settings(kafka), clock.now(), span_of(since, "--since")
    policy = read_policy(settings)
    other = load_policy(read_text(candidate), str(candidate)) if candidate else None
    async with read_model(
        settings, store, settings.kafka.topics.of_figures, now - 2 * span
    ) as model:
        begin = model.begin(now - span, now)
        facts = await _facts(model, policy, begin, now)
        periods, _ = await model.periods(policy, begin, now, now, is_open=True)
    people = _people(policy, minute_price, case_minutes)
    tables = sections_of(facts, policy, people, requests, other)
    plots = [plot for plot in (*plots_of(periods), premium_plot(periods)) if plot.has_values]
    names = [table.name for table in tables]
    if section is not None and section not in names:
        msg = f"--section {section}: one of {', '.join(names)} was expected"
        raise UserError(msg)
    chosen = [table for table in tables if section in (None, table.name)]
    if html is not None:
        write_own(html, _page(policy, begin, now, chosen, periods, plots))
        say(f"written: {html}", is_error=True)
    elif as_csv:
        _print_csv(chosen)
    elif as_json:
        drawn = {plot.name: {each.name: each.values for each in plot.series} for plot in plots}
        at = [period.at for period in periods]
        values = {table.name: table.values for table in chosen}
        print_json({"since": begin, "until": now, **values, "periods": at, "plots": drawn})
    else:
        for table in chosen:
            print_table(table.texts, tuple(table.columns), title=table.title, optional=_OPTIONAL)
            console().print(table.note)


async def _facts(model: ReadModel, policy: Policy, begin: datetime, now: datetime) -> Facts:
    earlier = model.begin(begin - (now - begin), now)

    async def rows(of: Sequence[By], *when: datetime) -> list[Row]:
        return (await model.ask(lambda tables: figures_by(tables, of, policy, *when)))[0]

    first = await model.ask(lambda tables: first_hour(tables, begin)) or begin
    # A day at least: an hour of traffic says little about a month.
    days = max(now - max(first, begin), _DAY) / _DAY
    before = await rows(("task", "tier", "model"), earlier, begin)
    return Facts(await rows(ROUTES, begin), await rows(DAILY, begin), before, days)


def _people(policy: Policy, minute_price: float | None, case_minutes: float) -> People:
    """What people's time costs, by the options, else by the policy."""
    per_minute = None if minute_price is None else round(minute_price * 1_000_000)
    return People(round(policy.costs.person * 1_000_000), per_minute, case_minutes)


def _print_csv(tables: Sequence[Section]) -> None:
    """Print tables for a spreadsheet; of several, each under its title."""
    from consumers.console.exports import csv_of  # noqa: PLC0415  few calls need it

    lines: list[Sequence[object]] = []
    for table in tables:
        lines += [[table.title]] * (len(tables) > 1)
        lines += [[*table.columns], *table.rows]
    typer.echo(csv_of(lines), nl=False)


def _page(
    policy: Policy,
    begin: datetime,
    now: datetime,
    sections: Sequence[Section],
    periods: Sequence[Period],
    plots: Sequence[Plot],
) -> str:
    """The page; what it draws with and how it looks lies within."""
    from markupsafe import Markup  # noqa: PLC0415  only for pages

    from consumers.console.pages import templates  # noqa: PLC0415  only for pages
    from consumers.console.spans import written  # noqa: PLC0415  only for pages

    static = files("consumers.console") / "static"

    def inlined(*names: str) -> Markup:
        texts = ((static / name).read_text("utf-8") for name in names)
        return Markup("\n".join(texts))  # noqa: S704  ours

    figures = {"begin": begin, "now": now, "sections": sections, "periods": periods, "plots": plots}
    return (
        templates(lambda: now)
        .get_template("report.html")
        .render(
            **figures,
            policy=policy,
            releases={},
            format_figure=format_figure,
            written=written,
            style=inlined("console.css", "uPlot-1.6.32.min.css"),
            script=inlined("uPlot-1.6.32.iife.min.js", "plots.js"),
        )
    )
