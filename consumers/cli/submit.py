"""`tierline submit`: publish requests from a file, standard input or the command line."""

import asyncio
import contextlib
import io
import shutil
import sys
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any

import orjson
import typer
from typer import Argument, Option

from consumers import clock
from consumers.amounts import counted
from consumers.cli.common import (
    OK,
    AsJson,
    KafkaAddress,
    UserError,
    read_settings,
    refuse_unread,
    run,
)
from consumers.cli.outcomes import Progress, await_outcomes
from consumers.cli.request_files import Line, checked, lines_of
from consumers.cli.sent import Place, Sent, hash_of
from consumers.cli.terminal import console, print_json, progress
from consumers.cli.terminal import progress as bar_of
from consumers.runtime.clients import KAFKA_IS_AWAY, TOPIC_IS_MISSING, Clients
from consumers.runtime.connection import (
    CREATE_TOPICS,
    KafkaUnreachableError,
    cluster_of,
    is_refusal,
)
from consumers.runtime.limits import at_most
from consumers.runtime.publisher import publisher
from consumers.runtime.topic_reader import topic_reader
from consumers.settings import Settings
from consumers.telemetry.setup import TRACES_ONLY, open_telemetry
from router.intake.signatures import SIGNATURE, signature_of
from schemas.tenancy import RequestKey

__all__ = ["IntakeName", "SigningKey", "signing", "submit"]

#: Seconds for which a signature of ours is good.
_SIGNED_FOR = 600.0
#: Requests that Kafka has not acknowledged yet, at most.
_IN_FLIGHT = 5_000
#: Bytes of standard input beyond which it is kept on disk.
_SPOOLED_FROM = 1 << 20

IntakeName = Annotated[
    str | None,
    Option(
        "--intake", metavar="NAME", help="Send to the topic llm.intake.NAME instead of llm.intake."
    ),
]
SigningKey = Annotated[
    str | None,
    Option(metavar="KEY", help="Sign each record with this key of TIERLINE_INTAKE__KEYS."),
]


def submit(  # noqa: PLR0913, PLR0917  an option each
    context: typer.Context,
    what: Annotated[
        str,
        Argument(
            metavar="FILE|TEXT|-",
            help="A file of JSON Lines or Batch lines, - for standard input, or a prompt.",
        ),
    ],
    task: Annotated[
        str | None, Option(metavar="TASK", help="Set the task of a prompt given as text.")
    ] = None,
    plan: Annotated[
        str | None,
        Option(metavar="PLAN", help="Set the customer's plan of a prompt given as text."),
    ] = None,
    tenant: Annotated[
        str | None, Option(metavar="TENANT", help="Set the tenant of requests that name none.")
    ] = None,
    way: IntakeName = None,
    sign_with: SigningKey = None,
    batch: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Make each id of a Batch file from this name and the custom_id; "
            "by default, from the custom_id and a hash of the line.",
        ),
    ] = None,
    wait: Annotated[bool, Option("--wait", help="Wait until every request has ended.")] = False,
    timeout: Annotated[
        float, Option(metavar="SECONDS", help="With `--wait`, wait at most this long.", min=0.1)
    ] = 300,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Publish requests from a file of JSON Lines or Batch lines, standard input, or a prompt.

    Every line is sent as it is, except that a Batch line gets an id; a line with a mistake becomes
    a dead letter. A file that is not JSON in UTF-8 with a request per line, or has a `custom_id`
    that is no text, is refused as a whole.
    With `--wait` the exit code is 0 when each request ended as its policy plans, including answers
    that wait for approval, and 1 when there are dead letters or unfinished requests.
    """
    if batch is not None and not batch.strip():
        msg = "--batch: a name was expected"
        raise UserError(msg)
    if not wait:
        refuse_unread(context, "is for --wait", "timeout")
    settings = read_settings(kafka)
    signed = signing(settings, sign_with)
    with _opened(what, task, plan, tenant) as (file, name):
        if not isinstance(file, io.BytesIO):
            why = "is for a prompt given as text: the requests of a file have fields of their own"
            refuse_unread(context, why, "task", "plan")
        with bar_of() as bar:
            size = file.seek(0, io.SEEK_END)
            looked = bar.add_task("checking", total=size)
            _ = file.seek(0)
            seen = partial(bar.update, looked)
            count = checked(file, name, batch, lambda done: seen(completed=done))
        _ = file.seek(0)
        requests = _Requests(file, name, count, tenant, batch, settings, way, signed)
        seconds = timeout if wait else None
        run(lambda: _send(requests, seconds, as_json=as_json))


async def _send(requests: "_Requests", seconds: float | None, *, as_json: bool) -> int:
    """Publish, wait for outcomes for the seconds given, and return the exit code."""
    sent = requests.sent
    if seconds is None:
        await requests.publish()
        if as_json:
            print_json({"published": sent.count, "repeats": sent.repeats})
        else:
            requests.say_published()
        return OK
    progress = Progress(requests.count, sent)
    flow = _publish_and_wait(requests, progress, as_json)
    with contextlib.suppress(TimeoutError):
        await at_most(seconds, flow)
    if progress.is_published and sent.left:
        try:
            _ = await cluster_of(requests.clients)
        except KafkaUnreachableError:
            progress.is_kafka_away = True
    return progress.tell(as_json=as_json)


async def _publish_and_wait(requests: "_Requests", progress: Progress, as_json: bool) -> None:
    settings, clients = requests.settings, requests.clients
    ends = [settings.kafka.topics.results, settings.kafka.topics.dead_letters]
    # From where these topics end before the first request is sent: older outcomes are not ours.
    async with topic_reader(clients, ends, at_end=True) as outcomes:
        await requests.publish()
        progress.is_published = True
        if not as_json:
            requests.say_published()
        await await_outcomes(outcomes, clients, settings, requests.intake, progress)


@contextlib.contextmanager
def _opened(
    what: str, task: str | None, plan: str | None, tenant: str | None
) -> Iterator[tuple[IO[bytes], str]]:
    """The argument as a file that can be read twice, with its name for people."""
    path = Path(what)
    if what == "-" or _is(path, Path.is_fifo):
        pipe = contextlib.nullcontext(sys.stdin.buffer) if what == "-" else path.open("rb")
        with pipe as source, tempfile.SpooledTemporaryFile(_SPOOLED_FROM) as file:
            shutil.copyfileobj(source, file)
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
    present = {name: value for name, value in fields.items() if value is not None}
    yield io.BytesIO(orjson.dumps(present)), "the prompt"


def _is(path: Path, kind: Callable[[Path], bool]) -> bool:
    try:
        return kind(path)
    except OSError:  # a long prompt is no file name
        return False


@dataclass(slots=True)
class _Requests:
    """The requests of a file, and those that Kafka has acknowledged."""

    file: IO[bytes]
    name: str
    count: int
    tenant: str | None
    batch: str | None
    settings: Settings
    way: str | None
    signed: Callable[[Line], bytes] | None
    sent: Sent = field(init=False)
    clients: Clients = field(init=False)
    intake: str = field(init=False)

    def __post_init__(self) -> None:
        # A prompt gets a new id each time.
        self.sent = Sent(has_passing_ids=isinstance(self.file, io.BytesIO))
        self.clients = Clients(self.settings.kafka)
        intake = self.settings.kafka.topics.intake
        self.intake = intake if self.way is None else f"{intake}.{self.way}"

    def say_published(self) -> None:
        """Print how many were published."""
        words = f"{counted(self.sent.count, 'request')} published"
        if self.sent.count == 1:
            words += f": {self.sent.explain_command} shows its journey"
        elif self.sent.repeats:
            words += f", {counted(self.sent.repeats, 'repeat')} of them"
        console().print(words, soft_wrap=True)

    async def publish(self) -> None:
        """Publish every line, and note what Kafka has acknowledged."""
        sent, topics = self.sent, self.settings.kafka.topics
        queued = deque[tuple[str, str | None, bytes, asyncio.Future[Any]]]()

        async def acknowledged() -> None:
            tenant, id_, body, where = queued.popleft()
            with self._in_words():
                written = await where
            place = Place(written.partition, written.offset)
            key = RequestKey(tenant, id_ or f"{self.intake}-{place.partition}-{place.offset}")
            sent.add(key, body, place)

        with (
            open_telemetry(self.settings.telemetry, topics, TRACES_ONLY) as telemetry,
            progress() as bar,
        ):
            done = bar.add_task("publishing", total=self.count)
            async with publisher(self.clients, telemetry.tracing) as out:
                # A file that has grown since is sent as far as it was checked.
                for number, raw in islice(lines_of(self.file, self.name), self.count):
                    line = Line.of(raw, number, tenant=self.tenant, batch=self.batch)
                    sent.has_passing_ids |= line.id is None
                    headers = [(SIGNATURE, self.signed(line))] if self.signed else []
                    with self._in_words():
                        where = await out.publish(
                            self.intake,
                            line.value,
                            key=line.key,
                            headers=headers,
                            request_id=line.id,
                        )
                    queued.append((line.tenant, line.id, hash_of(line.value), where))
                    if len(queued) > _IN_FLIGHT:
                        await acknowledged()
                        bar.update(done, completed=sent.count)
                while queued:
                    await acknowledged()
        sent.write()

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        """Add to an error how much of the file Kafka has.

        Raises UserError and KafkaUnreachableError.
        """
        try:
            yield
        except KAFKA_IS_AWAY as error:
            why, again = type(error).__name__, self.sent.send_again
            has = f"Kafka has acknowledged {self.sent.count:,} of {counted(self.count, 'request')}"
            if isinstance(error, TOPIC_IS_MISSING):
                msg = f"{has}: it has no topic {self.intake}"
                raise KafkaUnreachableError(msg, advice=CREATE_TOPICS) from None
            if not is_refusal(error):
                msg = f"{has}, and no longer answers ({why}); others may have been published"
                raise KafkaUnreachableError(msg, advice=again) from None
            msg = (
                f"{self.name}: {has} and refused one of the next ({why}); correct it, then {again}"
            )
            raise UserError(msg) from None


def signing(settings: Settings, name: str | None) -> Callable[[Line], bytes] | None:
    """A function that signs a line with a key of the settings. Raises UserError."""
    if name is None:
        return None
    key = settings.intake.keys.get(name)
    if key is None:
        msg = f"--sign-with {name}: TIERLINE_INTAKE__KEYS has no such key"
        raise UserError(msg)
    secret = key.secret.get_secret_value().encode()
    lasts = min(settings.intake.longest_signature.total_seconds() / 2, _SIGNED_FOR)

    def sign(line: Line) -> bytes:
        if line.id is None:
            msg = f"{line.value[:60].decode(errors='replace')}: a request needs an id to be signed"
            raise UserError(msg)
        claims = {"key": name, "tenant": line.tenant, "plan": line.plan, "id": line.id}
        expires = int(clock.now().timestamp() + lasts)
        return signature_of(line.value, secret, {**claims, "expires": expires})

    return sign
