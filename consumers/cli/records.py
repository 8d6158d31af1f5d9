"""Records of topics as commands read them: with a bar, and a line about what is unreadable."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from consumers import clock
from consumers.cli.common import span_of
from consumers.cli.terminal import Reading, reading_bar
from consumers.records import Record, record_ref, why_not_taken
from consumers.runtime.clients import Clients
from consumers.runtime.topic_reader import TopicReader, topic_reader
from consumers.settings import Settings
from consumers.texts import say

__all__ = ["readable", "reading"]

_T = TypeVar("_T")


@contextlib.asynccontextmanager
async def reading(
    settings: Settings, topics: Sequence[str], since: str | None = None
) -> AsyncIterator[tuple[TopicReader, Reading]]:
    """A reader of topics and its bar; `since` is the value of `--since`. Raises UserError."""
    begin = None if since is None else clock.now() - span_of(since, "--since")
    async with topic_reader(Clients(settings.kafka), topics, since=begin) as reader:
        with reading_bar() as seen:
            yield reader, seen


def readable(record: Record, read: Callable[[Record], _T], what: str) -> _T | None:
    """What a record holds; None, and a line on standard error, where it cannot be read.

    Any client may have written it, and one record must not stop a command.
    """
    held: list[_T] = []
    if (why := why_not_taken(lambda record: held.append(read(record)), record)) is not None:
        say(f"tierline: {record_ref(record)} is not {what}: {why}", is_error=True)
    return held[0] if held else None
