"""How much of its topics each group has behind it, by what Kafka holds, asked every few seconds."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from consumers import clock
from consumers.runtime.clients import KAFKA_IS_AWAY, Clients, ended
from consumers.runtime.limits import at_most
from consumers.runtime.offsets import Completion

__all__ = ["watch_backlogs"]

_log = structlog.get_logger(__name__)
_EVERY_SECONDS = 5.0
_ANSWER_LIMIT = 10.0
_T = TypeVar("_T")


async def watch_backlogs(
    clients: Clients, groups: Mapping[str, _T], tell: Callable[[_T, datetime, int, int], None]
) -> None:
    """Tell how many offsets each group has finished by now, and how many not, until cancelled.

    Nothing that a process says of itself is believed here: only owners of the group commit.
    """
    while True:
        admin, reader = clients.admin(), clients.reader()
        try:
            await at_most(_ANSWER_LIMIT, admin.start())
            await at_most(_ANSWER_LIMIT, reader.start())
            while True:
                for group, which in groups.items():
                    found = await at_most(_ANSWER_LIMIT, _backlog(admin, reader, group))
                    tell(which, clock.now(), *found)
                await asyncio.sleep(_EVERY_SECONDS)
        except KAFKA_IS_AWAY as error:
            _log.debug("backlog not read", error=type(error).__name__)
        finally:
            await ended(reader)
            with contextlib.suppress(Exception):
                await at_most(_ANSWER_LIMIT, admin.close())
        await asyncio.sleep(_EVERY_SECONDS)


async def _backlog(
    admin: AIOKafkaAdminClient, reader: AIOKafkaConsumer, group: str
) -> tuple[int, int]:
    """Offsets that are finished, and that are not, where the group has committed."""
    found = await admin.list_consumer_group_offsets(group)
    passed = 0
    for committed in found.values():
        with contextlib.suppress(ValueError):  # of another release: its watermark counts
            done = Completion.decode(committed.offset, committed.metadata or "")
            passed += max(done.through - done.watermark, 0) - len(done.unfinished)
        passed += committed.offset
    ends = await reader.end_offsets(list(found)) if found else {}
    return passed, max(sum(ends.values()) - passed, 0)
