"""`tierline explain`: the whole journey of one request, in words."""

from consumers.cli.common import (
    FAILED,
    AsJson,
    KafkaAddress,
    OfTenant,
    RequestId,
    print_json,
    print_table,
    read_settings,
    run,
)

__all__ = ["explain"]


def explain(
    request_id: RequestId,
    tenant: OfTenant = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Tell the whole journey of a request in words, from the topics alone."""

    async def main() -> int:
        from consumers import clock
        from consumers.cli.journey import read_journey
        from consumers.cli.moments import rows_of
        from consumers.cli.texts import say

        journey = await read_journey(request_id, read_settings(kafka), tenant)
        rows = rows_of(journey.moments())
        still_open = journey.open_state(clock.now())
        is_done = bool(journey.results or journey.letters) and still_open is None
        if as_json:
            said = journey.published
            print_json(
                {
                    "request_id": journey.request_id,
                    "tenant": next(iter(journey.tenants), None),
                    "task": journey.task,
                    "done": is_done,
                    "open": still_open,
                    "cost_micros": journey.cost_micros,
                    "published": said
                    and {
                        "kind": said.router.kind,
                        "review": said.router.review,
                        "by": journey.decided_by(said),
                        "output": said.router.output,
                    },
                    "moments": rows,
                }
            )
        else:
            title = f"{journey.request_id} ({journey.task or 'task not known yet'})"
            print_table(rows, ("after", "what", "tier", "words"), title=title)
            if still_open is not None:
                say(still_open)
        return 0 if is_done else FAILED

    run(main)
