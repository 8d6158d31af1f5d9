"""`tierline quality`: how often answers had to be fixed, and what they cost."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, get_args

import typer

from consumers import clock
from consumers.cli.common import (
    AsJson,
    KafkaAddress,
    UserError,
    asynchronous,
    read_settings,
    refuse_unread,
    span_of,
)
from consumers.cli.read_model import StoreUrl, read_model
from consumers.cli.terminal import console, print_json, print_table, reading_bar
from consumers.readmodel.model import ReadModel
from consumers.readmodel.queries import (
    Behind,
    Failure,
    figures_by,
    requests_behind,
)
from consumers.readmodel.queries import failures as failures_of
from consumers.reports import read_replies, read_requests
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.settings import Settings
from consumers.texts import plain, say
from router.reports.bill import steps_between
from router.reports.measures import (
    MEASURES,
    By,
    Measure,
    Row,
    alarms,
    format_value,
    names_of,
    values_of,
)
from schemas.base import Tier
from schemas.tenancy import RequestKey

__all__ = ["quality"]


#: What a narrow terminal is not shown, in this order.
_LESS_TELLING = (
    *(
        "schema",
        "abandoned",
        "refused",
        "own calls",
        "by model",
        "by check",
        "p50",
        "by person",
        "completed",
    ),
    *("escalated", "p95", "per completed"),
)


@asynchronous
async def quality(  # noqa: PLR0913, PLR0917  an option each
    context: typer.Context,
    since: Annotated[
        str, typer.Option(metavar="SPAN", help="Look back this far, for example 90m, 24h or 7d.")
    ] = "7d",
    by: Annotated[
        str,
        typer.Option(
            metavar="GROUPS",
            help="Have a row for each task, tier, model, prompt, reason or policy, or several "
            "with commas.",
        ),
    ] = "task,tier",
    ids: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Print the ids of the requests behind a column instead."
        ),
    ] = None,
    failures: Annotated[
        bool, typer.Option("--failures", help="List the cheap answers that had to be fixed.")
    ] = False,
    last: Annotated[
        int,
        typer.Option(
            "--last", metavar="COUNT", min=1, max=1000, help="List this many failures, the newest."
        ),
    ] = 100,
    bill: Annotated[
        bool, typer.Option("--bill", help="Say why the bill changed from the period before.")
    ] = False,
    store: StoreUrl = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Show how often answers had to be fixed, what they cost and how long they took, by route."""
    groups = _groups(by)
    _refuse_others(context, ids is not None, failures, bill)
    settings = read_settings(kafka)
    topics = settings.kafka.topics
    now, span = clock.now(), span_of(since, "--since")
    policy = load_rules(settings).policy
    measure = None if ids is None else _measure(ids)
    first = now - (2 * span if bill else span)
    read = [topics.attempts, topics.results, topics.feedback, topics.dead_letters]
    async with read_model(settings, store, read, first) as model:
        begin = model.begin(now - span, now)

        async def figures(of: Sequence[By], *when: datetime) -> tuple[list[Row], Row]:
            return await model.ask(lambda tables: figures_by(tables, of, policy, *when))

        if bill:
            kinds: Sequence[By] = ("task", "tier", "model")
            before, _ = await figures(kinds, model.begin(begin - span, now), begin)
            after, _ = await figures(kinds, begin)
            _print_bill(before, after, as_json)
        elif failures:
            failed, count = await model.ask(
                lambda tables: failures_of(tables, Tier.LOW, begin, last)
            )
            await _print_failures(failed, count, settings, begin, as_json=as_json)
        elif measure is not None:
            await _print_ids(model, measure, begin)
        else:
            by_tier, _ = await figures(("task", "tier"), begin)
            rows, total = await figures(groups, begin)
            wrong = [one.words for one in alarms(by_tier)]
            _print_quality(rows, total, groups, begin, wrong, as_json=as_json)


def _refuse_others(context: typer.Context, ids: bool, failures: bool, bill: bool) -> None:
    if ids + failures + bill > 1:
        msg = "--ids, --failures and --bill are three questions: ask one of them"
        raise UserError(msg)
    if not failures:
        refuse_unread(context, "is for --failures", "last")
    if failures or bill:
        refuse_unread(context, "is for the table and for --ids", "by")


async def _print_ids(model: ReadModel, measure: Measure, begin: datetime) -> None:
    async for row in model.each(requests_behind(Behind(measure, (), None, begin))):
        say(plain(str(RequestKey(*row)), is_line=True))


def _print_quality(
    rows: Sequence[Row],
    total: Row,
    groups: Sequence[By],
    begin: datetime,
    wrong: Sequence[str],
    *,
    as_json: bool,
) -> None:
    if as_json:
        print_json(
            {
                "since": begin.isoformat(),
                "rows": [{**names_of(row, groups), **values_of(row)} for row in rows],
                "total": values_of(total),
                "alarms": list(wrong),
            }
        )
        return
    if not rows:
        console().print(f"no call since {begin.isoformat(timespec='seconds')}")
        return
    columns = [*groups, *(one.name for one in MEASURES)]
    table = [{**names_of(row, groups), **_texts(row)} for row in rows]
    sums = [*table, {groups[0]: "total", **_texts(total)}]
    print_table(sums, columns, optional=_LESS_TELLING)
    for words in wrong:
        console().print(f"! {words}")
    if total.strongest_micros:
        share = total.cost_micros / total.strongest_micros
        console().print(
            f"{share:.0%} of what the same calls would have cost on the strongest model; since "
            f"{begin.isoformat(timespec='seconds')}"
        )


def _print_bill(before: Sequence[Row], after: Sequence[Row], as_json: bool) -> None:
    spent = [sum(row.own_micros for row in rows) for rows in (before, after)]
    steps = steps_between(before, after)
    if as_json:
        told = {one.name: one.micros for one in steps}
        print_json({"before_micros": spent[0], "moved_micros": told, "now_micros": spent[1]})
        return
    rows = [
        {"cause": "before", "moved it by": f"${spent[0] / 1e6:.6f}", "what it is": ""},
        *(
            {
                "cause": one.name,
                "moved it by": f"{'+-'[one.micros < 0]}${abs(one.micros) / 1e6:.6f}",
                "what it is": one.words,
            }
            for one in steps
        ),
        {"cause": "now", "moved it by": f"${spent[1] / 1e6:.6f}", "what it is": ""},
    ]
    print_table(rows, ("cause", "moved it by", "what it is"))


async def _print_failures(
    failed: Sequence[Failure],
    count: int,
    settings: Settings,
    begin: datetime,
    *,
    as_json: bool,
) -> None:
    """The cheap-route failure record: what was asked and said, and what came of it."""
    clients = Clients(settings.kafka)
    earlier = begin - timedelta(days=1)
    with reading_bar() as seen:
        asked = await read_requests(clients, {one.request for one in failed}, earlier, seen)
    with reading_bar() as seen:
        answers = await read_replies(clients, {one.attempt_id for one in failed}, earlier, seen)
    rows = [
        {
            "request": str(one.request),
            "model": one.model,
            "prompt": one.prompt,
            "asked": asked[one.request].text if one.request in asked else "no longer on intake",
            "answered": answers.get(one.attempt_id, "in no topic any more"),
            "fixed by": one.fixed,
            "why": _why(one),
            "then": one.then,
        }
        for one in failed
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, tuple(rows[0]))
    else:
        console().print("no answer of the low tier had to be fixed")
    if count > len(rows):
        say(f"the last {len(rows)} of {count:,}; --last shows more", is_error=True)


def _why(failure: Failure) -> str:
    if failure.reason is None:
        return "it passed every check"
    return f"{failure.reason.meaning}{': ' if failure.detail else ''}{failure.detail}"


def _groups(by: str) -> list[By]:
    known: tuple[By, ...] = get_args(By)
    found = [one for part in by.split(",") for one in known if one == part.strip()]
    if not found or len(found) < len(by.split(",")):
        msg = f"--by {by}: {', '.join(known)} were expected, with commas between them"
        raise UserError(msg)
    return found


def _measure(name: str) -> Measure:
    for one in MEASURES:
        if one.name == name:
            return one
    msg = f"--ids {name}: one of {', '.join(one.name for one in MEASURES)} was expected"
    raise UserError(msg)


def _texts(row: Row) -> dict[str, str]:
    return {one.name: format_value(one, row) for one in MEASURES}
