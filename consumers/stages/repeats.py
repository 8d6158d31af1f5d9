"""The request ids of the intake partitions that this process reads, remembered and rebuilt."""

import time
from dataclasses import dataclass, field

import structlog

from consumers import clock
from consumers.policies import Policies
from consumers.records import Record, Source, appended_at, partition_of, record_ref, why_not_taken
from consumers.runtime.clients import Clients
from consumers.runtime.offset_lookup import records_since, start_of
from consumers.runtime.poison import Guard
from consumers.settings import RepeatSettings
from router.intake.admission import Admission
from router.intake.repeats import Repeat, SeenIds
from schemas.errors import ContractError
from schemas.request import Request

__all__ = ["Repeats"]

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Repeats:
    """Sees by partition whether a request id is a repeat."""

    clients: Clients
    settings: RepeatSettings
    policies: Policies
    admission: Admission = field(default_factory=Admission)
    guard: Guard = field(default_factory=Guard)
    _seen: dict[Source, SeenIds] = field(default_factory=dict)

    async def prepare(self, source: Source, position: int) -> None:
        """Read again what the partition held before `position`, as far back as the window goes."""
        if not self.clients.settings.topics.is_intake(source.topic):
            return
        began = time.monotonic()
        window = self.settings.window.total_seconds()
        seen = self._seen[source] = SeenIds(window, self.settings.most)
        if position == 0:
            return
        since = await start_of(self.clients, source, clock.now().timestamp() - window)
        since = max(since, position - 2 * self.settings.most)
        if since >= position:
            return
        async for record in records_since(self.clients, source, since, until=position):
            if self.guard.is_poisonous(record):
                continue
            with self.guard.on(record):
                why = why_not_taken(self._remember, record)
            if why is not None:
                _log.warning("no request", place=record_ref(record), why=why)
        _log.info(
            "ids remembered",
            partition=source.partition,
            ids=len(seen),
            seconds=round(time.monotonic() - began, 3),
        )

    def _remember(self, record: Record) -> None:
        self.judge(record, self._read(record))

    def judge(self, record: Record, request: Request | None) -> Repeat:
        """Whether a readable record repeats an earlier one of its partition."""
        seen = self._seen.get(partition_of(record))
        if seen is None or request is None or request.id == record_ref(record):
            return Repeat.NEW
        # A time in the future would make all that is remembered too old.
        at = appended_at(record, clock.now()).timestamp()
        return seen.note(request.key, record.value or b"", at)

    def _read(self, record: Record) -> Request | None:
        """The request as route admitted it; None where it did not."""
        at, fallback = appended_at(record, clock.now()), record_ref(record)
        try:
            return self.admission.admit(
                record.topic,
                record.value,
                record.headers,
                self.policies.active.policy,
                at=at,
                fallback_id=fallback,
            ).request
        except ContractError:
            return None
