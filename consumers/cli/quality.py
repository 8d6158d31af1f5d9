"""`tierline quality`, `feedback`, `sample` and `evals`: what became of answers."""

import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from consumers.cli.common import (
    AsJson,
    KafkaAddress,
    OfTenant,
    UserError,
    console,
    print_json,
    print_table,
    read_settings,
    run,
)
from consumers.cli.texts import escaped, plain, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.bill import Line
    from router.measures import By, Measure, Row

__all__ = ["evals_app", "feedback", "quality", "sample"]

evals_app = typer.Typer(help="Answers that people have judged, as examples.", no_args_is_help=True)

Since = Annotated[str, typer.Option(help="How far back: 90m, 24h, 7d.")]


def quality(
    since: Since = "7d",
    by: Annotated[
        str, typer.Option(help="Groups: task, tier, model, prompt, reason, or several with commas.")
    ] = "task,tier",
    ids: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Print the requests behind a column instead."),
    ] = None,
    failures: Annotated[
        bool, typer.Option("--failures", help="List the cheap answers that had to be fixed.")
    ] = False,
    bill: Annotated[
        bool, typer.Option("--bill", help="Say why the bill changed, against the time before.")
    ] = False,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """How often answers had to be fixed, what they cost and how long they took, by route."""
    groups = _groups(by)

    async def main() -> int:
        from consumers import clock
        from consumers.reports import read_quality
        from consumers.runtime.clients import Clients
        from consumers.wiring import load_rules
        from router.measures import MEASURES, alarms, names_of, values_of

        settings = read_settings(kafka)
        now = clock.now()
        policy, begin = load_rules(settings).policy, now - _span(since)
        clients = Clients(settings.kafka)
        if bill:
            found = await read_quality(clients, begin - _span(since))
            _print_bill(found.bill(begin - _span(since), begin), found.bill(begin, now), as_json)
            return 0
        found = await read_quality(clients, begin)
        if failures:
            await _print_failures(found, settings, begin, as_json=as_json)
            return 0
        rows, total = found.table(groups, policy, since=begin)
        if ids is not None:
            measure = _measure(ids)
            told = {id_ for row in rows for id_ in measure.ids(row)}
            for id_ in sorted(told):
                say(plain(id_, is_line=True))
            return 0
        wrong = [one.words for one in alarms(found.table(("task", "tier"), policy, since=begin)[0])]
        if as_json:
            print_json(
                {
                    "since": begin.isoformat(),
                    "rows": [{**names_of(row, groups), **values_of(row)} for row in rows],
                    "total": values_of(total),
                    "alarms": wrong,
                }
            )
        elif not rows:
            console().print(f"no call in the last {since}")
        else:
            columns = [*groups, *(one.name for one in MEASURES)]
            table = [{**names_of(row, groups), **_texts(row)} for row in rows]
            print_table([*table, {groups[0]: "total", **_texts(total)}], columns)
            for words in wrong:
                console().print(f"! {words}")
            strongest = total.strongest_micros
            if strongest:
                share = total.cost_micros / strongest
                console().print(
                    f"{share:.0%} of what the same calls had cost on the strongest model; since "
                    f"{begin.isoformat(timespec='seconds')}"
                )
        return 0

    run(main)


def _print_bill(before: "Sequence[Line]", after: "Sequence[Line]", as_json: bool) -> None:
    from router.bill import steps_between

    spent = [sum(line.cost_micros for line in lines) for lines in (before, after)]
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


def feedback(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID")],
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="accepted, edited, regenerated, complaint or abandoned."
        ),
    ],
    comment: Annotated[str | None, typer.Option(help="In words.")] = None,
    generation: Annotated[int, typer.Option(help="Of the request.", min=1)] = 1,
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
        str | None, typer.Option(help="Such as 2026-W48; else the last whole one.")
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=1000)] = 12,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """A few answered requests of a week, for reading side by side: the same for everybody."""

    async def main() -> int:
        from consumers import clock
        from consumers.reports import read_requests
        from consumers.runtime.clients import Clients
        from consumers.runtime.reading import topic_reader
        from consumers.runtime.records import told_at
        from router.samples import drawn, week_of
        from schemas.codec import read_model
        from schemas.errors import ContractError
        from schemas.result import Result

        settings = read_settings(kafka)
        wanted = week or week_of(clock.now() - timedelta(days=7))
        begin = _begin_of(wanted)
        clients, answers = Clients(settings.kafka), {}
        async with topic_reader(clients, [settings.kafka.topics.results], since=begin) as reader:
            async for record in reader.until_end():
                at = told_at(record)
                try:
                    result = read_model(Result, record.value)
                except ContractError:
                    continue
                if result.router.final and week_of(at) == wanted:
                    answers[result.key] = result
        keys = drawn(wanted, ((key, one.router.task) for key, one in answers.items()), count)
        asked = await read_requests(clients, set(keys), begin - timedelta(days=1))
        rows = [
            {
                "request": str(key),
                "task": answers[key].router.task,
                "model": answers[key].router.model,
                "asked": asked[key].text if key in asked else "no longer on intake",
                "answered": answers[key].router.output,
            }
            for key in keys
        ]
        if as_json:
            print_json({"week": wanted, "answered": len(answers), "sample": rows})
        elif rows:
            title = f"{len(rows)} of {len(answers)} answered in {wanted}"
            print_table(rows, ("request", "task", "model", "asked", "answered"), title=title)
        else:
            console().print(f"nothing was answered in {wanted}")
        return 0

    run(main)


@evals_app.command("export")
def export_evals(
    all_decisions: Annotated[
        bool, typer.Option("--all", help="Every approved or edited case, not only the kept ones.")
    ] = False,
    kafka: KafkaAddress = None,
) -> None:
    """Print reviewed cases as JSON Lines: task, input, the answer a person stands for."""

    async def main() -> int:
        import orjson

        from consumers.reports import read_examples
        from consumers.runtime.clients import Clients

        settings = read_settings(kafka)
        count = 0
        async for example in read_examples(Clients(settings.kafka), every=all_decisions):
            _ = sys.stdout.write(escaped(orjson.dumps(example).decode()) + "\n")
            count += 1
        say(f"{count} examples", is_error=True)
        return 0

    run(main)


async def _print_failures(found: Any, settings: Any, begin: datetime, *, as_json: bool) -> None:
    """The cheap-route failure record: what was asked and said, and what came of it."""
    from consumers.reports import read_requests
    from consumers.runtime.clients import Clients
    from schemas.base import Tier

    failed = found.failures([Tier.LOW])
    clients = Clients(settings.kafka)
    asked = await read_requests(clients, {one[0] for one in failed}, begin - timedelta(days=1))
    rows = [
        {
            "request": str(key),
            "model": attempt.model,
            "prompt": attempt.prompt_version,
            "asked": asked[key].text if key in asked else "no longer on intake",
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


def _span(text: str) -> timedelta:
    units = {"m": 60, "h": 3600, "d": 86400}
    if text[-1:] not in units or not text[:-1].isdigit() or not int(text[:-1]):
        msg = f"--since {text}: a whole number and m, h or d was expected, for example 7d"
        raise UserError(msg)
    return timedelta(seconds=min(int(text[:-1]), 10_000) * units[text[-1]])


def _begin_of(week: str) -> datetime:
    from datetime import UTC

    try:
        return datetime.strptime(f"{week}-1", "%G-W%V-%u").replace(tzinfo=UTC)
    except ValueError:
        msg = f"--week {week}: a year and a week were expected, for example 2026-W48"
        raise UserError(msg) from None
