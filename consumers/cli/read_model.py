"""What commands share that ask the read model: which store, and how it comes to be up to date."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated

import typer

from consumers.cli.terminal import reading_bar
from consumers.readmodel.model import ReadModel, opened
from consumers.runtime.clients import Clients
from consumers.settings import Settings
from consumers.texts import say

__all__ = ["StoreUrl", "read_model"]

StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Keep figures in sqlite:///FILE or postgresql://…, to read only what is new.",
    ),
]


@contextlib.asynccontextmanager
async def read_model(
    settings: Settings, store: str | None, topics: Sequence[str], since: datetime | None = None
) -> AsyncIterator[ReadModel]:
    """The read model as of now: in a store, else made of these topics for this once.

    Raises KafkaUnreachableError, OtherTopicsError, StoreAwayError and StoreUnusableError.
    """
    kept = settings.store.url
    url = store or (kept.get_secret_value() if kept else None)
    async with opened(Clients(settings.kafka), url, settings.store.keep) as model:
        with reading_bar() as seen:
            if url is None:
                await model.catch_up(topics, since=since, seen=seen)
            else:
                await model.catch_up(seen=seen)
        yield model
    if url is None:
        hint = "read from the topics for this once; --store sqlite:///FILE keeps what was read"
        say(hint, is_error=True)
