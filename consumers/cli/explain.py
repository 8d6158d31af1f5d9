"""`tierline explain`: the whole journey of one request, in words."""

from typing import Annotated

import typer

from consumers.cli.common import (
    FAILED,
    AsJson,
    KafkaAddress,
    print_json,
    print_table,
    read_settings,
    run,
)

__all__ = ["explain"]


def explain(
    request_id: Annotated[str, typer.Argument(help="The id of the request.")],
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Tell the whole journey of a request in words, from the topics alone."""

    async def main() -> int:
        from consumers.cli.common import UserError
        from consumers.cli.journey import Journey, rows_of
        from consumers.runtime.clients import Clients
        from consumers.runtime.reading import topic_reader

        settings = read_settings(kafka)
        topics = settings.kafka.topics
        journey = Journey(request_id)
        names = [name for name, _ in topics.all()]
        async with topic_reader(Clients(settings.kafka), names) as reader:
            async for record in reader.until_end():
                journey.read(record, topics)
        if not journey.is_known:
            msg = f"no topic knows the request {request_id!r}; ids are case-sensitive"
            raise UserError(msg)
        rows = rows_of(journey.moments())
        is_done = bool(journey.results or journey.letters)
        if as_json:
            print_json(
                {
                    "request_id": request_id,
                    "task": journey.task,
                    "done": is_done,
                    "cost_micros": journey.cost_micros,
                    "moments": rows,
                }
            )
        else:
            title = f"{request_id} ({journey.task or 'task not known yet'})"
            print_table(rows, ("after", "what", "tier", "words"), title=title)
        return 0 if is_done else FAILED

    run(main)
