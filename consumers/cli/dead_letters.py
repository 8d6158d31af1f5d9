"""`tierline dead-letters`: list, show and requeue what the machine gave up on."""

import base64
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from consumers.cli.common import (
    AsJson,
    KafkaAddress,
    UserError,
    console,
    plain,
    print_json,
    print_table,
    read_settings,
    run,
)

if TYPE_CHECKING:
    from consumers.runtime.records import Record
    from consumers.settings import Settings
    from schemas.dead_letter import DeadLetter

__all__ = ["app"]

app = typer.Typer(help="List, show and requeue what the machine gave up on.", no_args_is_help=True)

Where = Annotated[
    str, typer.Argument(metavar="ID", help="A request id, or topic-partition-offset as listed.")
]


@app.command("list")
def list_letters(
    reason: Annotated[str | None, typer.Option(help="Only with this reason code.")] = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters: where, which request, why."""

    async def main() -> int:
        settings = read_settings(kafka)
        rows = []
        for record, letter in await _read_all(settings):
            if reason in (None, letter.reason.value):
                rows.append(
                    {
                        "where": f"{record.topic}-{record.partition}-{record.offset}",
                        "request": letter.request_id or "no id",
                        "task": letter.task or "",
                        "reason": letter.reason.value,
                        "detail": letter.detail,
                        "stage": letter.stage,
                        "attempts": len(letter.attempts),
                        "cost_micros": letter.cost_micros,
                        "failed_at": letter.failed_at.isoformat(timespec="seconds"),
                    }
                )
        if as_json:
            print_json(rows)
        elif rows:
            print_table(rows, ("where", "request", "task", "reason", "detail", "attempts"))
        else:
            console().print("no dead letters")
        return 0

    run(main)


@app.command()
def show(where: Where, kafka: KafkaAddress = None, as_json: AsJson = False) -> None:
    """Show one dead letter: the diagnosis, every attempt, and the original bytes."""

    async def main() -> int:
        settings = read_settings(kafka)
        record, letter = await _find(settings, where)
        value = record.value or b""
        if as_json:
            text = value.decode("utf-8", "replace")
            raw = base64.b64encode(value).decode()
            print_json({**letter.model_dump(mode="json"), "value": text, "value_base64": raw})
            return 0
        rows = [
            {"field": name, "value": str(field)}
            for name, field in letter.model_dump(mode="json", exclude={"attempts"}).items()
            if field not in (None, "", [], ())
        ]
        print_table(rows, ("field", "value"), title=letter.reason.meaning)
        attempts = [
            {
                "no": attempt.attempt_no,
                "tier": attempt.tier,
                "model": attempt.model,
                "outcome": attempt.outcome,
                "reason": attempt.reason or "",
                "detail": attempt.detail,
                "reply": attempt.reply or "",
            }
            for attempt in letter.attempts
        ]
        if attempts:
            columns = ("no", "tier", "model", "outcome", "reason", "detail", "reply")
            print_table(attempts, columns, title="attempts")
        sys.stdout.write("original bytes (--json has them untouched):\n")
        sys.stdout.write(plain(value.decode("utf-8", "backslashreplace")) + "\n")
        return 0

    run(main)


@app.command()
def requeue(
    where: Where,
    deadline: Annotated[
        str, typer.Option(help="From now until the new deadline, for example 30s, 15m or 6h.")
    ] = "15m",
    force: Annotated[
        bool, typer.Option("--force", help="Also where a person was to approve: pays again.")
    ] = False,
    kafka: KafkaAddress = None,
) -> None:
    """Send a request through again: same id, next generation, original bytes, a new deadline."""

    async def main() -> int:
        from consumers import clock
        from consumers.runtime.clients import Clients
        from consumers.runtime.reading import publisher
        from consumers.telemetry.setup import TRACES_ONLY, open_telemetry
        from consumers.wiring import load_rules
        from router.requeue import requeued
        from schemas.codec import dump_envelope, passed_on
        from schemas.reasons import Reason

        left = _duration(deadline)
        settings = read_settings(kafka)
        policy = load_rules(settings).policy
        record, letter = await _find(settings, where)
        if letter.reason is Reason.APPROVAL_REQUIRED and not force:
            msg = (
                f"{letter.request_id} has its answer and waits for a person to approve it; sent "
                f"through again it would be paid again and wait again (--force does so)"
            )
            raise UserError(msg)
        await _refuse_older(settings, letter)
        escalation = requeued(letter, policy, clock.now() + left)
        value = dump_envelope(escalation, record.value or b"")
        topics = settings.kafka.topics
        headers = passed_on(record.headers, has_trace=True)
        with open_telemetry(settings.telemetry, topics, TRACES_ONLY) as telemetry:
            async with publisher(Clients(settings.kafka), telemetry.tracing) as out:
                acknowledged = await out.publish(
                    topics.escalations,
                    value,
                    key=record.key,
                    headers=headers,
                    request_id=escalation.id,
                )
                _ = await acknowledged
        console().print(f"{escalation.id} is on its way, generation {escalation.generation}")
        return 0

    run(main)


async def _refuse_older(settings: "Settings", letter: "DeadLetter") -> None:
    """Refuse where a newer generation of the request is on its way already, or has ended."""
    import orjson

    from consumers.runtime.clients import Clients
    from consumers.runtime.reading import topic_reader

    topics = settings.kafka.topics
    newest = letter.generation
    for _, other in await _read_all(settings):
        if other.request_id == letter.request_id:
            newest = max(newest, other.generation)
    later = [topics.results, topics.escalations]
    async with topic_reader(Clients(settings.kafka), later) as reader:
        async for record in reader.until_end():
            fields = orjson.loads(record.value or b"{}")
            if fields.get("id") == letter.request_id:
                where = fields.get("router", fields)
                newest = max(newest, where.get("generation", 1))
    if newest > letter.generation:
        msg = (
            f"{letter.request_id} went through again already: this dead letter is of generation "
            f"{letter.generation}, the newest is {newest}"
        )
        raise UserError(msg)


def _duration(text: str) -> timedelta:
    units = {"s": 1, "m": 60, "h": 3600}
    if text[-1:] not in units or not text[:-1].isdigit():
        msg = f"--deadline {text}: a whole number and s, m or h was expected, for example 15m"
        raise UserError(msg)
    return timedelta(seconds=int(text[:-1]) * units[text[-1]])


async def _read_all(settings: "Settings") -> "list[tuple[Record, DeadLetter]]":
    from consumers.runtime.clients import Clients
    from consumers.runtime.reading import topic_reader
    from schemas.codec import read_dead_letter
    from schemas.errors import ContractError

    async with topic_reader(
        Clients(settings.kafka), [settings.kafka.topics.dead_letters]
    ) as reader:
        found = []
        async for record in reader.until_end():
            try:
                found.append((record, read_dead_letter(record.headers)))
            except ContractError as error:
                place = f"{record.topic}-{record.partition}-{record.offset}"
                sys.stderr.write(f"tierline: {place} is no dead letter of ours: {error.detail}\n")
        return found


async def _find(settings: "Settings", where: str) -> "tuple[Record, DeadLetter]":
    """The dead letter at a place, or the newest one of a request."""
    found = [
        (record, letter)
        for record, letter in await _read_all(settings)
        if where in (letter.request_id, f"{record.topic}-{record.partition}-{record.offset}")
    ]
    if not found:
        msg = f"there is no dead letter {where!r}; `tierline dead-letters list` shows them all"
        raise UserError(msg)
    return max(found, key=lambda pair: pair[1].generation)
