"""What commands that ask the read model share: its store, and how it is brought up to date."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime

from consumers.admissions import admission_of
from consumers.cli.common import UserError
from consumers.cli.terminal import reading_bar
from consumers.readmodel.model import ReadModel, opened
from consumers.runtime.clients import Clients
from consumers.settings import Settings
from consumers.texts import say
from router.reports.measures import By
from schemas.request import Request
from schemas.tenancy import RequestKey

__all__ = ["asked_text", "groups_of", "read_model"]


@contextlib.asynccontextmanager
async def read_model(
    settings: Settings, store: str | None, topics: Sequence[str], since: datetime | None = None
) -> AsyncIterator[ReadModel]:
    """The read model as of now: in a store, else built from these topics for this one command.

    Raises KafkaUnreachableError, OtherTopicsError, StoreAwayError and StoreUnusableError.
    """
    kept = settings.store.url
    url = store or (kept.get_secret_value() if kept else None)
    keep, admission = settings.store.keep, admission_of(settings)
    async with opened(Clients(settings.kafka), url, keep, admission) as model:
        with reading_bar() as seen:
            if url is None:
                await model.catch_up(topics, since=since, seen=seen)
            else:
                await model.catch_up(seen=seen)
        yield model
    if url is None:
        hint = "everything was read from the topics; --store sqlite:///FILE keeps it for next time"
        say(hint, is_error=True)


def groups_of(by: str, names: Sequence[By]) -> list[By]:
    """The groups that `--by` names, each once. Raises UserError."""
    parts = [part.strip() for part in by.split(",")]
    if unknown := [part for part in parts if part not in names]:
        expected = f"one or more of {', '.join(names)} were expected, with commas between"
        msg = f"--by {by}: {unknown[0] or 'a name is missing'}: {expected}"
        raise UserError(msg)
    return [name for part in dict.fromkeys(parts) for name in names if name == part]


def asked_text(requests: Mapping[RequestKey, Request], key: RequestKey) -> str:
    """What a request asked, among those that intake still has."""
    return requests[key].text if key in requests else "intake no longer has it"
