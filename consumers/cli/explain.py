"""`tierline explain` and `tierline trace`: the journey of one request, in words or drawn."""

from dataclasses import asdict

from consumers import clock
from consumers.amounts import duration
from consumers.cli.common import (
    FAILED,
    OK,
    AsJson,
    KafkaAddress,
    OfTenant,
    RequestId,
    asynchronous,
    read_settings,
)
from consumers.cli.journey import read_journey
from consumers.cli.terminal import console, print_json, print_table
from consumers.cli.waterfall import COLUMNS, CUT, picture
from consumers.journeys.facts import journey_facts
from consumers.journeys.moments import COLUMNS as MOMENT_COLUMNS
from consumers.journeys.waterfall import total_ms, waterfall
from consumers.texts import say
from router.request.signals import signal_words

__all__ = ["explain", "trace"]


@asynchronous
async def explain(
    request_id: RequestId,
    tenant: OfTenant = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> int:
    """Explain the whole journey of a request in words, from the topics alone."""
    settings = read_settings(kafka)
    journey = await read_journey(request_id, settings, tenant)
    facts = journey_facts(journey, settings.kafka.topics, clock.now())
    if as_json:
        print_json(facts)
    else:
        title = f"{journey.request_id} ({journey.task or 'task not known yet'})"
        print_table(facts["moments"], MOMENT_COLUMNS, title=title)
        if facts["signals"] is not None:
            say(f"Signals: {signal_words(facts['signals'])}.")
        if facts["open"] is not None:
            say(facts["open"])
    return OK if facts["done"] else FAILED


@asynchronous
async def trace(
    request_id: RequestId,
    tenant: OfTenant = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> int:
    """Show where a request's time went: every hop and every call, from the topics alone."""
    settings = read_settings(kafka)
    journey = await read_journey(request_id, settings, tenant)
    bars = waterfall(journey, settings.kafka.topics)
    if as_json:
        print_json(
            {
                "request_id": journey.request_id,
                "trace_id": journey.trace_id,
                "done": journey.is_done,
                "bars": [asdict(bar) for bar in bars],
            }
        )
    else:
        rows, is_cut = picture(bars, console().width)
        took, trace_id = duration(total_ms(bars)), journey.trace_id or "unknown"
        print_table(rows, COLUMNS, title=f"{journey.request_id}: {took}, trace {trace_id}")
        if is_cut:
            console().print(f"{CUT} marks a wait that was longer than drawn")
    return OK if journey.is_done else FAILED
