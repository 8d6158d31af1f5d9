"""What a worker needs of the runtime and of providers."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Protocol

from router.prompts.chat_fields import ChatFields
from router.reply.reply import CallFailure, Reply

__all__ = ["CallModels", "Slot"]


class Slot(Protocol):
    """A record's place in the worker pool."""

    async def wait(self, seconds: float, *, keeps_place: bool = False, paid: bool = False) -> None:
        """Wait without working. Unless the place is kept, another record may take it meanwhile.

        When its partition is to move, a request that has `paid` for a call is waited for.
        """

    async def may_call(self, *, paid: bool = False) -> bool:
        """True while the record's partition certainly belongs to this process.

        A request that has `paid` for a call may continue while the partition is about to move.
        """

    def is_ours(self) -> bool:
        """False once the partition may belong to another process."""


class CallModels(Protocol):
    """Calls a model once. Whatever the provider does, it raises nothing."""

    def chat_fields(self, provider: str) -> ChatFields:
        """The fields of a producer's chat body that a provider is sent."""

    def call(
        self,
        provider: str,
        body: dict[str, Any],
        *,
        attempt_id: str,
        request_id: str,
        timeout: timedelta,
        may_leave: Callable[[], bool],
        idempotency_key: str,
    ) -> Awaitable[Reply | CallFailure]:
        """The reply, or why there is none. Nothing is sent once `may_leave` returns False.

        A call that may have run before has the `idempotency_key` that it had then.
        """
