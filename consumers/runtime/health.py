"""The health of a process: measured at intervals, answered on a port; a stuck process is ended."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from aiokafka import TopicPartition

from consumers import clock
from consumers.runtime.clients import KAFKA_IS_AWAY
from consumers.runtime.liveness import Answers, LoopLag
from consumers.runtime.metrics import Commit, Instruments, PartitionFigures
from consumers.runtime.partition import Partition
from consumers.runtime.processes import summed
from consumers.runtime.stage import Stage, StageError
from consumers.runtime.watchdog import Alive, Glance, Pulse, Stuck, Watch
from consumers.telemetry.setup import Telemetry
from router.releases.bundle import Bundle
from schemas.status import ModelStatus, RefusedStatus, StageStatus, TopicStatus

__all__ = ["Health", "clock_problem"]

_log = structlog.get_logger(__name__)

_LOOK_EVERY = 2.0
_ANSWER_LIMIT = 3.0
#: Seconds. Deadlines are minutes, and the measurement includes the time of an acknowledgement.
_CLOCKS_MAY_DIFFER = 5.0


@dataclass(slots=True)
class _Watched:
    """One stage, and what the last look at it showed."""

    stage: Stage
    #: Records committed.
    committed: int = 0
    #: Offsets finished, and the watermark of each partition at the last look.
    passed: int = 0
    watermarks: Mapping[TopicPartition, int] = field(default_factory=dict)
    watch: Watch | None = None
    pulse: Pulse = field(default_factory=Alive)
    #: Unread offsets by partition; None while Kafka does not answer.
    unread: Mapping[TopicPartition, int] | None = None
    figures: Sequence[PartitionFigures] = ()

    async def look(self, patience: timedelta) -> None:
        """Measure the stage and judge it."""
        self.unread = await self._ask()
        is_waiting = self.unread is None or await self._is_waiting_for_commits()
        partitions = self.stage.partitions
        unread = sum((self.unread or {}).values())
        glance = Glance(
            now=time.monotonic(),
            lag=unread + sum(partition.unfinished for partition in partitions),
            in_flight=sum(partition.in_flight for partition in partitions),
            moved=self.committed + self.stage.moves(),
            is_kafka_away=is_waiting,
        )
        self.watch = self.watch.next(glance, patience) if self.watch else Watch.begin(glance)
        self.pulse = self.watch.pulse(glance, patience)
        marks = {held.source: held.committed.watermark for held in partitions if held.committed}
        self.passed += sum(
            max(mark - self.watermarks.get(tp, mark), 0) for tp, mark in marks.items()
        )
        self.watermarks = marks
        now_ms = clock.now().timestamp() * 1000
        self.figures = [self._figures(partition, now_ms) for partition in partitions]

    async def _ask(self) -> Mapping[TopicPartition, int] | None:
        if not self.stage.ready.is_set():
            return None
        try:
            async with asyncio.timeout(_ANSWER_LIMIT):
                return await self.stage.unread()
        except KAFKA_IS_AWAY:
            return None

    async def _is_waiting_for_commits(self) -> bool:
        """True while commits fail and the group still counts us in.

        Otherwise nothing would come of waiting: a client that has lost its membership does not say
        so, and others have taken its partitions.
        """
        if not any(partition.is_in_doubt for partition in self.stage.partitions):
            return False
        try:
            async with asyncio.timeout(_ANSWER_LIMIT):
                return await self.stage.is_member()
        except TimeoutError:
            return False

    def _figures(self, partition: Partition, now_ms: float) -> PartitionFigures:
        unread = None if self.unread is None else self.unread.get(partition.source)
        oldest_ms, took = partition.appended.oldest_ms, partition.last_commit_seconds
        return PartitionFigures(
            stage=self.stage.name,
            topic=partition.source.topic,
            partition=partition.source.partition,
            lag=None if unread is None else unread + partition.unfinished,
            oldest_age_seconds=None if oldest_ms is None else max((now_ms - oldest_ms) / 1000, 0.0),
            in_flight=partition.in_flight,
            unfinished=partition.unfinished,
            last_commit_ms=None if took is None else took * 1000,
            committed_offset=partition.committed.watermark if partition.committed else None,
        )

    def status(self) -> StageStatus:
        """The stage's figures, over all of its partitions and by topic."""
        by_topic: dict[str, list[PartitionFigures]] = {}
        for figures in self.figures:
            by_topic.setdefault(figures.topic, []).append(figures)
        return StageStatus(
            stage=self.stage.name,
            partitions=len(self.stage.partitions),
            **summed(self.figures),
            passed=self.passed,
            in_flight=self.stage.running,
            free=self.stage.free,
            topics=[
                TopicStatus(topic=topic, partitions=len(parts), **summed(parts))
                for topic, parts in sorted(by_topic.items())
            ],
        )

    def not_ready(self) -> list[str]:
        """Why the stage cannot do its work now."""
        name = self.stage.name
        if not self.stage.ready.is_set():
            return [f"{name}: waits for its first partitions"]
        reasons = [] if self.stage.has_partitions else [f"{name}: the group moves partitions"]
        if self.unread is None:
            reasons.append(f"{name}: Kafka does not answer")
        failing = [held.source for held in self.stage.partitions if held.is_in_doubt]
        return [*reasons, *(f"{tp.topic}-{tp.partition}: commits fail" for tp in failing)]


class Refused(Protocol):
    """Requests that wait because this process does not have their release."""

    def waiting(self) -> Sequence[RefusedStatus]:
        """How many wait, by tier and release."""

    def words(self) -> Sequence[str]:
        """How many wait, and for what, in words."""


class Released(Protocol):
    """The releases that this process follows."""

    #: The last act about them that it has applied, and since when.
    act: int
    since: datetime | None
    #: Set whenever an act has been applied.
    changed: asyncio.Event
    #: What it applies to new requests.
    active: Bundle

    def problems(self) -> Sequence[str]:
        """What it should apply and cannot, in words."""

    def notes(self) -> Sequence[str]:
        """Why it does not follow them now, in words."""

    def overdue(self) -> Sequence[str]:
        """The reviews and decisions that should have been made by now, in words."""

    def facts(self) -> Mapping[str, object]:
        """What it applies, for `/status`."""


class Health:
    """Watches the stages of a process."""

    def __init__(
        self,
        patience: Callable[[], timedelta],
        releases: Released | None = None,
        *,
        on_stuck: Callable[[], None] = lambda: None,
        telemetry: Telemetry | None = None,
    ) -> None:
        #: True once the process has been told to stop.
        self.is_draining = False
        #: Returns the state of the models that this process calls.
        self.ask_models: Callable[[], Sequence[ModelStatus]] = tuple
        #: Returns what is wrong with the topics.
        self.ask_topics: Callable[[], Sequence[str]] = tuple
        self.releases = releases
        #: What waits for its release.
        self.refusals: Refused | None = None
        #: Seconds that our clock is ahead of Kafka's; None while that is not known.
        self.clock_ahead: float | None = None
        self._patience = patience
        self._on_stuck = on_stuck
        self._watched: list[_Watched] = []
        self._looked_at: float | None = None
        self._latest: Sequence[PartitionFigures] = ()
        self._models: Sequence[ModelStatus] = ()
        self._refused: Sequence[RefusedStatus] = ()
        telemetry = telemetry or Telemetry()
        self._instruments = Instruments(
            telemetry.meter,
            telemetry.counters,
            lambda: self._latest,
            lambda: self._models,
            lambda: self._refused,
            lambda: () if releases is None else (releases.active,),
            lambda: (
                () if releases is None else [(releases.active.policy.name, len(releases.overdue()))]
            ),
        )
        #: How late the event loop was recently.
        self.loop = LoopLag(self._instruments.loop_was_late)

    def watch(self, stage: Stage) -> None:
        """Watch one more stage."""
        watched = _Watched(stage)

        def note(commit: Commit) -> None:
            watched.committed += commit.records
            self._instruments.committed(stage.name, stage.group, commit)

        stage.on_commit(note)
        self._watched.append(watched)

    async def run(self) -> None:
        """Look every two seconds, or more often where patience is short. Raises StageError."""
        while True:
            patience = self._patience()
            async with asyncio.TaskGroup() as tasks:
                for watched in self._watched:
                    tasks.create_task(watched.look(patience))
            self._latest = [figures for watched in self._watched for figures in watched.figures]
            self._models, self._refused = self.ask_models(), self.refused()
            self._looked_at = time.monotonic()
            if stuck := self.not_live():
                _log.error("stage stands still", reasons=stuck)
                self._on_stuck()
                msg = f"{stuck[0]}. Start the process again: it goes on after the last commit."
                raise StageError(msg)
            await asyncio.sleep(min(_LOOK_EVERY, patience.total_seconds() / 5))

    def not_live(self) -> list[str]:
        """Why the process should be started again; empty while it is live."""
        return [
            f"{watched.stage.name}: {watched.pulse.reason}"
            for watched in self._watched
            if isinstance(watched.pulse, Stuck)
        ]

    def not_ready(self) -> list[str]:
        """Why the process does not do all of its work now; empty when it does."""
        draining = ["draining"] if self.is_draining else []
        reasons = [reason for watched in self._watched for reason in watched.not_ready()]
        if self.releases is not None:
            reasons += self.releases.problems()
        clock = clock_problem(self.clock_ahead)
        return [*draining, *self.not_live(), *reasons, *self.ask_topics(), *clock]

    def notes(self) -> Sequence[str]:
        """What waits although this process does its work, and whether it follows releases.

        A new process beside old ones is ready in spite of it: what waits is for the old ones, and a
        rolling update goes on only once the new process is ready.
        """
        waiting = self.refusals.words() if self.refusals is not None else ()
        return [*(self.releases.notes() if self.releases is not None else ()), *waiting]

    def refused(self) -> Sequence[RefusedStatus]:
        """What waits for its release, by tier and release."""
        return self.refusals.waiting() if self.refusals is not None else ()

    def status(self) -> dict[str, object]:
        """The figures of the last look, by stage and partition."""
        ago = None if self._looked_at is None else time.monotonic() - self._looked_at
        return {
            "live": not self.not_live(),
            "ready": not (reasons := self.not_ready()),
            "reasons": reasons,
            "notes": list(self.notes()),
            "release": self.releases.facts() if self.releases is not None else None,
            "seconds_ago": ago,
            "loop_lag_ms": self.loop_lag_ms(),
            "partitions": [asdict(figures) for figures in self._latest],
            "models": [model.model_dump() for model in self._models],
        }

    def answers(self) -> Answers:
        """The answers of the health port, by path."""
        return {
            "/live": _answer("live", self.not_live()),
            "/ready": _answer("ready", self.not_ready(), self.notes()),
            "/status": (200, json.dumps(self.status())),
        }

    def loop_lag_ms(self) -> float | None:
        """The longest that the event loop was late in the last minute."""
        worst = self.loop.worst(time.monotonic())
        return None if worst is None else round(worst * 1000, 1)

    def stages(self) -> list[StageStatus]:
        return [watched.status() for watched in self._watched]


def _answer(what: str, reasons: Sequence[str], notes: Sequence[str] = ()) -> tuple[int, str]:
    body = {what: not reasons, "reasons": reasons, **({"notes": list(notes)} if notes else {})}
    return (503 if reasons else 200), json.dumps(body)


def clock_problem(ahead: float | None) -> list[str]:
    """What is wrong with a clock that is this many seconds ahead of Kafka's, in a sentence."""
    if ahead is None or abs(ahead) <= _CLOCKS_MAY_DIFFER:
        return []
    differs = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} Kafka's"
    return [f"this machine's clock is {differs}, by which deadlines count: correct it"]
