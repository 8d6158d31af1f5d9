"""`tierline top`: every process and every model, from the processes' own status records."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live

from consumers import clock
from consumers.amounts import age
from consumers.cli.common import AsJson, KafkaAddress, asynchronous, read_settings
from consumers.cli.formats import drawn
from consumers.cli.terminal import console, print_json
from consumers.records import Record, record_ref, why_not_taken
from consumers.runtime.clients import Clients
from consumers.runtime.topic_reader import topic_reader
from schemas.codec import read_model
from schemas.status import ModelStatus, Status

__all__ = ["models_of", "noted", "processes_of", "top"]

#: A process without a status for so long is shown as silent, and later not at all.
_SILENT_AFTER, _GONE_AFTER = timedelta(seconds=15), timedelta(minutes=5)
_LOOK_SECONDS = 1.0
#: Why a model may answer fewer calls at once than it is configured for.
_LIMITED = {
    "throttled": "the provider refused more calls at once",
    "slow": "replies became slower with more calls at once",
}
_PROCESS_COLUMNS = (
    "process", "up", "state", "policy", "loop lag", "stage", "partitions", "lag", "oldest",
    "in flight", "free",
)  # fmt: skip
_MODEL_COLUMNS = (
    "model", "provider", "state", "running", "at most", "calls/min", "calls", "failed", "throttled",
)  # fmt: skip


@asynchronous
async def top(
    once: Annotated[bool, typer.Option("--once", help="Print the tables once and end.")] = False,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Watch all processes: their partitions, their work, and the state of their models."""
    settings = read_settings(kafka)
    out = console()
    statuses: dict[str, Status] = {}
    unread: set[str] = set()

    def take(record: Record) -> None:
        if why_not_taken(lambda record: noted(statuses, record), record) is not None:
            unread.add(record_ref(record))

    topics, since = [settings.kafka.topics.status], clock.now() - _GONE_AFTER
    async with topic_reader(Clients(settings.kafka), topics, since=since) as reader:
        async for record in reader.until_end():
            take(record)
        if as_json:
            shown = _by_name(statuses.values())
            print_json([status.model_dump(mode="json", exclude_none=True) for status in shown])
        elif once or not out.is_terminal:
            out.print(_screen(statuses.values(), clock.now(), len(unread)))
        else:
            with Live(console=out, screen=True, auto_refresh=False) as live:
                while True:
                    screen = _screen(statuses.values(), clock.now(), len(unread))
                    live.update(screen, refresh=True)
                    async for record in reader.follow(_LOOK_SECONDS):
                        take(record)


def noted(statuses: dict[str, Status], record: Record) -> None:
    """Take in a record: a process's status, or that it has ended.

    Raises ContractError for anything else.
    """
    if record.value is None:
        statuses.pop((record.key or b"").decode(errors="replace"), None)
        return
    status = read_model(Status, record.value)
    statuses[status.process] = status


def processes_of(statuses: Iterable[Status], now: datetime) -> list[dict[str, object]]:
    """The rows of the table of processes: one per process and stage."""
    rows = []
    for status in _by_name(statuses):
        silent = now - status.at
        if silent >= _GONE_AFTER:
            continue
        state = "; ".join(status.reasons) or "works"
        if silent > _SILENT_AFTER:
            state = f"silent for {age(silent.total_seconds())}"
        process: dict[str, object] = {
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
                "lag": "?" if stage.lag is None else stage.lag,
                "oldest": "" if (oldest := stage.oldest_age_seconds) is None else age(oldest),
                "in flight": stage.in_flight,
                "free": stage.free,
            }
            for number, stage in enumerate(status.stages)
        ] or [process]
    return rows


def models_of(statuses: Iterable[Status], now: datetime) -> list[dict[str, object]]:
    """The rows of the table of models: one per model, over all processes that are not silent."""
    by_model: dict[tuple[str, str], list[ModelStatus]] = {}
    for status in statuses:
        if now - status.at <= _SILENT_AFTER:
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


def _policy(status: Status) -> str:
    digest = f" ({status.policy_digest})" if status.policy_digest else ""
    return f"{status.policy_version or ''}{digest}"


def _state(models: Sequence[ModelStatus]) -> str:
    waiting = [model for model in models if model.wait_seconds > 0]
    if not waiting:
        if not all(model.breaker == "closed" for model in models):
            return "tried next"
        limits = {model.limited_by for model in models}
        return ", ".join(["well", *(text for why, text in _LIMITED.items() if why in limits)])
    soonest = min(model.wait_seconds for model in waiting)
    where = f" in {len(waiting)} of {len(models)}" if len(models) > 1 else ""
    return f"out{where}, tried in {age(soonest)}"


def _by_name(statuses: Iterable[Status]) -> list[Status]:
    return sorted(statuses, key=lambda status: status.process)


def _screen(statuses: Iterable[Status], now: datetime, unread: int) -> Group | str:
    statuses = list(statuses)
    processes: Sequence[Mapping[str, object]] = processes_of(statuses, now)
    if not processes:
        return "no process has reported in the last five minutes; `tierline up` starts one"
    width = console().width
    title = f"{now:%H:%M:%S} UTC"
    tables = [drawn(processes, _PROCESS_COLUMNS, width=width, title=title)[0]]
    if models := models_of(statuses, now):
        tables.append(drawn(models, _MODEL_COLUMNS, width=width)[0])
    if unread:
        tables.append(f"{unread} records on the status topic could not be read")
    return Group(*tables)
