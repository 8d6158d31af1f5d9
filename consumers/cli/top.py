"""`tierline top`: every process and every model, from the processes' own status records."""

from datetime import datetime
from typing import Annotated

from rich.console import Group
from rich.live import Live
from typer import Option

from consumers import clock
from consumers.cli.common import AsJson, KafkaAddress, asynchronous, read_settings
from consumers.cli.formats import drawn
from consumers.cli.terminal import console, print_json
from consumers.records import Record, record_ref, why_not_taken
from consumers.runtime.clients import Clients
from consumers.runtime.processes import Processes
from consumers.runtime.status import pass_on
from consumers.runtime.topic_reader import topic_reader

__all__ = ["top"]

_LOOK_SECONDS = 1.0
_PROCESS_COLUMNS = (
    "process", "up", "state", "policy", "loop lag", "stage", "partitions", "lag", "oldest",
    "in flight", "free",
)  # fmt: skip


@asynchronous
async def top(
    once: Annotated[bool, Option("--once", help="Print the tables once and end.")] = False,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Watch all processes: their partitions, their work, and the state of their models."""
    settings = read_settings(kafka)
    out = console()
    processes = Processes()
    unread: set[str] = set()

    def take(record: Record) -> None:
        if why_not_taken(lambda record: pass_on(record, processes), record) is not None:
            unread.add(record_ref(record))

    topics, since = [settings.kafka.topics.status], clock.now() - Processes.gone_after
    async with topic_reader(Clients(settings.kafka), topics, since=since) as reader:
        async for record in reader.until_end():
            take(record)
        if as_json:
            shown = processes.statuses
            print_json([status.model_dump(mode="json", exclude_none=True) for status in shown])
        elif once or not out.is_terminal:
            out.print(_screen(processes, clock.now(), len(unread)))
        else:
            with Live(console=out, screen=True, auto_refresh=False) as live:
                while True:
                    screen = _screen(processes, clock.now(), len(unread))
                    live.update(screen, refresh=True)
                    async for record in reader.follow(_LOOK_SECONDS):
                        take(record)


def _screen(processes: Processes, now: datetime, unread: int) -> Group | str:
    if not (rows := processes.process_rows(now)):
        return "no process has reported in the last five minutes; `tierline up` starts one"
    width = console().width
    title = f"{now:%H:%M:%S} UTC"
    tables = [drawn(rows, _PROCESS_COLUMNS, width=width, title=title)[0]]
    others = filter(None, (processes.topic_rows(now), processes.model_rows(now)))
    tables += [drawn(rows, tuple(rows[0]), width=width)[0] for rows in others]
    if unread:
        tables.append(f"{unread} records on the status topic could not be read")
    return Group(*tables)
