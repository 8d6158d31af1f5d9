"""The repeats of the intake partitions this process reads, remembered and rebuilt."""

import time
from dataclasses import dataclass, field

import structlog

from consumers import clock
from consumers.runtime.clients import Clients
from consumers.runtime.poison import Guard
from consumers.runtime.reading import Source, records_since, start_of
from consumers.runtime.records import Record, lies_at
from consumers.settings import RepeatSettings
from router.repeats import Repeat, SeenIds
from schemas.codec import text_headers
from schemas.errors import ContractError
from schemas.intake import read_request
from schemas.request import Request

__all__ = ["Repeats"]

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Repeats:
    """Judges request ids by partition."""

    clients: Clients
    settings: RepeatSettings
    guard: Guard = field(default_factory=Guard)
    _seen: dict[int, SeenIds] = field(default_factory=dict)

    async def prepare(self, source: Source, position: int) -> None:
        """Read again what the partition held before `position`, as far back as the window goes."""
        if source.topic != self.clients.settings.topics.intake:
            return
        began = time.monotonic()
        window = self.settings.window.total_seconds()
        seen = self._seen[source.partition] = SeenIds(window, self.settings.most)
        if position == 0:
            return
        since = await start_of(self.clients, source, clock.now().timestamp() - window)
        since = max(since, position - 2 * self.settings.most)
        if since >= position:
            return
        async for record in records_since(self.clients, source, since, until=position):
            if not self.guard.is_poisonous(record):
                with self.guard.on(record):
                    self.judge(record, _read(record))
        _log.info(
            "ids remembered",
            partition=source.partition,
            ids=len(seen),
            seconds=round(time.monotonic() - began, 3),
        )

    def judge(self, record: Record, request: Request | None) -> Repeat:
        """Whether a readable record repeats an earlier one of its partition."""
        seen = self._seen.get(record.partition)
        if seen is None or request is None or request.id == lies_at(record):
            return Repeat.NEW
        return seen.note(request.id, record.value or b"", record.timestamp / 1000)


def _read(record: Record) -> Request | None:
    try:
        return read_request(record.value, text_headers(record.headers), fallback_id=lies_at(record))
    except ContractError:
        return None
