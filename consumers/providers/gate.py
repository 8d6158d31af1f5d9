"""The gate: may this model be called now? One per process, in front of every call.

Per model it combines what the provider allows (requests and tokens per minute, calls at once) with
how the provider is doing (throttling, failing, slow). It never blocks: it says how long to wait,
and the caller waits in its own way.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from consumers.providers.settings import ModelLimits
from router.limits.breaker import Breaker
from router.limits.bucket import Bucket
from router.limits.concurrency import Concurrency
from router.policy.apart import SHARED, Apart
from router.policy.table import Model
from router.reply.reply import CallFailure, Reply
from schemas.base import Tier
from schemas.reasons import Reason
from schemas.status import ModelStatus

__all__ = ["Admission", "Gate"]

_log = structlog.get_logger(__name__)

#: As good as no limit: a process does not hold so many calls.
_MANY = 10_000
#: Seconds until a caller asks again for a slot, which may become free at any moment.
_LOOK_AGAIN = 0.05
#: A model that is out for so many seconds is worth a line in the log.
_LONG_BREAK = 30.0

#: Requests and tokens per minute, as far as they are limited.
_Buckets = tuple[Bucket | None, Bucket | None]


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that was let through; handed back when it has ended."""

    model: str
    #: The tier that calls, and the input partition it calls for.
    source: tuple[Tier, int]
    #: Tokens reserved.
    tokens: int
    began: float
    #: True for the call that finds out whether a model that was out is back.
    is_probe: bool
    own: Apart


@dataclass(slots=True)
class _ModelState:
    """One model's limits and health in this process."""

    model: Model
    limits: ModelLimits
    #: By the task that has one of its own; that of all others has no name.
    breakers: dict[str, Breaker] = field(init=False)
    concurrency: Concurrency = field(init=False)
    buckets: dict[tuple[Tier, int], _Buckets] = field(default_factory=dict)
    running: int = 0
    calls: int = 0
    failures: int = 0
    throttled: int = 0
    #: The limit on calls at once by the latest line in the log.
    logged_limit: int = 0

    def __post_init__(self) -> None:
        self.breakers = {"": self._new_breaker()}
        self.concurrency = Concurrency(self.limits.concurrency or _MANY)

    @property
    def breaker(self) -> Breaker:
        """That of all tasks without one of their own."""
        return self.breakers[""]

    def breaker_of(self, whose: str) -> Breaker:
        if whose not in self.breakers:
            self.breakers[whose] = self._new_breaker()
        return self.breakers[whose]

    def is_out(self, now: float) -> bool:
        """True while nobody may call it."""
        return all(breaker.wait(now) > 0 for breaker in self.breakers.values())

    def held(self, seconds: float, now: float) -> None:
        """Nobody calls it for so long: whoever called, the account is the same."""
        for breaker in self.breakers.values():
            breaker.held(seconds, now)

    def refused(self, now: float) -> None:
        """Nobody calls it for a minute at least."""
        for breaker in self.breakers.values():
            breaker.refused(now)

    def _new_breaker(self) -> Breaker:
        return Breaker(self.limits.first_break.total_seconds())


class Gate:
    """Limits and health of all models that a process calls.

    A provider's limit per minute is split by `shares` over the tiers that use a model, and then
    evenly over the partitions of a tier's topic, of which there are `partitions`. A process has a
    bucket per partition it holds, so all processes together stay under the limit through every
    rebalance, without shared state.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        limits: Callable[[Model], ModelLimits],
        shares: Mapping[tuple[str, Tier], float],
        partitions: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        #: Grows while callers wait here: a process that waits for a provider is not stuck.
        self.waits = 0
        self._shares = shares
        self._partitions = partitions
        self._clock = clock
        #: Calls under way, by task.
        self._taken: Counter[str] = Counter()
        self._states = {name: _ModelState(model, limits(model)) for name, model in models.items()}

    def is_out(self, name: str, own: Apart = SHARED) -> bool:
        """True while the model is not to be called: it fails, it throttles, or it refuses us.

        `own`: what the calling task has to itself.
        """
        is_out = self._states[name].breaker_of(own.whose(name)).wait(self._clock()) > 0
        self.waits += is_out
        return is_out

    def is_full(self, own: Apart) -> bool:
        """True while the task has as many calls under way as it may have at once."""
        is_full = own.slots is not None and self._taken[own.task] >= own.slots
        self.waits += is_full
        return is_full

    def most_calls(self, names: Iterable[str]) -> int:
        """How many calls these models take at once, all together; 0 while all are out."""
        states, now = [self._states[name] for name in names], self._clock()
        most = sum(state.concurrency.limit for state in states if not state.is_out(now))
        self.waits += not most
        return most

    def counts_tokens(self, name: str) -> bool:
        """True when the provider limits the model's tokens, so that `admit` has to know them."""
        return self._states[name].limits.tokens_per_minute is not None

    def admit(
        self, name: str, source: tuple[Tier, int], tokens: int, own: Apart = SHARED
    ) -> Admission | float:
        """Let a call through, or say in how many seconds to ask again.

        `tokens`: the most it may use, both sides.
        """
        state, now = self._states[name], self._clock()
        breaker = state.breaker_of(own.whose(name))
        self.waits += 1
        if (wait := breaker.wait(now)) > 0:
            return wait
        if state.running >= state.concurrency.limit or self.is_full(own):
            return _LOOK_AGAIN
        requests, by_token = self._buckets(name, state, source, now)
        for bucket, amount in ((requests, 1.0), (by_token, float(tokens))):
            if bucket is not None and (wait := bucket.wait(amount, now)) > 0:
                return wait
        if requests is not None:
            requests.reserve(1.0, now)
        if by_token is not None:
            by_token.reserve(tokens, now)
        state.running += 1
        state.calls += 1
        self._taken[own.task] += 1
        return Admission(name, source, tokens, now, breaker.begin(now), own)

    def settle(self, admission: Admission, outcome: Reply | CallFailure | None) -> None:
        """Note that a call has ended, and its outcome: None when we gave it up ourselves."""
        state, now = self._states[admission.model], self._clock()
        state.running -= 1
        self._taken[admission.own.task] -= 1
        breaker = state.breaker_of(admission.own.whose(admission.model))
        _, by_token = state.buckets.get(admission.source, (None, None))
        if by_token is not None and outcome is not None:
            is_unsent = isinstance(outcome, CallFailure) and outcome.is_unsent
            used = 0 if is_unsent else outcome.usage.total_tokens
            by_token.settle(admission.tokens, used, now)
        if outcome is None and admission.is_probe:
            breaker.gave_up(now)
        if isinstance(outcome, Reply):
            breaker.succeeded()
            limit_before = state.concurrency.limit
            state.concurrency.succeeded(now - admission.began, state.running + 1, now)
            self._log_limit(state, limit_before)
        elif outcome is not None:
            self._note_failure(state, breaker, outcome, admission, now)

    def forget(self, source: tuple[Tier, int]) -> None:
        """Drop the buckets of a partition that now belongs to another process."""
        for state in self._states.values():
            state.buckets.pop(source, None)

    def states(self) -> list[ModelStatus]:
        """How every model is now."""
        now = self._clock()
        return [
            ModelStatus(
                model=name,
                provider=state.model.provider,
                breaker=state.breaker.state(now),
                wait_seconds=state.breaker.wait(now),
                running=state.running,
                most_running=state.concurrency.limit,
                limited_by=state.concurrency.limited_by,
                calls=state.calls,
                failures=state.failures,
                throttled=state.throttled,
            )
            for name, state in self._states.items()
        ]

    def _log_limit(self, state: _ModelState, limit_before: int) -> None:
        """Log a limit that was lowered, once it is half of the one that was logged last."""
        limit = state.concurrency.limit
        if limit > 2 * state.logged_limit:
            state.logged_limit = limit
        elif limit < limit_before and 2 * limit <= state.logged_limit:
            state.logged_limit = limit
            _log.info(
                "fewer calls at once",
                model=state.model.id,
                provider=state.model.provider,
                reason=state.concurrency.limited_by,
                limit=limit,
                running=state.running,
            )

    def _note_failure(
        self,
        state: _ModelState,
        breaker: Breaker,
        failure: CallFailure,
        admission: Admission,
        now: float,
    ) -> None:
        state.failures += 1
        was_out = breaker.wait(now) > 0
        match failure.reason:
            case Reason.THROTTLED:
                state.throttled += 1
                limit_before = state.concurrency.limit
                ran = now - admission.began
                pause = state.concurrency.refused(ran, state.running + 1, now)
                if (wait := failure.retry_after or pause) > 0:
                    state.held(wait, now)
                self._log_limit(state, limit_before)
            case Reason.PROVIDER_REJECTED if failure.refuses == "provider":
                # One key, one account: the provider's other models would refuse us too.
                for other in self._states.values():
                    if other.model.provider == state.model.provider:
                        other.refused(now)
            case Reason.PROVIDER_REJECTED if failure.refuses == "model":
                state.refused(now)
            case Reason.PROVIDER_REJECTED if failure.http_status != 404:
                breaker.succeeded()  # the model is fine; only this call was refused
            case Reason.CONTEXT_OVERFLOW:
                breaker.succeeded()
            case _:
                breaker.failed(now)
        if not was_out and (wait := breaker.wait(now)) >= _LONG_BREAK:
            if breaker is state.breaker:
                state.concurrency.begin()
            _log.warning(
                "model out",
                model=state.model.id,
                provider=state.model.provider,
                reason=failure.reason.value,
                http_status=failure.http_status,
                seconds=round(wait),
                for_task=admission.own.whose(admission.model) or "all",
            )

    def _buckets(
        self, name: str, state: _ModelState, source: tuple[Tier, int], now: float
    ) -> _Buckets:
        buckets = state.buckets.get(source)
        if buckets is None:
            share = self._shares.get((name, source[0]), 0.0) / max(self._partitions(), 1)
            requests, tokens = state.limits.requests_per_minute, state.limits.tokens_per_minute
            buckets = state.buckets[source] = (
                Bucket(requests * share, now) if requests else None,
                Bucket(tokens * share, now) if tokens else None,
            )
        return buckets
