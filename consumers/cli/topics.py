"""`tierline topics`: list, create and check the topics."""

import typer

from consumers.cli.common import FAILED, AsJson, KafkaAddress, asynchronous, read_settings
from consumers.cli.terminal import console, print_json, print_table
from consumers.parties import writers_of
from consumers.runtime.clients import Clients
from consumers.runtime.connection import connected
from consumers.runtime.topic_reader import topic_reader
from consumers.runtime.topics import check_timestamps, check_topics, ensure_topics

__all__ = ["app"]

app = typer.Typer(help="Show, create and check the topics.", no_args_is_help=True)


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
