"""`tierline feedback`: what happened to an answer, noted by hand."""

from typing import Annotated

from pydantic import ValidationError
from typer import Argument, Option

from consumers import clock
from consumers.cli.common import KafkaAddress, OfTenant, UserError, asynchronous, read_settings
from consumers.cli.journey import read_journey
from consumers.cli.terminal import console
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from schemas.codec import dump
from schemas.feedback import Feedback

__all__ = ["feedback"]


@asynchronous
async def feedback(
    request_id: Annotated[str, Argument(metavar="REQUEST_ID", help="The request's id.")],
    kind: Annotated[
        str,
        Argument(
            metavar="KIND",
            help="What happened: accepted, edited, regenerated, complaint or abandoned.",
        ),
    ],
    comment: Annotated[str | None, Option(metavar="TEXT", help="Say why, in words.")] = None,
    generation: Annotated[
        int,
        Option(metavar="NUMBER", help="Set the generation of the request that it is about.", min=1),
    ] = 1,
    tenant: OfTenant = None,
    kafka: KafkaAddress = None,
) -> None:
    """Note what happened to an answer, as a downstream service does on `llm.feedback`."""
    fields = {"request_id": request_id, "generation": generation, "kind": kind}
    fields |= {"tenant": tenant} if tenant is not None else {}
    try:
        record = Feedback.model_validate({**fields, "at": clock.now(), "comment": comment})
    except ValidationError as error:
        name = error.errors()[0]["loc"][-1]
        expected = "accepted, edited, regenerated, complaint or abandoned"
        what = f"one of {expected}" if name == "kind" else "printable text without blanks"
        msg = f"{name} {fields.get(str(name))!r}: {what} was expected"
        raise UserError(msg) from None
    settings = read_settings(kafka)
    journey = await read_journey(request_id, settings, tenant)
    whose = next(iter(journey.tenants), record.tenant)
    record = record.model_copy(update={"request_id": journey.request_id, "tenant": whose})
    value = dump(record.model_dump(mode="json", exclude_none=True))
    async with publisher(Clients(settings.kafka)) as out:
        key = record.key.text.encode()
        _ = await (await out.publish(settings.kafka.topics.feedback, value, key=key))
    console().print(f"noted: {record.request_id} {kind}")
