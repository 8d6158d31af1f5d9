"""`tierline dead-letters`: list, show and requeue what the machine gave up on."""

import base64
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from consumers.cli.common import (
    AsJson,
    KafkaAddress,
    OfTenant,
    UserError,
    console,
    print_json,
    print_table,
    read_settings,
    reading_bar,
    run,
    span_of,
)
from consumers.cli.texts import say
from consumers.runtime.records import Record, lies_at, why_not_taken

if TYPE_CHECKING:
    from consumers.settings import Settings
    from schemas.dead_letter import DeadLetter
    from schemas.review import AuditLine

__all__ = ["app"]

app = typer.Typer(help="List, show and requeue what the machine gave up on.", no_args_is_help=True)

Where = Annotated[
    str, typer.Argument(metavar="ID", help="A request id, or topic-partition-offset as listed.")
]


@app.command("list")
def list_letters(
    reason: Annotated[str | None, typer.Option(help="Only with this reason code.")] = None,
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only of this time: 90s, 15m, 24h or 7d back.")
    ] = None,
    last: Annotated[
        int, typer.Option("--last", min=1, max=10_000, help="How many, the newest ones.")
    ] = 100,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters in the order of time: which request, why, and what a person has decided."""

    async def main() -> int:
        from consumers.cli.journey import dollars

        settings = read_settings(kafka)
        wanted = _Wanted(reason, task, tenant)
        newest: deque[tuple[Record, DeadLetter]] = deque(maxlen=last)
        count = 0
        async for record, letter in _letters(settings, since):
            if wanted.takes(letter):
                newest.append((record, letter))
                count += 1
        decided = await _decided(settings, {lies_at(record) for record, _ in newest})
        rows = [_row(record, letter, decided.get(lies_at(record))) for record, letter in newest]
        if as_json:
            print_json(rows)
        elif rows:
            table = [
                {**row, "when": f"{letter.failed_at:%m-%d %H:%M:%S}", "cost": dollars(cost)}
                for row, (_, letter) in zip(rows, newest, strict=True)
                if isinstance(cost := row["cost_micros"], int)
            ]
            columns = ["when", "request", "task", "reason", "cost", "where", "detail"]
            optional = ["detail", "where", "task"]
            for name, usual in (("tenant", "default"), ("generation", 1), ("decided", "")):
                if any(row[name] != usual for row in rows):
                    columns.append(name)
            print_table(table, columns, optional=optional)
        else:
            console().print("no dead letters")
        if count > len(rows):
            say(f"the last {len(rows)} of {count:,}; --last shows more", is_error=True)
        return 0

    run(main)


class _Wanted(NamedTuple):
    """Which dead letters are meant; None: whatever."""

    reason: str | None
    task: str | None
    tenant: str | None

    def takes(self, letter: "DeadLetter") -> bool:
        """True for one that is meant."""
        found = (letter.reason.value, letter.task, letter.tenant)
        return all(one in (None, said) for one, said in zip(self, found, strict=True))


def _row(record: Record, letter: "DeadLetter", line: "AuditLine | None") -> dict[str, object]:
    return {
        "where": lies_at(record),
        "request": letter.request_id or "no id",
        "tenant": letter.tenant,
        "generation": letter.generation,
        "task": letter.task or "",
        "reason": letter.reason.value,
        "detail": letter.detail,
        "stage": letter.stage,
        "attempts": len(letter.attempts),
        "cost_micros": letter.cost_micros,
        "failed_at": letter.failed_at.isoformat(timespec="seconds"),
        "decided": line.decision.action if line and line.decision else "",
    }


@app.command()
def show(
    where: Where, tenant: OfTenant = None, kafka: KafkaAddress = None, as_json: AsJson = False
) -> None:
    """Show one dead letter: the diagnosis, every attempt, and the original bytes."""

    async def main() -> int:
        settings = read_settings(kafka)
        record, letter = await _find(settings, where, tenant)
        value = record.value or b""
        if as_json:
            text = value.decode("utf-8", "replace")
            raw = base64.b64encode(value).decode()
            print_json({**letter.model_dump(mode="json"), "value": text, "value_base64": raw})
            return 0
        rows = [
            {"field": name, "value": field}
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
        say("original bytes (--json has them untouched):")
        say(value.decode("utf-8", "backslashreplace"))
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
    tenant: OfTenant = None,
    kafka: KafkaAddress = None,
) -> None:
    """Send a request through again: same id, next generation, original bytes, a new deadline."""

    async def main() -> int:
        from consumers import clock
        from consumers.runtime.clients import Clients
        from consumers.runtime.reading import publisher
        from consumers.telemetry.setup import TRACES_ONLY, open_telemetry
        from consumers.wiring import load_rules
        from router.review import refusal_of
        from schemas.codec import dump, passed_on
        from schemas.reasons import Reason

        left = _duration(deadline)
        settings = read_settings(kafka)
        policy = load_rules(settings).policy
        record, letter = await _find(settings, where, tenant)
        if letter.reason is Reason.APPROVAL_REQUIRED and not force:
            msg = (
                f"{letter.request_id} has its answer and waits for a person to approve it; sent "
                f"through again it would be paid again and wait again (--force does so)"
            )
            raise UserError(msg)
        line = _requeue_line(record, letter, clock.now(), left)
        assert line.decision is not None  # noqa: S101  made so
        if (words := refusal_of(line.decision, letter, policy)) is not None:
            msg = f"{where}: {words}"
            raise UserError(msg)
        await _refuse_decided(settings, record, letter)
        topics = settings.kafka.topics
        with open_telemetry(settings.telemetry, topics, TRACES_ONLY) as telemetry:
            async with publisher(Clients(settings.kafka), telemetry.tracing) as out:
                acknowledged = await out.publish(
                    topics.review,
                    dump(line.model_dump(mode="json", exclude_none=True)),
                    key=record.key,
                    headers=passed_on(record.headers, has_trace=True),
                    partition=record.partition,
                    request_id=letter.request_id,
                )
                _ = await acknowledged
        console().print(
            f"{letter.request_id} goes through again as generation {letter.generation + 1}, once "
            f"the stage review has seen it"
        )
        return 0

    run(main)


def _requeue_line(
    record: Record, letter: "DeadLetter", now: datetime, left: timedelta
) -> "AuditLine":
    """A requeue as the console would write it, in a chain of its own."""
    import getpass
    import secrets

    from router.audit import chained
    from schemas.dead_letter import Pointer
    from schemas.review import AuditLine, Decision

    place = Pointer(topic=record.topic, partition=record.partition, offset=record.offset)
    name = f"command-{secrets.token_hex(6)}"
    try:
        who = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name, as containers have
        who = "unknown"
    decision = Decision(
        decision_id=name,
        request_id=letter.request_id or str(place),
        tenant=letter.tenant,
        generation=letter.generation,
        letter=place,
        action="requeue",
        deadline=now + left,
        undo_seconds=0.0,
    )
    line = AuditLine(
        writer=name,
        no=1,
        at=now,
        who="".join(one for one in who if one.isalnum() or one in "._-@") or "unknown",
        what="decide",
        request_id=decision.request_id,
        tenant=decision.tenant,
        letter=place,
        decision=decision,
    )
    return chained(line, None)


async def _refuse_decided(settings: "Settings", record: Record, letter: "DeadLetter") -> None:
    """Refuse where somebody has decided already: that decision stands."""
    line = (await _decided(settings, {lies_at(record)})).get(lies_at(record))
    if line is not None and line.decision is not None:
        msg = (
            f"{letter.request_id} was decided on already: {line.decision.action} by {line.who} "
            f"at {line.at.isoformat(timespec='seconds')}"
        )
        raise UserError(msg)


async def _decided(settings: "Settings", wanted: Collection[str]) -> "dict[str, AuditLine]":
    """The decision that stands, by the place of its dead letter; of these dead letters alone."""
    from consumers.runtime.clients import Clients
    from consumers.runtime.reading import topic_reader
    from router.review import Decisions
    from schemas.codec import read_model
    from schemas.review import AuditLine

    decisions, lines = defaultdict[int, Decisions](Decisions), dict[str, AuditLine]()
    places: dict[str, int] = {}
    if not wanted:
        return {}

    def take(found: Record) -> None:
        line = read_model(AuditLine, found.value)
        if line.decision is not None:
            if (place := str(line.decision.letter)) not in wanted:
                return
            lines.setdefault(line.decision.decision_id, line)
            places[place] = found.partition
        elif line.undoes not in lines:
            return
        decisions[found.partition].note(found.offset, found.timestamp / 1000, line)

    async with topic_reader(Clients(settings.kafka), [settings.kafka.topics.review]) as reader:
        with reading_bar() as seen:
            async for found in reader.until_end(seen):
                _say(found, "audit line", why_not_taken(take, found))
    standing = {at: decisions[partition].standing(at) for at, partition in places.items()}
    return {at: lines[named] for at, named in standing.items() if named is not None}


def _duration(text: str) -> timedelta:
    units = {"s": 1, "m": 60, "h": 3600}
    if text[-1:] not in units or not text[:-1].isdigit():
        msg = f"--deadline {text}: a whole number and s, m or h was expected, for example 15m"
        raise UserError(msg)
    return timedelta(seconds=int(text[:-1]) * units[text[-1]])


async def _letters(
    settings: "Settings", since: str | None = None
) -> "AsyncIterator[tuple[Record, DeadLetter]]":
    """Every dead letter, the oldest first."""
    from consumers import clock
    from consumers.runtime.clients import Clients
    from consumers.runtime.reading import topic_reader
    from schemas.codec import read_dead_letter

    begin = None if since is None else clock.now() - span_of(since, "--since")
    topics = [settings.kafka.topics.dead_letters]
    found: list[DeadLetter] = []

    def take(record: Record) -> None:
        found.append(read_dead_letter(record.headers))

    async with topic_reader(Clients(settings.kafka), topics, since=begin) as reader:
        with reading_bar() as seen:
            async for record in reader.in_order(seen):
                _say(record, "dead letter of ours", why_not_taken(take, record))
                while found:
                    yield record, found.pop()


def _say(record: Record, what: str, why: str | None) -> None:
    if why is not None:
        say(f"tierline: {lies_at(record)} is no {what}: {why}", is_error=True)


async def _find(
    settings: "Settings", where: str, tenant: str | None
) -> "tuple[Record, DeadLetter]":
    """The dead letter at a place, or the newest one of a request. Raises UserError."""
    names, found = set[str](), None
    async for record, letter in _letters(settings):
        if where in (letter.request_id, lies_at(record)) and tenant in (None, letter.tenant):
            names.add(letter.tenant)
            if found is None or letter.generation > found[1].generation:
                found = record, letter
    if len(names) > 1:
        told = ", ".join(sorted(names))
        msg = f"several tenants have a dead letter {where!r}: {told}; name one with --tenant"
        raise UserError(msg)
    if found is None:
        msg = f"there is no dead letter {where!r}; `tierline dead-letters list` shows them all"
        raise UserError(msg)
    return found
