"""The calls of one stage, counted, so that a stage of slow calls does not count as stuck."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from consumers.providers.gate import Gate
from consumers.stages.ports import CallModels
from consumers.stages.refusing import Refusals
from router.prompts.chat_fields import ChatFields
from router.reply.reply import CallFailure, Reply

__all__ = ["CountedCalls"]


class CountedCalls:
    """The calls of one stage, counted as they begin and end.

    A request may need several slow calls before it can be committed: the stage is not stuck then.
    """

    def __init__(self, calls: CallModels, gate: Gate, refusals: Refusals) -> None:
        self._calls = calls
        self._gate = gate
        self._refusals = refusals
        self._moves = 0

    def moves(self) -> int:
        """How many calls have begun and ended, and how often a request looked or waited."""
        return self._moves + self._gate.waits + self._refusals.looks

    def chat_fields(self, provider: str) -> ChatFields:
        """The fields of a producer's chat body that a provider is sent."""
        return self._calls.chat_fields(provider)

    async def call(
        self,
        provider: str,
        body: dict[str, Any],
        *,
        attempt_id: str,
        request_id: str,
        timeout: timedelta,  # noqa: ASYNC109  the whole call's, passed on
        may_leave: Callable[[], bool],
        idempotency_key: str,
    ) -> Reply | CallFailure:
        self._moves += 1
        try:
            return await self._calls.call(
                provider,
                body,
                attempt_id=attempt_id,
                request_id=request_id,
                timeout=timeout,
                may_leave=may_leave,
                idempotency_key=idempotency_key,
            )
        finally:
            self._moves += 1
