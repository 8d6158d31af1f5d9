"""What all processes report about themselves, for `tierline top` and the console's flow page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar, Protocol, TypedDict

from consumers.amounts import age
from schemas.status import ModelStatus, Status, TaskBreaker, TopicStatus

__all__ = ["Processes", "summed"]

#: A process without a status for so long is shown as silent, and later not at all.
_SILENT_AFTER, _GONE_AFTER = timedelta(seconds=15), timedelta(minutes=5)
#: The most that are held: whatever is killed and started again has another name each time.
_MOST_HELD = 1_000
#: Why a model may answer fewer calls at once than it is configured for.
_LIMITED = {
    "throttled": "the provider refused more calls at once",
    "slow": "replies became slower with more calls at once",
}

Row = dict[str, object]


class _Part(Protocol):
    """What a partition, or several, have to do."""

    @property
    def lag(self) -> int | None: ...

    @property
    def oldest_age_seconds(self) -> float | None: ...


class Summed(TypedDict):
    """What several of them have to do together."""

    lag: int | None
    oldest_age_seconds: float | None


def summed(parts: Iterable[_Part]) -> Summed:
    """The lag and the oldest age of several; no lag where that of one is not known."""
    parts = list(parts)
    lags = [part.lag for part in parts]
    ages = [part.oldest_age_seconds for part in parts]
    return {
        "lag": None if None in lags else sum(lag or 0 for lag in lags),
        "oldest_age_seconds": max((age for age in ages if age is not None), default=None),
    }


@dataclass(slots=True)
class Processes:
    """The last status of each process that has not said that it has ended."""

    #: How far back the status of a process is worth reading.
    gone_after: ClassVar[timedelta] = _GONE_AFTER
    #: The stages that the policy needs.
    needed: Sequence[str] = ()
    _statuses: dict[str, Status] = field(default_factory=dict)
    #: What is left to do for each stage, by the commits of its group.
    _backlogs: dict[str, int] = field(default_factory=dict)

    def heard(self, status: Status) -> None:
        """Take the status of a process."""
        self._statuses[status.process] = status
        if len(self._statuses) > _MOST_HELD:
            del self._statuses[min(self._statuses, key=lambda name: self._statuses[name].at)]

    def ended(self, process: str) -> None:
        """Forget a process that has announced its end."""
        self._statuses.pop(process, None)

    def note_backlog(self, stage: str, _: datetime, passed: int, lag: int) -> None:
        """Take how much a stage has finished and how much is left; of no commits, nothing."""
        if passed or lag:
            self._backlogs[stage] = lag

    @property
    def statuses(self) -> Sequence[Status]:
        """The last status of each, by name."""
        return [self._statuses[name] for name in sorted(self._statuses)]

    def process_rows(self, now: datetime) -> list[Row]:
        """One row per process and stage."""
        rows = []
        for status in self.statuses:
            silent = now - status.at
            if silent >= _GONE_AFTER:
                continue
            state = "; ".join(status.reasons) or "works"
            if silent > _SILENT_AFTER:
                state = f"silent for {age(silent.total_seconds())}"
            process: Row = {
                "process": status.process,
                "up": age((now - status.started_at).total_seconds()),
                "state": state,
                "policy": _policy(status),
                "loop lag": "" if (lag := status.loop_lag_ms) is None else f"{lag:.0f} ms",
            }
            rows += [
                {
                    **(process if not number else {}),
                    "stage": stage.stage,
                    "partitions": stage.partitions,
                    **_shown(summed([stage])),
                    "in flight": stage.in_flight,
                    "free": stage.free,
                }
                for number, stage in enumerate(status.stages)
            ] or [process]
        return rows

    def topic_rows(self, now: datetime) -> list[Row]:
        """One row per stage and topic that it reads, over all processes that are not silent."""
        by_topic: dict[tuple[str, str], list[TopicStatus]] = {}
        for status in self._current(now):
            for stage in status.stages:
                for topic in stage.topics:
                    by_topic.setdefault((stage.stage, topic.topic), []).append(topic)
        return [
            {
                "topic": topic,
                "stage": stage,
                "partitions": sum(part.partitions for part in parts),
                **_shown(summed(parts)),
            }
            for (stage, topic), parts in sorted(by_topic.items())
        ]

    def model_rows(self, now: datetime) -> list[Row]:
        """One row per model, over all processes that are not silent."""
        by_model: dict[tuple[str, str], list[ModelStatus]] = {}
        for status in self._current(now):
            for model in status.models:
                by_model.setdefault((model.provider, model.model), []).append(model)
        return [
            {
                "model": name,
                "provider": provider,
                "state": _state(models),
                "running": sum(model.running for model in models),
                "at most": sum(model.most_running for model in models),
                "calls/min": round(sum(model.calls_per_minute for model in models)),
                "calls": sum(model.calls for model in models),
                "failed": sum(model.failures for model in models),
                "throttled": sum(model.throttled for model in models),
            }
            for (provider, name), models in sorted(by_model.items())
        ]

    def missing(self, now: datetime) -> dict[str, int | None]:
        """Needed stages that no process runs, with their backlog; None: it is not known."""
        run = {stage.stage for status in self._current(now) for stage in status.stages}
        return {stage: self._backlogs.get(stage) for stage in self.needed if stage not in run}

    def _current(self, now: datetime) -> list[Status]:
        return [status for status in self.statuses if now - status.at <= _SILENT_AFTER]


def _policy(status: Status) -> str:
    digest = f" ({status.policy_digest})" if status.policy_digest else ""
    return f"{status.policy_version or ''}{digest}"


def _state(models: Sequence[ModelStatus]) -> str:
    """How a model is, and for which tasks with a breaker of their own it is otherwise."""
    state, limits = _health(models), {model.limited_by for model in models}
    words = [text for why, text in _LIMITED.items() if why in limits and state == "well"]
    by_task: dict[str, list[TaskBreaker]] = {}
    for own in (own for model in models for own in model.apart):
        by_task.setdefault(own.task, []).append(own)
    apart = [(task, _health(owns)) for task, owns in sorted(by_task.items())]
    tasks = [f"for {task}: {other}" for task, other in apart if other != state]
    return "; ".join([", ".join([state, *words]), *tasks])


def _health(parts: Sequence[ModelStatus | TaskBreaker]) -> str:
    """How a model is by its breakers in several processes."""
    waiting = [part for part in parts if part.wait_seconds > 0]
    if not waiting:
        return "well" if all(part.breaker == "closed" for part in parts) else "tried next"
    soonest = min(part.wait_seconds for part in waiting)
    where = f" in {len(waiting)} of {len(parts)}" if len(parts) > 1 else ""
    return f"out{where}, tried in {age(soonest)}"


def _shown(summed_up: Summed) -> Row:
    lag, oldest = summed_up["lag"], summed_up["oldest_age_seconds"]
    return {"lag": "?" if lag is None else lag, "oldest": "" if oldest is None else age(oldest)}
