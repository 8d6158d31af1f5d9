"""`tierline explain` and `tierline trace`: the journey of one request, in words or drawn."""

from dataclasses import asdict

from consumers import clock
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
from consumers.cli.formats import duration
from consumers.cli.journey import read_journey
from consumers.cli.moments import COLUMNS as MOMENT_COLUMNS
from consumers.cli.moments import rows_of
from consumers.cli.terminal import console, print_json, print_table
from consumers.cli.waterfall import COLUMNS, CUT, picture, total_ms, waterfall
from consumers.texts import say

__all__ = ["explain", "trace"]


@asynchronous
async def explain(
    request_id: RequestId,
    tenant: OfTenant = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> int:
    """Explain the whole journey of a request in words, from the topics alone."""
    journey = await read_journey(request_id, read_settings(kafka), tenant)
    rows, result = rows_of(journey.moments()), journey.published
    still_open = journey.open_state(clock.now())
    is_done = journey.is_done and still_open is None
    if as_json:
        print_json(
            {
                "request_id": journey.request_id,
                "tenant": next(iter(journey.tenants), None),
                "task": journey.task,
                "done": is_done,
                "open": still_open,
                "cost_micros": journey.cost_micros,
                "published": result
                and {
                    "kind": result.router.kind,
                    "review": result.router.review,
                    "by": journey.decided_by(result),
                    "output": result.router.output,
                },
                "moments": rows,
            }
        )
    else:
        title = f"{journey.request_id} ({journey.task or 'task not known yet'})"
        print_table(rows, MOMENT_COLUMNS, title=title)
        if still_open is not None:
            say(still_open)
    return OK if is_done else FAILED


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
