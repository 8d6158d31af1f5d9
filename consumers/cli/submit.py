"""`tierline submit`: publish requests from a file, standard input or the command line."""

import contextlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from consumers.cli.common import (
    AsJson,
    KafkaAddress,
    UserError,
    console,
    counted,
    print_json,
    read_settings,
    run,
)

if TYPE_CHECKING:
    from consumers.cli.outcomes import Progress, Sent
    from consumers.runtime.clients import Clients
    from consumers.settings import Settings

__all__ = ["names_of", "submit"]

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
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The name of this Batch file: it goes before every custom_id to make the id. "
            "Without it the id is the custom_id and a hash of the line.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for every result or dead letter.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(help="With `--wait`: seconds for all of it.", min=0.1)
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

    async def main() -> int:
        from consumers.cli.outcomes import Progress
        from consumers.cli.request_files import named_apart
        from consumers.runtime.clients import Clients
        from consumers.runtime.limits import at_most

        if batch is not None and not batch.strip():
            msg = "--batch: a name was expected"
            raise UserError(msg)
        lines = _lines(what, task, plan, tenant)
        if not lines:
            msg = f"{what}: there is nothing to send; a request per line was expected"
            raise UserError(msg)
        settings = read_settings(kafka)
        signed = _signing(settings, sign_with)
        named = named_apart(lines, batch, what)
        requests = [_Line.of(line, number, tenant) for number, line in enumerate(named)]
        clients = Clients(settings.kafka)
        if not wait:
            sent = await _publish(requests, clients, settings, way, signed)
            if as_json:
                print_json({"published": sent.count, "repeats": sent.count - len(sent.bodies)})
            else:
                console().print(_published(sent), soft_wrap=True)
            return 0
        progress = Progress(len(requests))
        flow = _publish_and_wait(requests, clients, settings, way, signed, progress, as_json)
        with contextlib.suppress(TimeoutError):
            await at_most(timeout, flow)
        return progress.tell(as_json=as_json)

    run(main)


def _lines(what: str, task: str | None, plan: str | None, tenant: str | None) -> list[bytes]:
    import uuid

    import orjson

    from consumers.cli.request_files import lines_of

    if what == "-":
        return lines_of(sys.stdin.buffer.read(), "standard input")
    path = Path(what)
    if _is_file(path):
        return lines_of(path.read_bytes(), what)
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
    key: bytes
    tenant: str
    plan: str | None
    #: None where it brings none that intake would take.
    id: str | None

    @classmethod
    def of(cls, value: bytes, number: int, tenant: str | None) -> "_Line":
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
        key, name = names_of(value, number)
        return cls(value, key, whose, plan if isinstance(plan, str) else None, name)


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


def _topic(settings: "Settings", way: str | None) -> str:
    intake = settings.kafka.topics.intake
    return intake if way is None else f"{intake}.{way}"


def _published(sent: "Sent") -> str:
    words = f"{counted(sent.count, 'request')} published"
    if sent.count == 1:
        from schemas.tenancy import DEFAULT_TENANT

        [key] = sent.keys
        whose = "" if key.tenant == DEFAULT_TENANT else f" --tenant {key.tenant}"
        return f"{words}: `tierline explain {key.id}{whose}` tells its journey"
    repeats = sent.count - len(sent.bodies)
    return f"{words}, {counted(repeats, 'repeat')} of them" if repeats else words


async def _publish(
    lines: list[_Line],
    clients: "Clients",
    settings: "Settings",
    way: str | None,
    signed: Callable[[_Line], bytes] | None,
) -> "Sent":
    """Publish every line."""
    from consumers.cli.common import progress
    from consumers.cli.outcomes import Sent
    from consumers.runtime.reading import publisher
    from consumers.telemetry.setup import TRACES_ONLY, open_telemetry
    from router.signatures import SIGNATURE
    from schemas.tenancy import RequestKey

    intake, sent = _topic(settings, way), Sent()
    async with contextlib.AsyncExitStack() as stack:
        telemetry = stack.enter_context(
            open_telemetry(settings.telemetry, settings.kafka.topics, TRACES_ONLY)
        )
        out = await stack.enter_async_context(publisher(clients, telemetry.tracing))
        queued = []
        bar = stack.enter_context(progress())
        done = bar.add_task("publishing", total=len(lines))
        for number, line in enumerate(lines):
            bar.update(done, completed=number)
            headers = [(SIGNATURE, signed(line))] if signed else []
            published = out.publish(
                intake, line.value, key=line.key, headers=headers, request_id=line.id
            )
            queued.append((line, await published))
        for line, acknowledged in queued:
            where = await acknowledged
            place = f"{intake}-{where.partition}-{where.offset}"  # type: ignore[attr-defined]
            known = RequestKey(line.tenant, line.id or place)
            sent.names |= {place: known, known: known}
            sent.bodies.add((known, line.value))
            sent.count += 1
    return sent


async def _publish_and_wait(
    requests: list[_Line],
    clients: "Clients",
    settings: "Settings",
    way: str | None,
    signed: Callable[[_Line], bytes] | None,
    progress: "Progress",
    as_json: bool,
) -> None:
    from consumers.cli.outcomes import await_outcomes
    from consumers.runtime.reading import topic_reader

    topics = settings.kafka.topics
    ends = [topics.results, topics.dead_letters]
    # From where these topics end before the first request is sent: older outcomes are not ours.
    async with topic_reader(clients, ends, at_end=True) as outcomes:
        progress.begin(await _publish(requests, clients, settings, way, signed))
        if not as_json:
            console().print(_published(progress.sent), soft_wrap=True)
        await await_outcomes(outcomes, clients, settings, _topic(settings, way), progress)


def names_of(line: bytes, number: int) -> tuple[bytes, str | None]:
    """The key that a line is sent with, and its id.

    The key is the conversation's id, else the request's; a line that has neither goes anywhere. The
    id is None when the line is no JSON or brings none that intake would take.
    """
    import orjson

    from schemas.base import is_identifier
    from schemas.intake import id_for

    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        return str(number).encode(), None

    found, custom_id = fields.get("id"), fields.get("custom_id")
    key = str(fields.get("conversation_id") or found or custom_id or number).encode()
    if not found and "body" in fields and isinstance(custom_id, str) and custom_id:
        return key, id_for(custom_id)
    found = found or custom_id
    return key, found if isinstance(found, str) and is_identifier(found) else None
