"""`tierline quality`, `feedback`, `sample` and `evals`: what became of answers."""

import heapq
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from consumers.cli.common import (
    AsJson,
    KafkaAddress,
    OfTenant,
    Reading,
    RequestId,
    UserError,
    console,
    counted,
    in_words,
    print_json,
    print_table,
    read_settings,
    reading_bar,
    run,
    span_of,
)
from consumers.cli.texts import say
from consumers.texts import escaped, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumers.runtime.clients import Clients
    from router.bill import Spent
    from router.measures import By, Fixed, Measure, Row
    from router.quality import Tried
    from schemas.tenancy import RequestKey

    #: Whose, the call, who fixed it, and what came next.
    Failure = tuple[RequestKey, Tried, Fixed, str]

__all__ = ["evals_app", "feedback", "quality", "sample"]

evals_app = typer.Typer(
    help="Print answers that people have judged, as examples.", no_args_is_help=True
)

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


def quality(
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

    async def main() -> int:
        from consumers import clock
        from consumers.reports import quality_parts
        from consumers.rules import load_rules
        from consumers.runtime.clients import Clients
        from router.bill import Spent
        from router.measures import alarms
        from schemas.base import Tier

        settings = read_settings(kafka)
        now, span = clock.now(), span_of(since, "--since")
        policy, begin = load_rules(settings).policy, now - span
        clients = Clients(settings.kafka)
        measure = None if ids is None else _measure(ids)
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


def _print_ids(rows: "Sequence[Row]", measure: "Measure", seen: Reading) -> None:
    for id_ in sorted({id_ for row in rows for id_ in measure.ids(row)}):
        seen.give_way()
        say(plain(id_, is_line=True))


def _merge(rows: "dict[tuple[str, ...], Row]", parts: "Sequence[Row]") -> None:
    """Add the figures of a part; whose they are is let go."""
    from router.measures import Row

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
    from router.measures import MEASURES, Row, names_of, values_of

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
    from router.bill import steps_between

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


def feedback(
    request_id: RequestId,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="What came of it: accepted, edited, regenerated, complaint or abandoned.",
        ),
    ],
    comment: Annotated[str | None, typer.Option(metavar="TEXT", help="Say why, in words.")] = None,
    generation: Annotated[
        int, typer.Option(metavar="NUMBER", help="Say which of its generations is meant.", min=1)
    ] = 1,
    tenant: OfTenant = None,
    kafka: KafkaAddress = None,
) -> None:
    """Say what became of an answer, as a downstream service does on `llm.feedback`."""

    async def main() -> int:
        from pydantic import ValidationError

        from consumers import clock
        from consumers.runtime.clients import Clients
        from consumers.runtime.reading import publisher
        from schemas.codec import dump
        from schemas.feedback import Feedback

        fields = {"request_id": request_id, "generation": generation, "kind": kind}
        fields |= {"tenant": tenant} if tenant is not None else {}
        try:
            said = Feedback.model_validate({**fields, "at": clock.now(), "comment": comment})
        except ValidationError as error:
            name = error.errors()[0]["loc"][-1]
            expected = "accepted, edited, regenerated, complaint or abandoned"
            what = f"one of {expected}" if name == "kind" else "printable text without blanks"
            msg = f"{name} {fields.get(str(name))!r}: {what} was expected"
            raise UserError(msg) from None
        settings = read_settings(kafka)
        value = dump(said.model_dump(mode="json", exclude_none=True))
        async with publisher(Clients(settings.kafka)) as out:
            key = said.key.text.encode()
            _ = await (await out.publish(settings.kafka.topics.feedback, value, key=key))
        console().print(f"noted: {request_id} {kind}")
        return 0

    run(main)


def sample(
    week: Annotated[
        str | None,
        typer.Option(
            metavar="WEEK", help="Take this week, such as 2026-W48; else the last whole one."
        ),
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            "-n", "--count", metavar="COUNT", min=1, max=1000, help="Draw so many requests."
        ),
    ] = 12,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Draw some answered requests of a week to read side by side: the same ones for everybody."""

    async def main() -> int:
        from consumers import clock
        from consumers.reports import read_requests
        from consumers.runtime.clients import Clients
        from consumers.runtime.reading import topic_reader
        from consumers.runtime.records import told_at
        from router.samples import Draw, week_of
        from schemas.codec import read_model
        from schemas.errors import ContractError
        from schemas.result import Result

        settings = read_settings(kafka)
        wanted = week or week_of(clock.now() - timedelta(days=7))
        begin = _begin_of(wanted)
        clients, draw = Clients(settings.kafka), Draw(wanted, count)
        results = settings.kafka.topics.results
        async with topic_reader(clients, [results], since=begin) as reader:
            with reading_bar() as seen:
                async for record in reader.until_end(seen):
                    if week_of(told_at(record)) != wanted:
                        continue
                    try:
                        result = read_model(Result, record.value)
                    except ContractError:
                        continue
                    if result.router.final:
                        draw.offer(result.key, result.router.task, result.router)
        drawn = draw.drawn()
        with reading_bar() as seen:
            earlier = begin - timedelta(days=1)
            asked = await read_requests(clients, {key for key, _ in drawn}, earlier, seen)
        rows = [
            {
                "request": str(key),
                "task": info.task,
                "model": info.model,
                "asked": asked[key].text if key in asked else "no longer on intake",
                "answered": in_words(info.output),
            }
            for key, info in drawn
        ]
        if as_json:
            print_json({"week": wanted, "answered": draw.offered, "sample": rows})
        elif rows:
            title = f"{len(rows)} of {draw.offered:,} answered in {wanted}"
            print_table(rows, ("request", "task", "model", "asked", "answered"), title=title)
        else:
            console().print(f"nothing was answered in {wanted}")
        return 0

    run(main)


@evals_app.command("export")
def export_evals(
    all_decisions: Annotated[
        bool,
        typer.Option(
            "--all", help="Print every approved or edited case, not only those that were kept."
        ),
    ] = False,
    kafka: KafkaAddress = None,
) -> None:
    """Print reviewed cases as JSON Lines: task, input, the answer a person stands for."""

    async def main() -> int:
        from consumers.reports import read_examples
        from consumers.runtime.clients import Clients
        from schemas.json_text import as_json

        settings = read_settings(kafka)
        count, clients = 0, Clients(settings.kafka)
        with reading_bar() as seen:
            async for example in read_examples(clients, every=all_decisions, seen=seen):
                seen.give_way()
                _ = sys.stdout.write(escaped(as_json(example).decode()) + "\n")
                count += 1
        say(counted(count, "example"), is_error=True)
        return 0

    run(main)


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
    from router.measures import By

    known: tuple[By, ...] = get_args(By)
    found = [one for part in by.split(",") for one in known if one == part.strip()]
    if not found or len(found) < len(by.split(",")):
        msg = f"--by {by}: {', '.join(known)} were expected, with commas between them"
        raise UserError(msg)
    return found


def _measure(name: str) -> "Measure":
    from router.measures import MEASURES

    for one in MEASURES:
        if one.name == name:
            return one
    msg = f"--ids {name}: one of {', '.join(one.name for one in MEASURES)} was expected"
    raise UserError(msg)


def _texts(row: "Row") -> dict[str, str]:
    from router.measures import MEASURES, told

    return {one.name: told(one, row) for one in MEASURES}


def _begin_of(week: str) -> datetime:
    from datetime import UTC

    try:
        return datetime.strptime(f"{week}-1", "%G-W%V-%u").replace(tzinfo=UTC)
    except ValueError:
        msg = f"--week {week}: a year and a week were expected, for example 2026-W48"
        raise UserError(msg) from None
