"""`tierline submit`: publish requests from a file, standard input or the command line."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consumers.cli.common import FAILED, KafkaAddress, UserError, console, read_settings, run

if TYPE_CHECKING:
    from consumers.runtime.clients import Clients
    from consumers.settings import Settings

__all__ = ["key_of", "submit"]


def submit(
    what: Annotated[
        str, typer.Argument(metavar="FILE|TEXT|-", help="JSON Lines, a Batch file, - or a prompt.")
    ],
    task: Annotated[str | None, typer.Option(help="The task of a prompt given as text.")] = None,
    plan: Annotated[str | None, typer.Option(help="The plan of a prompt given as text.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for every result or dead letter.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 300,
    kafka: KafkaAddress = None,
) -> None:
    """Publish requests to intake: a file of JSON Lines or Batch lines, standard input, or a prompt.

    Every line is sent as it stands: what is wrong with one becomes its dead letter.
    """

    async def main() -> int:
        from consumers import clock
        from consumers.runtime.clients import Clients

        settings = read_settings(kafka)
        lines = _lines(what, task, plan)
        clients = Clients(settings.kafka)
        began = clock.now()
        ids = await _publish(lines, clients, settings)
        console().print(f"{len(lines)} requests published", markup=False)
        if not wait:
            return 0
        left = await _await_all(ids, clients, settings, timeout)
        if left:
            took = (clock.now() - began).total_seconds()
            console().print(f"{len(left)} are still on their way after {took:.0f} s", markup=False)
        return FAILED if left else 0

    run(main)


def _lines(what: str, task: str | None, plan: str | None) -> list[bytes]:
    import uuid

    import orjson

    if what == "-":
        return [line for line in sys.stdin.buffer.read().splitlines() if line.strip()]
    path = Path(what)
    if _is_file(path):
        return [line for line in path.read_bytes().splitlines() if line.strip()]
    if what.endswith((".jsonl", ".json", ".ndjson")):
        msg = f"{what}: there is no such file"
        raise UserError(msg)
    fields = {"id": f"cli-{uuid.uuid4().hex[:12]}", "input": what, "task": task, "plan": plan}
    return [orjson.dumps({name: value for name, value in fields.items() if value is not None})]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a long prompt is no file name
        return False


async def _publish(lines: list[bytes], clients: "Clients", settings: "Settings") -> set[str]:
    """Publish every line; the ids by which their outcomes will be known."""
    from rich.progress import track

    from consumers.runtime.reading import publisher

    intake, ids = settings.kafka.topics.intake, set()
    async with publisher(clients) as out:
        queued = []
        for number, line in enumerate(
            track(lines, "publishing", console=console(), transient=True)
        ):
            queued.append((line, await out.publish(intake, line, key=key_of(line, number))))
        for line, acknowledged in queued:
            where = await acknowledged
            ids.add(_id(line) or f"{intake}-{where.partition}-{where.offset}")  # type: ignore[attr-defined]
    return ids


async def _await_all(
    ids: set[str], clients: "Clients", settings: "Settings", limit: float
) -> set[str]:
    """Wait for the outcome of every id; those without one when the time is up."""
    from rich.progress import Progress

    from consumers.runtime.reading import topic_reader
    from schemas.codec import text_headers

    topics, left = settings.kafka.topics, set(ids)
    names = [topics.results, topics.dead_letters]
    with Progress(console=console(), transient=True) as bar:
        done = bar.add_task("waiting for outcomes", total=len(left))
        async with topic_reader(clients, names) as reader:
            async for record in reader.follow(limit):
                headers = text_headers(record.headers)
                if record.topic == topics.results:
                    left.discard(_id(record.value or b"") or "")
                else:
                    where = (
                        f"{headers.get('tierline-topic')}-{headers.get('tierline-partition')}-"
                        f"{headers.get('tierline-offset')}"
                    )
                    left -= {headers.get("tierline-request-id", ""), where}
                bar.update(done, completed=len(ids) - len(left))
                if not left:
                    break
    return left


def key_of(line: bytes, number: int) -> bytes:
    """Conversation id, else request id; a line that has neither goes anywhere."""
    import orjson

    try:
        fields = orjson.loads(line)
        key = fields.get("conversation_id") or fields.get("id") or fields.get("custom_id")
    except (orjson.JSONDecodeError, AttributeError):
        key = None
    return str(key or number).encode()


def _id(line: bytes) -> str | None:
    import orjson

    try:
        fields = orjson.loads(line)
        found = fields.get("id") or fields.get("custom_id")
    except (orjson.JSONDecodeError, AttributeError):
        return None
    return str(found) if found else None
