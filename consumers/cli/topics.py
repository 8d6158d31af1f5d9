"""`tierline topics`: list, create and check the topics, and say who needs which rights to them."""

import shlex
from collections.abc import Sequence
from typing import Annotated

import typer
from typer import Argument, Option

from consumers.cli.common import (
    FAILED,
    AsJson,
    KafkaAddress,
    UserError,
    asynchronous,
    read_settings,
)
from consumers.cli.terminal import console, print_json, print_table
from consumers.parties import PARTIES, writers_of
from consumers.rights import Right, parties_with_rights, rights_of
from consumers.runtime.clients import Clients
from consumers.runtime.connection import connected
from consumers.runtime.topic_reader import topic_reader
from consumers.runtime.topics import check_timestamps, check_topics, ensure_topics
from consumers.texts import say
from router.errors import did_you_mean

__all__ = ["app"]

app = typer.Typer(
    help="Show, create and check the topics, and who needs which rights to them.",
    no_args_is_help=True,
)


@app.command("list")
@asynchronous
async def list_topics(kafka: KafkaAddress = None, as_json: AsJson = False) -> None:
    """List the topics: who writes them, what they hold, and how many records."""
    settings = read_settings(kafka)
    clients, table = Clients(settings.kafka), settings.kafka.topics.all()
    async with topic_reader(clients, [name for name, _ in table]) as reader:
        counts = await reader.counts()
    rows = [
        {
            "topic": name,
            "partitions": counts[name][0] if name in counts else "missing",
            "offsets": counts[name][1] if name in counts else "",
            "key": spec.key,
            "written by": ", ".join(writers_of(spec.name)),
            "holds": spec.holds,
        }
        for name, spec in table
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(rows, ("topic", "partitions", "offsets", "written by", "holds"))
        problems = [*await check_topics(clients), *await check_timestamps(clients)]
        for problem in problems:
            console().print(str(problem))


@app.command()
@asynchronous
async def create(kafka: KafkaAddress = None) -> int:
    """Create the topics that are missing."""
    clients = Clients(read_settings(kafka).kafka)
    async with connected(clients):
        problems = await ensure_topics(clients)
    for problem in problems:
        console().print(str(problem))
    if not problems:
        console().print("all topics exist")
    return FAILED if problems else 0


@app.command()
def acls(
    names: Annotated[
        list[str] | None,
        Argument(
            metavar="[PARTY]...", help="Take only these, for example route, work.low or producers."
        ),
    ] = None,
    principal: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Give all rights to this user; by default each party is a user of its own.",
        ),
    ] = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Print the rights that each stage and outside party needs, as `kafka-acls` commands.

    A stage's rights are those of a process that runs it. For a process that runs several, name them
    all and its user: `tierline topics acls route review --principal User:tierline`.
    """
    known, settings = parties_with_rights(), read_settings(kafka, needs_kafka=False)
    for name in names or ():
        if name not in known:
            hint = did_you_mean(name, known)
            msg = f"{name}: one of {', '.join(known)} was expected{hint}"
            raise UserError(msg)
    chosen = names or known
    given = principal and (principal if ":" in principal else f"User:{principal}")
    users = {given: chosen} if given else {f"User:tierline.{name}": [name] for name in chosen}
    rights = {user: rights_of(of, settings.kafka) for user, of in users.items()}
    if as_json:
        print_json(
            [{"principal": user, **right._asdict()} for user in rights for right in rights[user]]
        )
        return
    outside = {party.name for party in PARTIES if party.is_outside and party.reads}
    for user, of in users.items():
        say(f"# {', '.join(of)}")
        for right in rights[user]:
            say(_command(right, user, settings.kafka.bootstrap or "HOST:PORT"))
        if outside & {*of}:
            say("# and Read on its own consumer group: --operation Read --group GROUP")


def _command(right: Right, user: str, bootstrap: str) -> str:
    words: Sequence[str] = (
        *("kafka-acls", "--bootstrap-server", bootstrap, "--add", "--allow-principal", user),
        *(word for operation in right.operations for word in ("--operation", operation)),
        *(f"--{right.kind}", right.name),
        *(("--resource-pattern-type", "prefixed") if right.is_prefix else ()),
    )
    return shlex.join(words)
