"""What became of a case that no longer waits: what was published, by whom, and how it was taken."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from consumers.console.rows import Case
from consumers.console.showing import Shown, pretty
from consumers.journeys.gathering import gathered
from consumers.journeys.journey import Journey
from consumers.journeys.moments import feedback_moment
from consumers.readmodel.database import StoreAwayError
from consumers.readmodel.following import IncompleteError, OtherTopicsError
from consumers.readmodel.model import ReadModel
from consumers.runtime.connection import KafkaUnreachableError
from schemas.result import Result
from schemas.tenancy import RequestKey

__all__ = ["Aftermath", "aftermath_of"]

#: Seconds that the page of a case waits for it.
_PATIENCE = 3.0
_AWAY = (KafkaUnreachableError, StoreAwayError, IncompleteError, OtherTopicsError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What the topics say about a case after its end."""

    #: False where they cannot be read now.
    is_known: bool
    #: The result that followed; None where none has yet, or Kafka no longer has it.
    result: Result | None = None
    output: Shown | None = None
    #: Who decided on what was published, where a person did.
    by: str | None = None
    #: What downstream services noted about it, in words.
    feedback: Sequence[str] = ()


async def aftermath_of(model: ReadModel, case: Case, hide: Callable[[str], str]) -> Aftermath:
    """What became of a case, as far as Kafka still has its records."""
    if case.request_id is None:
        return Aftermath(is_known=True)
    key = RequestKey(case.tenant, case.request_id)
    with contextlib.suppress(*_AWAY):
        async with asyncio.timeout(_PATIENCE):
            await model.refresh()
            places = [written.place for written in await model.records(key)]
            return _aftermath(await gathered(model.clients, key, places), case, hide)
    return Aftermath(is_known=False)


def _aftermath(journey: Journey, case: Case, hide: Callable[[str], str]) -> Aftermath:
    result = _result_after(journey, case)
    if result is None:
        return Aftermath(is_known=True)
    moments = [
        feedback_moment(feedback)
        for feedback in journey.feedback
        if feedback.source == "downstream" and feedback.generation == result.router.generation
    ]
    return Aftermath(
        is_known=True,
        result=result,
        output=Shown.of(pretty(result.router.output), hide),
        by=journey.decided_by(result),
        feedback=[hide(moment.words) for moment in moments],
    )


def _result_after(journey: Journey, case: Case) -> Result | None:
    """The result that stands in for the dead letter, else the last one of a later generation."""
    final = [result for result in journey.results if result.router.final]
    own = [result for result in final if result.router.resolves == case.place]
    later = [result for result in final if result.router.generation > case.generation]
    return next(iter(own or reversed(later)), None)
