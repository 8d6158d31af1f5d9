"""`tierline sample` and `evals`: answers to read, and reviewed ones as examples."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from typer import Option

from consumers import clock
from consumers.amounts import counted, in_words
from consumers.cli.common import (
    AsJson,
    KafkaAddress,
    StoreUrl,
    UserError,
    asynchronous,
    read_settings,
)
from consumers.cli.read_model import asked_text, read_model
from consumers.cli.terminal import console, print_json, print_table, reading_bar
from consumers.readmodel.answers import answered, kept_answers
from consumers.reports import read_examples, read_requests
from consumers.runtime.clients import Clients
from consumers.texts import escaped, say
from router.reports.samples import week_of
from schemas.json_numbers import as_json as json_of

__all__ = ["evals_app", "sample"]

evals_app = typer.Typer(
    help="Export answers that reviewers have approved, as examples.", no_args_is_help=True
)


@asynchronous
async def sample(
    week: Annotated[
        str | None,
        Option(
            metavar="WEEK", help="Take this week, such as 2026-W48; by default, the last whole one."
        ),
    ] = None,
    count: Annotated[
        int,
        Option("-n", "--count", metavar="COUNT", min=1, max=1000, help="Draw this many requests."),
    ] = 12,
    store: StoreUrl = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Draw some answered requests of a week to read side by side: the same ones for everybody."""
    settings = read_settings(kafka)
    drawn_week = week or week_of(clock.now() - timedelta(days=7))
    begin = _begin_of(drawn_week)
    end = begin + timedelta(days=7)
    async with read_model(settings, store, [settings.kafka.topics.results], begin) as model:
        drawn, offered = await model.ask(
            lambda tables: answered(tables, drawn_week, count, begin, end)
        )
    with reading_bar() as seen:
        earlier, keys = begin - timedelta(days=1), {answer.request for answer in drawn}
        requests = await read_requests(Clients(settings.kafka), keys, earlier, seen)
    rows = [
        {
            "request": str(answer.request),
            "task": answer.task,
            "model": answer.model,
            "asked": asked_text(requests, answer.request),
            "answered": in_words(answer.output),
        }
        for answer in drawn
    ]
    if as_json:
        print_json({"week": drawn_week, "answered": offered, "sample": rows})
    elif rows:
        title = f"{len(rows)} of {offered:,} answered in {drawn_week}"
        print_table(rows, ("request", "task", "model", "asked", "answered"), title=title)
    else:
        console().print(f"no request was answered in {drawn_week}")


@evals_app.command("export")
@asynchronous
async def export_evals(
    all_decisions: Annotated[
        bool,
        Option("--all", help="Print every approved or edited case, not only those that were kept."),
    ] = False,
    store: StoreUrl = None,
    kafka: KafkaAddress = None,
) -> None:
    """Print reviewed cases as JSON Lines: the task, the input and the approved answer."""
    settings = read_settings(kafka)
    topics, count = settings.kafka.topics, 0
    async with read_model(settings, store, [topics.review, topics.results]) as model:
        with reading_bar() as seen:
            examples = read_examples(
                Clients(settings.kafka),
                lambda letters: model.ask(
                    lambda tables: kept_answers(tables, letters, every=all_decisions)
                ),
                seen,
            )
            async for example in examples:
                seen.give_way()
                _ = sys.stdout.write(escaped(json_of(example).decode()) + "\n")
                count += 1
    say(counted(count, "example"), is_error=True)


def _begin_of(week: str) -> datetime:
    try:
        return datetime.strptime(f"{week}-1", "%G-W%V-%u").replace(tzinfo=UTC)
    except ValueError:
        msg = f"--week {week}: a year and a week were expected, for example 2026-W48"
        raise UserError(msg) from None
