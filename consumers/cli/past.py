"""What another policy would have made of past requests, for `policy replay` and `policy diff`."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import typer

from consumers import clock
from consumers.admissions import admission_of
from consumers.amounts import dollars
from consumers.cli.common import span_of
from consumers.cli.terminal import console, print_table, reading_bar
from consumers.records import appended_at, record_ref
from consumers.runtime.clients import Clients
from consumers.runtime.topic_reader import topic_reader
from consumers.settings import Settings
from router.policy.table import Policy
from router.releases.replay import UNKNOWN, Redecided, courses
from router.reports.measures import By
from schemas.base import Tier
from schemas.errors import ContractError

__all__ = ["Store", "past_of", "print_past"]

Store = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="Use the figures that this store keeps."),
]
#: Records that are decided at a time: for each batch the read model is asked once.
_AT_ONCE = 1_000
#: The most changes that are listed.
_MOST_MOVES = 15


async def past_of(
    settings: Settings, policies: tuple[Policy, Policy], since: str, store: str | None
) -> dict[str, Any]:
    """What two policies make of the requests of a span. Raises KafkaUnreachableError."""
    from consumers.cli.read_model import read_model  # noqa: PLC0415  few commands need tables
    from consumers.readmodel.arms import classified  # noqa: PLC0415  as above
    from consumers.readmodel.queries import figures_by  # noqa: PLC0415  as above

    now, topics, admission = clock.now(), settings.kafka.topics, admission_of(settings)
    begin, redecided, unreadable = now - span_of(since, "--since"), Redecided(policies), 0
    read = [*map(topics.tier, Tier), topics.attempts]
    async with (
        read_model(settings, store, read, begin) as model,
        topic_reader(Clients(settings.kafka), topics.all_intakes, since=begin) as reader,
    ):
        by: Sequence[By] = ("task", "tier")
        rows, _ = await model.ask(lambda tables: figures_by(tables, by, policies[0], begin))
        with reading_bar() as seen:
            async for records in reader.batches(await reader.ends(), _AT_ONCE, seen):
                requests = []
                for record in records:
                    at, ref = appended_at(record, now), record_ref(record)
                    place = (record.topic, record.value, record.headers, policies[0])
                    try:
                        admitted = admission.admit(*place, at=at, fallback_id=ref)
                        requests.append((admitted.request, at))
                    except ContractError:
                        unreadable += 1
                untold = [
                    request.key
                    for request, _ in requests
                    if any(request.task not in policy.tasks for policy in policies)
                ]
                known = await model.ask(partial(classified, keys=untold))
                for request, at in requests:
                    redecided.take(request, at, known.get(request.key))
    return {
        "since": begin,
        "requests": redecided.requests,
        "unreadable": unreadable,
        "where": {place.words: count for place, count in redecided.places[1].most_common()},
        "elsewhere": redecided.moved.total(),
        "moved": [
            {
                "requests": count,
                "was": was.words,
                "now": now.words,
                "for example": redecided.examples[was, now],
            }
            for (was, now), count in redecided.moved.most_common()
        ],
        "ways": [way._asdict() for way in courses(redecided, rows)],
        "unknown": UNKNOWN,
    }


def print_past(past: Mapping[str, Any]) -> None:
    """Print what goes elsewhere, what each way would have cost, and what that does not tell."""
    out, requests, moved = console(), past["requests"], past["moved"]
    since = past["since"].isoformat(timespec="seconds")
    share = past["elsewhere"] / (requests or 1)
    out.print(f"{requests:,} requests since {since}: {share:.1%} would go elsewhere")
    if past["unreadable"]:
        out.print(f"{past['unreadable']:,} more records of intake cannot be read as requests")
    if moved:
        print_table(moved[:_MOST_MOVES], tuple(moved[0]), title="what would go elsewhere")
    if len(moved) > _MOST_MOVES:
        out.print(f"and {len(moved) - _MOST_MOVES} more such changes; --json has them all")
    ways = [
        {
            "way": way["name"],
            "cost": f"{dollars(round(way['micros']))} ± {dollars(round(way['micros_within']))}",
            "accepted": f"{way['accepted']:.1%} ± {way['accepted_within']:.1%}",
            "not priced": f"{way['unpriced']:.1%}",
        }
        for way in past["ways"]
    ]
    print_table(ways, tuple(ways[0]), title="estimated from recorded answers, 95 % intervals")
    out.print("This cannot know:\n" + "\n".join(f"* {words}" for words in past["unknown"]))
