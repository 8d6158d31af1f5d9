"""`tierline submit`: publish requests from a file, standard input or the command line."""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from consumers.cli.common import (
    FAILED,
    KafkaAddress,
    UserError,
    console,
    counted,
    print_json,
    read_settings,
    run,
)

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from consumers.runtime.clients import Clients
    from consumers.runtime.reading import TopicReader
    from consumers.settings import Settings
    from schemas.tenancy import RequestKey
    from schemas.topics import Topics

__all__ = ["id_of", "key_of", "submit"]

#: Seconds for which a signature of ours is good.
_SIGNED_FOR = 600.0


def submit(  # noqa: PLR0913, PLR0917  an option each
    what: Annotated[
        str, typer.Argument(metavar="FILE|TEXT|-", help="JSON Lines, a Batch file, - or a prompt.")
    ],
    task: Annotated[str | None, typer.Option(help="The task of a prompt given as text.")] = None,
    plan: Annotated[str | None, typer.Option(help="The plan of a prompt given as text.")] = None,
    tenant: Annotated[
        str | None,
        typer.Option(help="Whose requests these are, where they do not say so themselves."),
    ] = None,
    way: Annotated[
        str | None,
        typer.Option("--intake", metavar="NAME", help="Send to the topic llm.intake.NAME."),
    ] = None,
    sign_with: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Sign with this key of TIERLINE_INTAKE__KEYS."),
    ] = None,
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
        from consumers.runtime.reading import topic_reader

        lines = _lines(what, task, plan, tenant)
        if not lines:
            msg = f"{what}: there is nothing to send; a request per line was expected"
            raise UserError(msg)
        settings = read_settings(kafka)
        signed = _signing(settings, sign_with)
        clients = Clients(settings.kafka)
        began = clock.now()
        topics = settings.kafka.topics
        ends = [topics.results, topics.dead_letters]
        # From where these topics end before the first request is sent: older outcomes are not ours.
        async with topic_reader(clients, ends, at_end=True) as outcomes:
            requests = [_Line.of(line, tenant) for line in lines]
            sent = await _publish(requests, clients, settings, way, signed)
            console().print(_published(sent, len(lines)))
            if not wait:
                return 0
            waited = await _await_all(sent, outcomes, topics, timeout)
        took = (clock.now() - began).total_seconds()
        letters, left = waited.letters, waited.left.total()
        if waited.answer is not None and len(lines) == 1:
            print_json(waited.answer)
        counts = [counted(waited.results, "result"), counted(letters.total(), "dead letter")]
        counts += [f"{count} {reason}" for reason, count in letters.most_common()]
        if left:
            counts.append(f"{left} still on their way")
        console().print(f"{', '.join(counts)} after {took:.1f} s")
        return FAILED if left or letters else 0

    run(main)


def _lines(what: str, task: str | None, plan: str | None, tenant: str | None) -> list[bytes]:
    import uuid

    import orjson

    if what == "-":
        return [line for line in sys.stdin.buffer.read().splitlines() if line.strip()]
    path = Path(what)
    if _is_file(path):
        return [line for line in path.read_bytes().splitlines() if line.strip()]
    if not what.strip():
        msg = "there is nothing to send: a file, - or a prompt was expected"
        raise UserError(msg)
    looks_like_a_path = what.startswith(("/", "./", "../", "~")) and " " not in what
    if looks_like_a_path or what.endswith((".jsonl", ".json", ".ndjson", ".txt")):
        msg = f"{what}: there is no such file"
        raise UserError(msg)
    fields = {"id": f"cli-{uuid.uuid4().hex[:12]}", "input": what, "task": task, "plan": plan}
    fields["tenant"] = tenant
    return [orjson.dumps({name: value for name, value in fields.items() if value is not None})]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a long prompt is no file name
        return False


class _Line(NamedTuple):
    """A request as it is sent, and what is known of it here."""

    value: bytes
    tenant: str
    plan: str | None
    #: None where it brings none that intake would take.
    id: str | None

    @classmethod
    def of(cls, value: bytes, tenant: str | None) -> "_Line":
        """A line, `tenant` being whose it is where it names none."""
        from schemas.errors import ContractError
        from schemas.intake import claims_of
        from schemas.json_text import parse_json
        from schemas.tenancy import DEFAULT_TENANT

        said: Mapping[str, Any] = {}
        with contextlib.suppress(ContractError):
            said = claims_of(parse_json(value), {})
        told, plan = said.get("tenant"), said.get("plan")
        whose = told if isinstance(told, str) else tenant or DEFAULT_TENANT
        return cls(value, whose, plan if isinstance(plan, str) else None, id_of(value))


@dataclass(slots=True)
class _Sent:
    """What was published."""

    #: The requests by what their outcomes may call them: tenant and id, or the request's place
    #: where nobody could read them, or they are not allowed.
    names: dict["RequestKey | str", "RequestKey"] = field(default_factory=dict)
    #: How many outcomes each request has: one per body that came under its id.
    outcomes: Counter["RequestKey"] = field(default_factory=Counter)


def _signing(settings: "Settings", name: str | None) -> Callable[[_Line], bytes] | None:
    """What signs a line with a key of the settings. Raises UserError."""
    if name is None:
        return None
    from consumers import clock
    from router.signatures import signature_of

    key = settings.intake.keys.get(name)
    if key is None:
        msg = f"--sign-with {name}: TIERLINE_INTAKE__KEYS has no such key"
        raise UserError(msg)
    secret = key.secret.get_secret_value().encode()
    lasts = min(settings.intake.longest_signature.total_seconds() / 2, _SIGNED_FOR)

    def sign(line: _Line) -> bytes:
        if line.id is None:
            msg = f"{line.value[:60].decode(errors='replace')}: a request needs an id to be signed"
            raise UserError(msg)
        claims = {"key": name, "tenant": line.tenant, "plan": line.plan, "id": line.id}
        expires = int(clock.now().timestamp() + lasts)
        return signature_of(line.value, secret, {**claims, "expires": expires})

    return sign


def _published(sent: _Sent, count: int) -> str:
    words = f"{counted(count, 'request')} published"
    if count == 1:
        from schemas.tenancy import DEFAULT_TENANT

        [key] = sent.outcomes
        whose = "" if key.tenant == DEFAULT_TENANT else f" --tenant {key.tenant}"
        return f"{words}: `tierline explain {key.id}{whose}` tells its journey"
    repeats = count - sent.outcomes.total()
    return f"{words}, {counted(repeats, 'repeat')} of them" if repeats else words


async def _publish(
    lines: list[_Line],
    clients: "Clients",
    settings: "Settings",
    way: str | None,
    signed: Callable[[_Line], bytes] | None,
) -> _Sent:
    """Publish every line."""
    from rich.progress import track

    from consumers.runtime.reading import publisher
    from consumers.telemetry.setup import TRACES_ONLY, open_telemetry
    from router.signatures import SIGNATURE
    from schemas.tenancy import RequestKey

    intake, sent = settings.kafka.topics.intake, _Sent()
    intake = intake if way is None else f"{intake}.{way}"
    bodies: set[tuple[RequestKey, bytes]] = set()
    async with contextlib.AsyncExitStack() as stack:
        telemetry = stack.enter_context(
            open_telemetry(settings.telemetry, settings.kafka.topics, TRACES_ONLY)
        )
        out = await stack.enter_async_context(publisher(clients, telemetry.tracing))
        queued = []
        for number, line in enumerate(
            track(lines, "publishing", console=console(), transient=True)
        ):
            key = key_of(line.value, number)
            headers = [(SIGNATURE, signed(line))] if signed else []
            published = out.publish(
                intake, line.value, key=key, headers=headers, request_id=line.id
            )
            queued.append((line, await published))
        for line, acknowledged in queued:
            where = await acknowledged
            place = f"{intake}-{where.partition}-{where.offset}"  # type: ignore[attr-defined]
            known = RequestKey(line.tenant, line.id or place)
            sent.names |= {place: known, known: known}
            bodies.add((known, line.value))
    sent.outcomes.update(known for known, _ in bodies)
    return sent


@dataclass(slots=True)
class _Waited:
    """What became of the requests that were waited for."""

    left: Counter["RequestKey"]
    results: int = 0
    #: What the last result says.
    answer: Any = None
    #: Dead letters by reason.
    letters: Counter[str] = field(default_factory=Counter)


async def _await_all(
    sent: _Sent, outcomes: "TopicReader", topics: "Topics", limit: float
) -> _Waited:
    """Wait for every outcome of every request, at most `limit` seconds."""
    import orjson
    from rich.progress import Progress

    from schemas.codec import text_headers
    from schemas.tenancy import DEFAULT_TENANT, RequestKey

    names: set[RequestKey | str]
    waited = _Waited(Counter(sent.outcomes))
    count = waited.left.total()
    with Progress(console=console(), transient=True) as bar:
        done = bar.add_task("waiting for outcomes", total=count)
        async for record in outcomes.follow(limit):
            headers = text_headers(record.headers)
            answer = None
            if record.topic == topics.results:
                answer = orjson.loads(record.value or b"null")
                said = answer.get("router", {})
                if said.get("final") is False:
                    continue  # a person has it
                names = {RequestKey(said.get("tenant", DEFAULT_TENANT), str(answer.get("id")))}
            else:
                place = (
                    headers.get(f"tierline-{name}") for name in ("topic", "partition", "offset")
                )
                whose = headers.get("tierline-tenant", DEFAULT_TENANT)
                name = RequestKey(whose, headers.get("tierline-request-id", ""))
                names = {name, "-".join(map(str, place))}
            meant = {sent.names[name] for name in names if name in sent.names}
            if ended := +waited.left & Counter(meant):
                waited.left -= ended
                if answer is not None:
                    waited.results += 1
                    waited.answer = answer.get("router", {}).get("output")
                else:
                    waited.letters[headers.get("tierline-reason", "?")] += 1
            bar.update(done, completed=count - waited.left.total())
            if not waited.left.total():
                break
    return waited


def key_of(line: bytes, number: int) -> bytes:
    """Conversation id, else request id; a line that has neither goes anywhere."""
    import orjson

    try:
        fields = orjson.loads(line)
        key = fields.get("conversation_id") or fields.get("id") or fields.get("custom_id")
    except (orjson.JSONDecodeError, AttributeError):
        key = None
    return str(key or number).encode()


def id_of(line: bytes) -> str | None:
    """The id that a line brings; None when it is no JSON or brings none that intake would take."""
    import orjson
    from pydantic import ValidationError

    try:
        fields = orjson.loads(line)
        found = fields.get("id") or fields.get("custom_id")
        return _identifiers().validate_python(found, strict=True)
    except (orjson.JSONDecodeError, AttributeError, ValidationError):
        return None


@cache
def _identifiers() -> "TypeAdapter[str]":
    from pydantic import TypeAdapter

    from schemas.base import Identifier

    return TypeAdapter(Identifier)
