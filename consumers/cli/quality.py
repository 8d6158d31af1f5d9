"""`tierline quality`: how often answers had to be fixed, and what they cost."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

import typer

from consumers import clock
from consumers.cli.common import (
    AsJson,
    KafkaAddress,
    StoreUrl,
    UserError,
    asynchronous,
    read_settings,
    refuse_unread,
    span_of,
)
from consumers.cli.read_model import asked_text, groups_of, read_model
from consumers.cli.terminal import console, print_json, print_table, reading_bar
from consumers.policy_file import read_policy
from consumers.readmodel.model import ReadModel
from consumers.readmodel.queries import Behind, Failure, figures_by, requests_behind
from consumers.readmodel.queries import failures as failures_of
from consumers.reports import read_replies, read_requests
from consumers.runtime.clients import Clients
from consumers.settings import Settings
from consumers.texts import plain, say
from router.reports.measures import (
    MEASURES,
    QUALITY_GROUPS,
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


#: Columns that are left out on a narrow terminal, the first named first.
_OPTIONAL = (
    *("schema", "abandoned", "refused", "own calls", "by model", "by check", "person p50"),
    *("person p95", "p50", "by person", "completed", "escalated", "p95", "per completed"),
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
            help="Print a row for each task, tier, model, prompt, reason or policy, or for several "
            "of them, with commas between.",
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
    store: StoreUrl = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Show how often answers had to be fixed, what they cost and how long they took, by route."""
    groups = groups_of(by, QUALITY_GROUPS)
    _refuse_others(context, ids is not None, failures)
    settings = read_settings(kafka)
    now, span = clock.now(), span_of(since, "--since")
    policy = read_policy(settings)
    measure = None if ids is None else _measure(ids)
    async with read_model(settings, store, settings.kafka.topics.of_figures, now - span) as model:
        begin = model.begin(now - span, now)

        async def figures(of: Sequence[By]) -> tuple[list[Row], Row]:
            return await model.ask(lambda tables: figures_by(tables, of, policy, begin))

        if failures:
            failed, count = await model.ask(
                lambda tables: failures_of(tables, Tier.LOW, begin, last)
            )
            await _print_failures(failed, count, settings, begin, as_json=as_json)
        elif measure is not None:
            await _print_ids(model, measure, begin)
        else:
            by_tier, _ = await figures(("task", "tier"))
            rows, total = await figures(groups)
            warnings = [alarm.words for alarm in alarms(by_tier)]
            _print_quality(rows, total, groups, begin, warnings, as_json=as_json)


def _refuse_others(context: typer.Context, ids: bool, failures: bool) -> None:
    if ids and failures:
        msg = "--ids and --failures print different things: give one of them"
        raise UserError(msg)
    if not failures:
        refuse_unread(context, "is for --failures", "last")
    if failures:
        refuse_unread(context, "is for the table and for --ids", "by")


async def _print_ids(model: ReadModel, measure: Measure, begin: datetime) -> None:
    async for row in model.each(requests_behind(Behind(measure.outcome, {}, begin))):
        say(plain(str(RequestKey(*row)), is_line=True))


def _print_quality(
    rows: Sequence[Row],
    total: Row,
    groups: Sequence[By],
    begin: datetime,
    warnings: Sequence[str],
    *,
    as_json: bool,
) -> None:
    if as_json:
        print_json(
            {
                "since": begin.isoformat(),
                "rows": [{**names_of(row, groups), **values_of(row)} for row in rows],
                "total": values_of(total),
                "alarms": list(warnings),
            }
        )
        return
    if not rows:
        console().print(f"no call since {begin.isoformat(timespec='seconds')}")
        return
    columns = [*groups, *(measure.name for measure in MEASURES)]
    table = [{**names_of(row, groups), **_texts(row)} for row in rows]
    sums = [*table, {groups[0]: "total", **_texts(total)}]
    print_table(sums, columns, optional=_OPTIONAL)
    for words in warnings:
        console().print(f"! {words}")
    if total.strongest_micros:
        share = total.cost_micros / total.strongest_micros
        console().print(
            f"{share:.0%} of what the same calls would have cost on the strongest model; since "
            f"{begin.isoformat(timespec='seconds')}"
        )


async def _print_failures(
    failed: Sequence[Failure],
    count: int,
    settings: Settings,
    begin: datetime,
    *,
    as_json: bool,
) -> None:
    """The cheap answers that had to be fixed: what was asked and answered, and what followed."""
    clients = Clients(settings.kafka)
    earlier = begin - timedelta(days=1)
    keys = {failure.request for failure in failed}
    attempts = {failure.attempt_id for failure in failed}
    with reading_bar() as seen:
        requests = await read_requests(clients, keys, earlier, seen)
    with reading_bar() as seen:
        answers = await read_replies(clients, attempts, earlier, seen)
    rows = [
        {
            "request": str(failure.request),
            "model": failure.model,
            "prompt": failure.prompt,
            "asked": asked_text(requests, failure.request),
            "answered": answers.get(failure.attempt_id, "no topic has it any longer"),
            "fixed by": failure.fixed,
            "why": _why(failure),
            "then": failure.then,
        }
        for failure in failed
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, tuple(rows[0]))
    else:
        console().print("no answer of the low tier had to be fixed")
    if count > len(rows):
        say(f"these are the newest {len(rows)} of {count:,}; --last shows more", is_error=True)


def _why(failure: Failure) -> str:
    if failure.reason is None:
        return "it passed every check"
    return f"{failure.reason.meaning}{': ' if failure.detail else ''}{failure.detail}"


def _measure(name: str) -> Measure:
    for measure in MEASURES:
        if measure.name == name:
            return measure
    msg = f"--ids {name}: one of {', '.join(measure.name for measure in MEASURES)} was expected"
    raise UserError(msg)


def _texts(row: Row) -> dict[str, str]:
    return {measure.name: format_value(measure, row) for measure in MEASURES}
