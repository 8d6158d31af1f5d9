"""`tierline submit`: publish requests from a file, standard input or the command line."""

import asyncio
import contextlib
import io
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from consumers.cli.common import (
    AsJson,
    KafkaAddress,
    UserError,
    console,
    counted,
    print_json,
    read_settings,
    refuse_unread,
    run,
)

if TYPE_CHECKING:
    from consumers.cli.outcomes import Progress
    from consumers.cli.request_files import Line
    from consumers.cli.sent import Sent
    from consumers.runtime.clients import Clients
    from consumers.settings import Settings

__all__ = ["submit"]

#: Seconds for which a signature of ours is good.
_SIGNED_FOR = 600.0
#: Requests that Kafka has not acknowledged yet, at most.
_IN_FLIGHT = 5_000
#: Bytes of standard input beyond which it lies on disk.
_SPOOLED_FROM = 1 << 20


def submit(  # noqa: PLR0913, PLR0917  an option each
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|TEXT|-",
            help="A file of JSON Lines or Batch lines, - for standard input, or a prompt.",
        ),
    ],
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="Say what kind of work a prompt given as text is."),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(metavar="PLAN", help="Say what plan a prompt given as text is under."),
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option(
            metavar="TENANT", help="Say whose requests these are, where they do not themselves."
        ),
    ] = None,
    way: Annotated[
        str | None,
        typer.Option(
            "--intake",
            metavar="NAME",
            help="Send to the topic llm.intake.NAME instead of llm.intake.",
        ),
    ] = None,
    sign_with: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Sign each request with this key of TIERLINE_INTAKE__KEYS."
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Put this name before every custom_id of a Batch file to make the id; "
            "else the id is the custom_id and a hash of the line.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until every request has ended.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="With `--wait`, take so long at most.", min=0.1)
    ] = 300,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Publish requests to intake: a file of JSON Lines or Batch lines, standard input, or a prompt.

    Every line is sent as it stands, except that a Batch line gets an id: what is wrong with one
    becomes its dead letter. A file that is not UTF-8 with a request per line is refused as a whole.
    With `--wait` the exit code is 0 when each request ended as its policy plans, an answer that a
    person is to approve included, and 1 when there are dead letters or unfinished requests.
    """

    from consumers.cli.common import progress as bar_of
    from consumers.cli.request_files import checked

    if batch is not None and not batch.strip():
        msg = "--batch: a name was expected"
        raise UserError(msg)
    if not wait:
        refuse_unread(context, "is for --wait", "timeout")
    settings = read_settings(kafka)
    signed = _signing(settings, sign_with)
    with _opened(what, task, plan, tenant) as (file, name):
        if not isinstance(file, io.BytesIO):
            why = "is for a prompt given as text: the requests of a file say theirs themselves"
            refuse_unread(context, why, "task", "plan")
        with bar_of() as bar:
            size = file.seek(0, io.SEEK_END)
            looked = bar.add_task("checking", total=size)
            _ = file.seek(0)
            seen = partial(bar.update, looked)
            count = checked(file, name, batch, lambda done: seen(completed=done))
        _ = file.seek(0)
        lines = _Lines(file, name, count, tenant, batch, signed, isinstance(file, io.BytesIO))
        run(lambda: _send(lines, settings, way, timeout if wait else None, as_json=as_json))


async def _send(
    lines: "_Lines",
    settings: "Settings",
    way: str | None,
    seconds: float | None,
    *,
    as_json: bool,
) -> int:
    """Publish, and where seconds are given wait so long for outcomes; the exit code."""
    from consumers.cli.outcomes import Progress
    from consumers.cli.sent import Sent
    from consumers.runtime.clients import Clients
    from consumers.runtime.connection import KafkaUnreachableError, cluster_of
    from consumers.runtime.limits import at_most

    clients = Clients(settings.kafka)
    # A prompt gets an id each time that it is given.
    sent = Sent(has_passing_ids=lines.is_prompt)
    if seconds is None:
        await _publish(lines, sent, clients, settings, way)
        if as_json:
            print_json({"published": sent.count, "repeats": sent.repeats})
        else:
            console().print(_published(sent), soft_wrap=True)
        return 0
    progress = Progress(lines.count, sent)
    flow = _publish_and_wait(lines, clients, settings, way, progress, as_json)
    with contextlib.suppress(TimeoutError):
        await at_most(seconds, flow)
    if progress.is_published and progress.sent.left:
        try:
            _ = await cluster_of(clients)
        except KafkaUnreachableError:
            progress.is_kafka_away = True
    return progress.tell(as_json=as_json)


@contextlib.contextmanager
def _opened(
    what: str, task: str | None, plan: str | None, tenant: str | None
) -> Iterator[tuple[IO[bytes], str]]:
    """What was given, as a file that can be read twice, with its name for people."""
    import shutil
    import tempfile
    import uuid

    import orjson

    path = Path(what)
    if what == "-" or _is(path, Path.is_fifo):
        pipe = contextlib.nullcontext(sys.stdin.buffer) if what == "-" else path.open("rb")
        with pipe as given, tempfile.SpooledTemporaryFile(_SPOOLED_FROM) as file:
            shutil.copyfileobj(given, file)
            yield file, "standard input" if what == "-" else what
        return
    if _is(path, Path.is_file):
        with path.open("rb") as file:
            yield file, what
        return
    if not what.strip():
        msg = "there is nothing to send: a file, - or a prompt was expected"
        raise UserError(msg)
    looks_like_a_path = what.startswith(("/", "./", "../", "~")) and " " not in what
    if looks_like_a_path or what.endswith((".jsonl", ".json", ".ndjson", ".txt")):
        msg = f"{what}: there is no such file"
        raise UserError(msg)
    fields = {"id": f"cli-{uuid.uuid4().hex[:12]}", "input": what, "task": task, "plan": plan}
    fields["tenant"] = tenant
    said = {name: value for name, value in fields.items() if value is not None}
    yield io.BytesIO(orjson.dumps(said)), "the prompt"


def _is(path: Path, kind: Callable[[Path], bool]) -> bool:
    try:
        return kind(path)
    except OSError:  # a long prompt is no file name
        return False


@dataclass(frozen=True, slots=True)
class _Lines:
    """The requests of a file, as they are sent."""

    file: IO[bytes]
    name: str
    count: int
    tenant: str | None
    batch: str | None
    signed: "Callable[[Line], bytes] | None"
    is_prompt: bool

    def __iter__(self) -> "Iterator[Line]":
        from consumers.cli.request_files import Line, lines_of

        # A file that grows meanwhile is sent as far as it was looked at.
        for number, raw in enumerate(islice(lines_of(self.file, self.name), self.count)):
            yield Line.of(raw, number, tenant=self.tenant, batch=self.batch)


def _signing(settings: "Settings", name: str | None) -> "Callable[[Line], bytes] | None":
    """What signs a line with a key of the settings. Raises UserError."""
    if name is None:
        return None
    from consumers import clock
    from router.intake.signatures import signature_of

    key = settings.intake.keys.get(name)
    if key is None:
        msg = f"--sign-with {name}: TIERLINE_INTAKE__KEYS has no such key"
        raise UserError(msg)
    secret = key.secret.get_secret_value().encode()
    lasts = min(settings.intake.longest_signature.total_seconds() / 2, _SIGNED_FOR)

    def sign(line: "Line") -> bytes:
        if line.id is None:
            msg = f"{line.value[:60].decode(errors='replace')}: a request needs an id to be signed"
            raise UserError(msg)
        claims = {"key": name, "tenant": line.tenant, "plan": line.plan, "id": line.id}
        expires = int(clock.now().timestamp() + lasts)
        return signature_of(line.value, secret, {**claims, "expires": expires})

    return sign


def _topic(settings: "Settings", way: str | None) -> str:
    intake = settings.kafka.topics.intake
    return intake if way is None else f"{intake}.{way}"


def _published(sent: "Sent") -> str:
    words = f"{counted(sent.count, 'request')} published"
    if sent.count == 1:
        return f"{words}: {sent.explained} tells its journey"
    return f"{words}, {counted(sent.repeats, 'repeat')} of them" if sent.repeats else words


async def _publish(
    lines: _Lines, sent: "Sent", clients: "Clients", settings: "Settings", way: str | None
) -> None:
    """Publish every line, and note what Kafka has acknowledged."""
    from consumers.cli.common import progress
    from consumers.cli.sent import Place, hash_of
    from consumers.runtime.publisher import publisher
    from consumers.telemetry.setup import TRACES_ONLY, open_telemetry
    from router.intake.signatures import SIGNATURE
    from schemas.tenancy import RequestKey

    intake = _topic(settings, way)
    queued = deque[tuple[str, str | None, bytes, asyncio.Future[Any]]]()

    async def acknowledged() -> None:
        tenant, id_, body, where = queued.popleft()
        with _in_words(lines, sent, intake):
            place = Place((found := await where).partition, found.offset)
        known = RequestKey(tenant, id_ or f"{intake}-{place.partition}-{place.offset}")
        sent.add(known, body, place)

    async with contextlib.AsyncExitStack() as stack:
        telemetry = stack.enter_context(
            open_telemetry(settings.telemetry, settings.kafka.topics, TRACES_ONLY)
        )
        out = await stack.enter_async_context(publisher(clients, telemetry.tracing))
        bar = stack.enter_context(progress())
        done = bar.add_task("publishing", total=lines.count)
        for line in lines:
            sent.has_passing_ids |= line.id is None
            headers = [(SIGNATURE, lines.signed(line))] if lines.signed else []
            with _in_words(lines, sent, intake):
                where = await out.publish(
                    intake, line.value, key=line.key, headers=headers, request_id=line.id
                )
            queued.append((line.tenant, line.id, hash_of(line.value), where))
            if len(queued) > _IN_FLIGHT:
                await acknowledged()
                bar.update(done, completed=sent.count)
        while queued:
            await acknowledged()
    sent.write()


@contextlib.contextmanager
def _in_words(lines: _Lines, sent: "Sent", topic: str) -> Iterator[None]:
    """Say what Kafka has and has not of a file. Raises UserError and KafkaUnreachableError."""
    from consumers.runtime.clients import KAFKA_IS_AWAY, TOPIC_IS_MISSING
    from consumers.runtime.connection import CREATE_TOPICS, KafkaUnreachableError, is_refusal

    try:
        yield
    except KAFKA_IS_AWAY as error:
        why = type(error).__name__
        has = f"Kafka has acknowledged {sent.count:,} of {counted(lines.count, 'request')}"
        if isinstance(error, TOPIC_IS_MISSING):
            msg = f"{has}: it has no topic {topic}"
            raise KafkaUnreachableError(msg, advice=CREATE_TOPICS) from None
        if not is_refusal(error):
            msg = f"{has}, and then does not answer ({why}); others may have been published"
            raise KafkaUnreachableError(msg, advice=sent.send_again) from None
        mend = f"mend it, then {sent.send_again}"
        msg = f"{lines.name}: {has} and refuses one of the next ({why}); {mend}"
        raise UserError(msg) from None


async def _publish_and_wait(
    lines: _Lines,
    clients: "Clients",
    settings: "Settings",
    way: str | None,
    progress: "Progress",
    as_json: bool,
) -> None:
    from consumers.cli.outcomes import await_outcomes
    from consumers.runtime.topic_reader import topic_reader

    topics = settings.kafka.topics
    ends = [topics.results, topics.dead_letters]
    # From where these topics end before the first request is sent: older outcomes are not ours.
    async with topic_reader(clients, ends, at_end=True) as outcomes:
        await _publish(lines, progress.sent, clients, settings, way)
        progress.is_published = True
        if not as_json:
            console().print(_published(progress.sent), soft_wrap=True)
        await await_outcomes(outcomes, clients, settings, _topic(settings, way), progress)
