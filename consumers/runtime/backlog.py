"""How much of its topics each group has finished, asked of Kafka every few seconds."""

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
_Work = TypeVar("_Work")
_EVERY_SECONDS = 5.0
_ANSWER_LIMIT = 10.0


async def watch_backlogs(
    clients: Clients,
    groups: Mapping[str, _Work],
    tell: Callable[[_Work, datetime, int, int], None],
) -> None:
    """Tell how many offsets each group has finished and how many are left, until cancelled.

    It goes by the groups' commits alone, not by what processes say of themselves. `groups` holds
    what each group works on.
    """
    while True:
        admin, reader = clients.admin(), clients.reader()
        try:
            await at_most(_ANSWER_LIMIT, admin.start())
            await at_most(_ANSWER_LIMIT, reader.start())
            while True:
                for group, work in groups.items():
                    passed, lag = await at_most(_ANSWER_LIMIT, _backlog(admin, reader, group))
                    tell(work, clock.now(), passed, lag)
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
    """How many offsets are finished and how many are not, in partitions with a commit."""
    commits = await admin.list_consumer_group_offsets(group)
    passed = 0
    for committed in commits.values():
        with contextlib.suppress(ValueError):  # another release's: its watermark counts alone
            completion = Completion.decode(committed.offset, committed.metadata or "")
            above = max(completion.through - completion.watermark, 0)
            passed += above - len(completion.unfinished)
        passed += committed.offset
    ends = await reader.end_offsets(list(commits)) if commits else {}
    return passed, max(sum(ends.values()) - passed, 0)
