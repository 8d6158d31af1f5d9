"""`tierline results`: what downstream services would read."""

import json
import re
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from consumers.cli.common import (
    MOST_LISTED,
    AsJson,
    KafkaAddress,
    OnlyTask,
    OnlyTenant,
    Reading,
    Since,
    UserError,
    console,
    in_words,
    read_settings,
    reading_bar,
    run,
    shortened,
    span_of,
)
from consumers.cli.texts import say
from consumers.texts import escaped, plain

if TYPE_CHECKING:
    from rich.text import Text

    from consumers.runtime.records import Record
    from consumers.runtime.topic_reader import TopicReader
    from schemas.result import Result

__all__ = ["results"]

#: So much of an answer a line shows at least, and at most where nobody watches.
_LEAST, _MOST = 24, 70


def results(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as results come, until Ctrl-C.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", metavar="COUNT", min=1, help="Stop after so many."),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(
            "--last", metavar="COUNT", min=1, max=MOST_LISTED, help="Print only the newest ones."
        ),
    ] = None,
    since: Since = None,
    task: OnlyTask = None,
    tenant: OnlyTenant = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Print results in the order of time: a line each, or the records themselves as JSON Lines."""
    if last is not None and limit is not None:
        msg = "--last takes the newest results and --limit the oldest: give one of them"
        raise UserError(msg)

    async def main() -> int:
        from consumers import clock
        from consumers.runtime.clients import Clients
        from consumers.runtime.records import record_ref
        from consumers.runtime.topic_reader import topic_reader

        settings = read_settings(kafka)
        begin = None if since is None else clock.now() - span_of(since, "--since")
        topics, count = [settings.kafka.topics.results], 0
        wanted = partial(_is_meant, task=task, tenant=tenant)
        is_all = (task, tenant) == (None, None)
        async with topic_reader(Clients(settings.kafka), topics, since=begin) as reader:
            with reading_bar() as seen:
                records = _records(reader, last, None if is_all else wanted, seen, follow=follow)
                async for record in records:
                    info = None
                    if not as_json or not is_all:
                        if (info := _result(record)) is None or not wanted(info):
                            continue
                    seen.give_way()
                    if as_json or info is None:
                        say_record(record.value or b"", record_ref(record))
                    else:
                        console().print(line_of(record, info, console().width), soft_wrap=True)
                    sys.stdout.flush()
                    count += 1
                    if limit is not None and count >= limit:
                        break
        return 0

    run(main)


async def _records(
    reader: "TopicReader",
    last: int | None,
    wanted: "Callable[[Result], bool] | None",
    seen: "Reading",
    *,
    follow: bool,
) -> "AsyncIterator[Record]":
    """What there is, of the newest `last` those that are wanted; then what comes."""
    newest = deque["Record"](maxlen=last)
    async for record in reader.in_order(seen):
        if last is None:
            yield record
        elif wanted is None or ((info := _result(record)) is not None and wanted(info)):
            newest.append(record)
    seen.end()
    for record in newest:
        yield record
    if follow:
        async for record in reader.follow():
            yield record


def _result(record: "Record") -> "Result | None":
    """The result; None, and a word about it, where it is none."""
    from consumers.runtime.records import record_ref, why_not_taken
    from schemas.codec import read_model
    from schemas.result import Result

    found = []
    why = why_not_taken(lambda one: found.append(read_model(Result, one.value)), record)
    if why is not None:
        say(f"tierline: {record_ref(record)} is no result: {why}", is_error=True)
    return found[0] if found else None


def _is_meant(info: "Result", *, task: str | None, tenant: str | None) -> bool:
    return task in (None, info.router.task) and tenant in (None, info.router.tenant)


def line_of(record: "Record", info: "Result", width: int) -> "Text":
    """A result in a line: when, which request, by whom, what it cost, and what it says."""
    from rich.text import Text

    from consumers.cli.common import dollars
    from consumers.cli.tables import style_of
    from consumers.runtime.records import told_at

    router = info.router
    text = Text(f"{told_at(record):%m-%d %H:%M:%S}  {plain(info.id, is_line=True)}  ")
    text.append(f"{plain(router.task, is_line=True)}  ")
    for no, tier in enumerate(router.path):
        text.append("→" if no else "").append(tier.value, style_of("tier", tier.value))
    text.append(f"  {dollars(router.cost_micros)}  ")
    if router.kind != "answer" or not router.final:
        kind = router.kind if router.final else "interim"
        text.append(f"{kind}  ", style_of("outcome", kind))
    room = _MOST if not sys.stdout.isatty() else max(width - text.cell_len, _LEAST)
    return text.append(shortened(plain(in_words(router.output), is_line=True), room))


def say_record(value: bytes, place: str) -> None:
    """Print a record's JSON in a line of its own, whatever somebody else has written there."""
    text = value.decode("utf-8", "replace")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        say(f"tierline: {place} is no result: it is no JSON", is_error=True)
        return
    # Between the parts of JSON, and nowhere else, there may be ends of lines.
    _ = sys.stdout.write(escaped(re.sub(r"[\r\n]+", " ", text)) + "\n")
