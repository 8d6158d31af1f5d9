"""A request's journey from the places of its records, without reading the topics through."""

from collections.abc import Iterable

from consumers.journeys.journey import Journey
from consumers.records import record_ref, why_not_taken
from consumers.runtime.clients import Clients
from consumers.runtime.offset_lookup import records_at
from schemas.dead_letter import Pointer
from schemas.tenancy import RequestKey

__all__ = ["gathered"]


async def gathered(clients: Clients, request: RequestKey, places: Iterable[Pointer]) -> Journey:
    """What the records at these places say of a request, as far as Kafka still has them.

    Raises KafkaUnreachableError.
    """
    journey, topics = Journey(request.id, request.tenant), clients.settings.topics
    records = await records_at(clients, places)
    for record in sorted(records, key=lambda record: (record.timestamp, record_ref(record))):
        # Anybody may have written it; what is wrong about it stops nothing else.
        why_not_taken(lambda record: journey.read(record, topics), record)
    return journey
