"""`tierline feedback`: what became of an answer, by hand."""

from typing import Annotated

import typer
from pydantic import ValidationError

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
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The request's id.")],
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="What came of it: accepted, edited, regenerated, complaint or abandoned.",
        ),
    ],
    comment: Annotated[str | None, typer.Option(metavar="TEXT", help="Say why, in words.")] = None,
    generation: Annotated[
        int,
        typer.Option(metavar="NUMBER", help="Say which of its generations this is about.", min=1),
    ] = 1,
    tenant: OfTenant = None,
    kafka: KafkaAddress = None,
) -> None:
    """Say what became of an answer, as a downstream service does on `llm.feedback`."""
    fields = {"request_id": request_id, "generation": generation, "kind": kind}
    fields |= {"tenant": tenant} if tenant is not None else {}
    try:
        said = Feedback.model_validate({**fields, "at": clock.now(), "comment": comment})
    except ValidationError as error:
        name = error.errors()[0]["loc"][-1]
        expected = "accepted, edited, regenerated, complaint or abandoned"
        what = f"one of {expected}" if name == "kind" else "printable text without blanks"
        msg = f"{name} {fields.get(str(name))!r}: {what} was expected"
        raise UserError(msg) from None
    settings = read_settings(kafka)
    found = await read_journey(request_id, settings, tenant)
    whose = next(iter(found.tenants), said.tenant)
    said = said.model_copy(update={"request_id": found.request_id, "tenant": whose})
    value = dump(said.model_dump(mode="json", exclude_none=True))
    async with publisher(Clients(settings.kafka)) as out:
        key = said.key.text.encode()
        _ = await (await out.publish(settings.kafka.topics.feedback, value, key=key))
    console().print(f"noted: {said.request_id} {kind}")
