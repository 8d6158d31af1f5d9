"""A request's journey for commands, from all that the topics hold."""

from consumers.cli.common import UserError
from consumers.cli.records import reading
from consumers.journeys.journey import Journey
from consumers.records import record_ref, why_not_taken
from consumers.settings import Settings
from consumers.texts import say

__all__ = ["read_journey"]

#: The most requests of one `custom_id` that are named.
_MOST_NAMED = 5


async def read_journey(request_id: str, settings: Settings, tenant: str | None = None) -> Journey:
    """Everything the topics say of a request, by its id or by the `custom_id` of one request.

    Raises UserError when they have no such request, or several of them.
    """
    journey = await _read_all(Journey(request_id, tenant), settings)
    if not journey.is_known and len(journey.named) == 1:
        [named] = journey.named
        say(f"{request_id} is the custom_id of the request {named}", is_error=True)
        journey = await _read_all(Journey(named, tenant, custom_id=request_id), settings)
    elif not journey.is_known and journey.named:
        ids = sorted(journey.named)
        listed = ", ".join(ids[:_MOST_NAMED]) + (", ..." if len(ids) > _MOST_NAMED else "")
        msg = f"{len(ids)} requests have the custom_id {request_id!r}: {listed}; name one by its id"
        raise UserError(msg)
    if not journey.is_known:
        whose = f" of the tenant {tenant!r}" if tenant is not None else ""
        msg = (
            f"no topic has a request whose id or custom_id is {request_id!r}{whose}; ids are "
            "case-sensitive"
        )
        raise UserError(msg)
    if len(journey.tenants) > 1:
        tenants = ", ".join(sorted(journey.tenants))
        msg = (
            f"several tenants have a request {journey.request_id!r}: {tenants}; "
            "name one with --tenant"
        )
        raise UserError(msg)
    return journey


async def _read_all(journey: Journey, settings: Settings) -> Journey:
    topics = settings.kafka.topics
    async with reading(settings, [name for name, _ in topics.all()]) as (reader, seen):
        async for record in reader.until_end(seen):
            why = why_not_taken(lambda record: journey.read(record, topics), record)
            if why is not None:
                say(f"tierline: {record_ref(record)} cannot be read: {why}", is_error=True)
    return journey
