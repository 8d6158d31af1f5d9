"""`tierline policy advise`: what the traffic says about the policy."""

from typing import Annotated

import typer

from consumers import clock
from consumers.cli.common import (
    AsJson,
    KafkaAddress,
    StoreUrl,
    asynchronous,
    read_settings,
    span_of,
)
from consumers.cli.terminal import console, print_json, print_table
from consumers.policy_file import read_policy
from router.reports.advice import advice, right_lines

__all__ = ["advise"]


@asynchronous
async def advise(
    since: Annotated[
        str, typer.Option(metavar="SPAN", help="Look back this far, for example 24h or 30d.")
    ] = "30d",
    store: StoreUrl = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Advise from traffic: is one model enough, would users notice a second, what always climbs."""
    from consumers.cli.read_model import read_model  # noqa: PLC0415  few commands need tables
    from consumers.readmodel.queries import figures_by, first_hour  # noqa: PLC0415  as above

    settings, now, span = read_settings(kafka), clock.now(), span_of(since, "--since")
    policy, read = read_policy(settings), settings.kafka.topics.of_figures
    async with read_model(settings, store, read, now - span) as model:
        begin = model.begin(now - span, now)
        rows, total = await model.ask(
            lambda tables: figures_by(tables, ("task", "tier"), policy, begin)
        )
        first = await model.ask(lambda tables: first_hour(tables, begin))
    if first is None:
        console().print(f"no call was made in the last {since}, so there is nothing to advise on")
        return
    # A day at least: an hour of traffic says little about a day.
    days = max((now - first).total_seconds() / 86_400, 1.0)
    advised = [item._asdict() for item in advice(rows, total, days)]
    lines = right_lines(rows, f"{first:%Y-%m-%d} to {now:%Y-%m-%d}")
    if as_json:
        print_json({"since": first.isoformat(), "advice": advised, "right": lines})
        return
    title = f"{policy.name} {policy.version}, traffic since {first:%Y-%m-%d}"
    print_table(advised, ("about", "words"), title=title)
    for task, line in lines.items():
        console().print(f"{task}: {line}", soft_wrap=True, markup=False)
