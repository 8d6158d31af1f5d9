"""`tierline results`: the results as downstream services would read them."""

import json
import re
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from rich.text import Text
from typer import Option

from consumers.amounts import dollars, in_words, shortened
from consumers.cli.common import (
    MOST_LISTED,
    AsJson,
    KafkaAddress,
    OnlyTask,
    OnlyTenant,
    Since,
    UserError,
    asynchronous,
    read_settings,
)
from consumers.cli.formats import style_of
from consumers.cli.records import readable, reading
from consumers.cli.terminal import Reading, console
from consumers.records import Record, record_ref, told_at
from consumers.runtime.topic_reader import TopicReader
from consumers.texts import escaped, plain, say
from schemas.codec import read_model
from schemas.result import Result

__all__ = ["results"]

#: Characters of an answer in a line: at least, and at most where the output is no terminal.
_LEAST, _MOST = 24, 70


@asynchronous
async def results(
    follow: Annotated[
        bool, Option("--follow", "-f", help="Keep printing results as they come, until Ctrl-C.")
    ] = False,
    limit: Annotated[
        int | None, Option("--limit", "-n", metavar="COUNT", min=1, help="Stop after this many.")
    ] = None,
    last: Annotated[
        int | None,
        Option(
            "--last",
            metavar="COUNT",
            min=1,
            max=MOST_LISTED,
            help="Print only this many, the newest.",
        ),
    ] = None,
    since: Since = None,
    task: OnlyTask = None,
    tenant: OnlyTenant = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Print results in order of time: one per line, or the records themselves as JSON Lines."""
    if last is not None and limit is not None:
        msg = "--last takes the newest results and --limit the oldest: give one of them"
        raise UserError(msg)

    settings = read_settings(kafka)
    # JSON output without a filter prints the records unchanged, readable or not.
    is_all = (task, tenant) == (None, None)
    is_raw, count = as_json and is_all, 0

    def matching(record: Record) -> Result | None:
        result = readable(record, _read, "a result")
        if result is None or task not in (None, result.router.task):
            return None
        return result if tenant in (None, result.router.tenant) else None

    async with reading(settings, [settings.kafka.topics.results], since) as (reader, seen):
        select = None if is_all else matching
        async for record in _records(reader, last, select, seen, follow=follow):
            result = None if is_raw else matching(record)
            if result is None and not is_raw:
                continue
            seen.give_way()
            if as_json or result is None:
                say_record(record.value or b"", record_ref(record))
            else:
                console().print(line_of(record, result, console().width), soft_wrap=True)
            sys.stdout.flush()
            count += 1
            if limit is not None and count >= limit:
                break
        if not count:
            narrowed = (task, tenant, since) != (None, None, None)
            say(f"tierline: no results{' match' if narrowed else ' yet'}", is_error=True)


def _read(record: Record) -> Result:
    return read_model(Result, record.value)


async def _records(
    reader: TopicReader,
    last: int | None,
    select: Callable[[Record], Result | None] | None,
    seen: Reading,
    *,
    follow: bool,
) -> AsyncIterator[Record]:
    """The records there are, or the newest `last` that `select` takes; then new ones."""
    newest = deque[Record](maxlen=last)
    async for record in reader.in_order(seen):
        if last is None:
            yield record
        elif select is None or select(record) is not None:
            newest.append(record)
    seen.end()
    for record in newest:
        yield record
    if follow:
        async for record in reader.follow():
            yield record


def line_of(record: Record, result: Result, width: int) -> Text:
    """A result in a line: its time, request, task, tiers, cost and answer."""
    router = result.router
    text = Text(f"{told_at(record):%m-%d %H:%M:%S}  {plain(result.id, is_line=True)}  ")
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
    """Print a record's JSON in one line, however its writer has laid it out."""
    text = value.decode("utf-8", "replace")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        say(f"tierline: {place} is not a result: it is not JSON", is_error=True)
        return
    # JSON has line ends between its parts, and nowhere else.
    _ = sys.stdout.write(escaped(re.sub(r"[\r\n]+", " ", text)) + "\n")
