"""`tierline quality`: how often answers had to be fixed, and what they cost."""

import heapq
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from consumers.cli.common import (
    AsJson,
    KafkaAddress,
    Reading,
    UserError,
    console,
    print_json,
    print_table,
    read_settings,
    reading_bar,
    refuse_unread,
    run,
    span_of,
)
from consumers.cli.texts import say
from consumers.texts import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumers.runtime.clients import Clients
    from router.reports.bill import Spent
    from router.reports.measures import By, Fixed, Measure, Row
    from router.reports.quality import Tried
    from schemas.tenancy import RequestKey

    #: Whose, the call, who fixed it, and what came next.
    Failure = tuple[RequestKey, Tried, Fixed, str]

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


def quality(  # noqa: PLR0913, PLR0917  an option each
    context: typer.Context,
    since: Annotated[
        str, typer.Option(metavar="SPAN", help="Go back so far, for example 90m, 24h or 7d.")
    ] = "7d",
    by: Annotated[
        str,
        typer.Option(
            metavar="GROUPS",
            help="Have a row for each task, tier, model, prompt or reason, or several with commas.",
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
            "--last", metavar="COUNT", min=1, max=1000, help="List so many failures, the newest."
        ),
    ] = 100,
    bill: Annotated[
        bool, typer.Option("--bill", help="Say why the bill changed, against the time before.")
    ] = False,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Show how often answers had to be fixed, what they cost and how long they took, by route."""
    groups = _groups(by)
    _refuse_others(context, ids is not None, failures, bill)

    async def main() -> int:
        from consumers import clock
        from consumers.reports import quality_parts
        from consumers.rules import load_rules
        from consumers.runtime.clients import Clients
        from router.reports.bill import Spent
        from router.reports.measures import alarms
        from schemas.base import Tier

        settings = read_settings(kafka)
        now, span = clock.now(), span_of(since, "--since")
        policy, begin = load_rules(settings).policy, now - span
        clients, measure = Clients(settings.kafka), None if ids is None else _measure(ids)
        rows: dict[tuple[str, ...], Row] = {}
        by_tier: dict[tuple[str, ...], Row] = {}
        spent = Spent(), Spent()
        failed: list[Failure] = []
        count = 0
        with reading_bar() as seen:
            first = begin - span if bill else begin
            async for part in quality_parts(clients, first, seen=seen):
                if bill:
                    spent[0].add(part.bill(begin - span, begin))
                    spent[1].add(part.bill(begin, now))
                elif failures:
                    found = part.failures([Tier.LOW])
                    count += len(found)
                    newest = heapq.nlargest(last, [*failed, *found], key=_began)
                    failed = sorted(newest, key=_began)
                elif measure is not None:
                    _print_ids(part.table(groups, policy, since=begin)[0], measure, seen)
                else:
                    _merge(rows, part.table(groups, policy, since=begin)[0])
                    _merge(by_tier, part.table(("task", "tier"), policy, since=begin)[0])
                del part  # the next one is made while this one would still be held
        if bill:
            _print_bill(*spent, as_json)
        elif failures:
            await _print_failures(failed, count, clients, begin, as_json=as_json)
        elif measure is None:
            wrong = [one.words for one in alarms(by_tier.values())]
            ordered = sorted(rows.values(), key=lambda row: (-row.cost_micros, row.name))
            _print_quality(ordered, groups, begin, wrong, as_json=as_json)
        return 0

    run(main)


def _refuse_others(context: typer.Context, ids: bool, failures: bool, bill: bool) -> None:
    if ids + failures + bill > 1:
        msg = "--ids, --failures and --bill are three questions: ask one of them"
        raise UserError(msg)
    if not failures:
        refuse_unread(context, "is for --failures", "last")
    if failures or bill:
        refuse_unread(context, "is for the table and for --ids", "by")


def _print_ids(rows: "Sequence[Row]", measure: "Measure", seen: Reading) -> None:
    for id_ in sorted({id_ for row in rows for id_ in measure.ids(row)}):
        seen.give_way()
        say(plain(id_, is_line=True))


def _merge(rows: "dict[tuple[str, ...], Row]", parts: "Sequence[Row]") -> None:
    """Add the figures of a part; whose they are is let go."""
    from router.reports.measures import Row

    for row in parts:
        rows.setdefault(row.name, Row(row.name)).add(row.forget_ids())


def _began(failure: "Failure") -> datetime:
    return failure[1].started_at


def _print_quality(
    rows: "Sequence[Row]",
    groups: "Sequence[By]",
    begin: datetime,
    wrong: "Sequence[str]",
    *,
    as_json: bool,
) -> None:
    from router.reports.measures import MEASURES, Row, names_of, values_of

    total = Row(("total",))
    for row in rows:
        total.add(row)
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


def _print_bill(before: "Spent", after: "Spent", as_json: bool) -> None:
    from router.reports.bill import steps_between

    spent, steps = [before.cost_micros, after.cost_micros], steps_between(before, after)
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
    failed: "Sequence[Failure]", count: int, clients: "Clients", begin: datetime, *, as_json: bool
) -> None:
    """The cheap-route failure record: what was asked and said, and what came of it."""
    from consumers.reports import read_requests, read_said

    earlier = begin - timedelta(days=1)
    with reading_bar() as seen:
        asked = await read_requests(clients, {one[0] for one in failed}, earlier, seen)
    with reading_bar() as seen:
        said = await read_said(clients, {one[1].attempt_id for one in failed}, earlier, seen)
    rows = [
        {
            "request": str(key),
            "model": attempt.model,
            "prompt": attempt.prompt_version,
            "asked": asked[key].text if key in asked else "no longer on intake",
            "answered": said.get(attempt.attempt_id, "in no topic any more"),
            "fixed by": fixed,
            "why": _why(attempt),
            "then": then,
        }
        for key, attempt, fixed, then in failed
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, tuple(rows[0]))
    else:
        console().print("no answer of the low tier had to be fixed")
    if count > len(rows):
        say(f"the last {len(rows)} of {count:,}; --last shows more", is_error=True)


def _why(attempt: Any) -> str:
    if attempt.reason is None:
        return "it passed every check"
    return f"{attempt.reason.meaning}{': ' if attempt.detail else ''}{attempt.detail}"


def _groups(by: str) -> "list[By]":
    from router.reports.measures import By

    known: tuple[By, ...] = get_args(By)
    found = [one for part in by.split(",") for one in known if one == part.strip()]
    if not found or len(found) < len(by.split(",")):
        msg = f"--by {by}: {', '.join(known)} were expected, with commas between them"
        raise UserError(msg)
    return found


def _measure(name: str) -> "Measure":
    from router.reports.measures import MEASURES

    for one in MEASURES:
        if one.name == name:
            return one
    msg = f"--ids {name}: one of {', '.join(one.name for one in MEASURES)} was expected"
    raise UserError(msg)


def _texts(row: "Row") -> dict[str, str]:
    from router.reports.measures import MEASURES, format_value

    return {one.name: format_value(one, row) for one in MEASURES}
