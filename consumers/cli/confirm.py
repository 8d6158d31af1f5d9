"""`tierline confirm`: agree to what a request costs above its cap."""

import orjson

from consumers.amounts import dollars
from consumers.cli.common import (
    KafkaAddress,
    OfTenant,
    RequestId,
    UserError,
    asynchronous,
    read_settings,
)
from consumers.cli.journey import read_journey
from consumers.cli.request_files import Line
from consumers.cli.submit import IntakeName, SigningKey, signing
from consumers.cli.terminal import console
from consumers.runtime.clients import Clients
from consumers.runtime.publisher import publisher
from router.intake.signatures import SIGNATURE

__all__ = ["confirm"]


@asynchronous
async def confirm(
    request_id: RequestId,
    tenant: OfTenant = None,
    way: IntakeName = None,
    sign_with: SigningKey = None,
    kafka: KafkaAddress = None,
) -> None:
    """Agree to the price of a request that its budget has no money for; it goes on, once."""
    settings = read_settings(kafka)
    signed = signing(settings, sign_with)
    journey = await read_journey(request_id, settings, tenant)
    asked = [result.router for result in journey.results if result.status == "needs_confirmation"]
    info = max(asked, key=lambda info: info.generation, default=None)
    if info is None or info.price is None or journey.ended >= info.generation:
        msg = f"{journey.request_id}: no price waits to be confirmed"
        raise UserError(msg)
    price = info.price.micros
    fields = {"confirm": journey.request_id, "price_micros": price, "tenant": info.tenant}
    line = Line(orjson.dumps(fields), b"", info.tenant, None, journey.request_id)
    headers = [(SIGNATURE, signed(line))] if signed else []
    intake = ".".join(filter(None, (settings.kafka.topics.intake, way)))
    async with publisher(Clients(settings.kafka)) as out:
        key = journey.request_id.encode()
        _ = await (await out.publish(intake, line.value, key=key, headers=headers))
    console().print(f"confirmed: {journey.request_id} may cost up to {dollars(price)}")
