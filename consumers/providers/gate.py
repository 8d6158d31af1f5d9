"""The gate: may this model be called now? One per process, in front of every call.

It ties together, per model, what the provider allows (requests and tokens per minute, how many at
once) and how the provider is (throttling, failing, slow). It holds nobody up by itself: it says
how long to wait, and whoever calls waits in its own way.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from consumers.providers.settings import ModelLimits
from router.judge.reply import CallFailure, Reply
from router.limits.breaker import Breaker
from router.limits.bucket import Bucket
from router.limits.concurrency import Concurrency
from router.policy.table import Model
from schemas.base import Tier
from schemas.reasons import Reason
from schemas.status import ModelStatus

__all__ = ["Admission", "Gate"]

_log = structlog.get_logger(__name__)

#: As good as no limit: a process does not hold so many calls.
_MANY = 10_000
#: A slot may become free at any moment.
_LOOK_AGAIN = 0.05
#: A model that is left alone for so many seconds is worth a line in the log.
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
    #: It finds out whether a model that was out is back.
    is_probe: bool


@dataclass(slots=True)
class _Lane:
    """One model's limits and health in this process."""

    model: Model
    limits: ModelLimits
    breaker: Breaker = field(init=False)
    concurrency: Concurrency = field(init=False)
    buckets: dict[tuple[Tier, int], tuple[Bucket | None, Bucket | None]] = field(
        default_factory=dict
    )
    running: int = 0
    calls: int = 0
    failures: int = 0
    throttled: int = 0
    #: The limit on calls at once that the log knows.
    told: int = 0

    def __post_init__(self) -> None:
        self.breaker = Breaker(self.limits.first_break.total_seconds())
        self.concurrency = Concurrency(self.limits.concurrency or _MANY)


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
        #: How often somebody was told to wait: who waits for a provider does not stand still.
        self.waits = 0
        self._shares = shares
        self._partitions = partitions
        self._clock = clock
        self._lanes = {name: _Lane(model, limits(model)) for name, model in models.items()}

    def is_out(self, name: str) -> bool:
        """True while the model is not to be called: it fails, it throttles, or it refuses us."""
        is_out = self._lanes[name].breaker.wait(self._clock()) > 0
        self.waits += is_out
        return is_out

    def most_calls(self, names: Iterable[str]) -> int:
        """How many calls these models bear at once, all together; 0 while all are out."""
        return sum(self._lanes[name].concurrency.limit for name in names if not self.is_out(name))

    def counts_tokens(self, name: str) -> bool:
        """True when the provider limits the model's tokens, so that it matters how many."""
        return self._lanes[name].limits.tokens_per_minute is not None

    def admit(self, name: str, source: tuple[Tier, int], tokens: int) -> Admission | float:
        """Let a call through, or say in how many seconds to ask again.

        `tokens`: the most it may use, both sides.
        """
        lane, now = self._lanes[name], self._clock()
        self.waits += 1
        if (wait := lane.breaker.wait(now)) > 0:
            return wait
        if lane.running >= lane.concurrency.limit:
            return _LOOK_AGAIN
        requests, by_token = self._buckets(name, lane, source, now)
        for bucket, amount in ((requests, 1.0), (by_token, float(tokens))):
            if bucket is not None and (wait := bucket.wait(amount, now)) > 0:
                return wait
        if requests is not None:
            requests.reserve(1.0, now)
        if by_token is not None:
            by_token.reserve(tokens, now)
        lane.running += 1
        lane.calls += 1
        return Admission(name, source, tokens, now, lane.breaker.begin(now))

    def settle(self, admission: Admission, outcome: Reply | CallFailure | None) -> None:
        """A call has ended, with what came of it; None when we gave it up ourselves."""
        lane, now = self._lanes[admission.model], self._clock()
        lane.running -= 1
        _, by_token = lane.buckets.get(admission.source, (None, None))
        if by_token is not None and outcome is not None:
            is_unsent = isinstance(outcome, CallFailure) and outcome.is_unsent
            used = 0 if is_unsent else outcome.usage.total_tokens
            by_token.settle(admission.tokens, used, now)
        if outcome is None and admission.is_probe:
            lane.breaker.gave_up(now)
        if isinstance(outcome, Reply):
            lane.breaker.succeeded()
            most = lane.concurrency.limit
            lane.concurrency.succeeded(now - admission.began, lane.running + 1, now)
            self._tell_limit(lane, most)
        elif outcome is not None:
            self._note_failure(lane, outcome, admission.began, now)

    def forget(self, source: tuple[Tier, int]) -> None:
        """A partition is another process's now, and its share with it."""
        for lane in self._lanes.values():
            lane.buckets.pop(source, None)

    def states(self) -> list[ModelStatus]:
        """How every model is now."""
        now = self._clock()
        return [
            ModelStatus(
                model=name,
                provider=lane.model.provider,
                breaker=lane.breaker.state(now),
                wait_seconds=lane.breaker.wait(now),
                running=lane.running,
                most_running=lane.concurrency.limit,
                limited_by=lane.concurrency.limited_by,
                calls=lane.calls,
                failures=lane.failures,
                throttled=lane.throttled,
            )
            for name, lane in self._lanes.items()
        ]

    def _tell_limit(self, lane: _Lane, most: int) -> None:
        """A limit that was lowered is worth a line, again when it is half of what was told."""
        limit = lane.concurrency.limit
        if limit > 2 * lane.told:
            lane.told = limit
        elif limit < most and 2 * limit <= lane.told:
            lane.told = limit
            _log.info(
                "fewer calls at once",
                model=lane.model.id,
                provider=lane.model.provider,
                reason=lane.concurrency.limited_by,
                limit=limit,
                running=lane.running,
            )

    def _note_failure(self, lane: _Lane, failure: CallFailure, began: float, now: float) -> None:
        lane.failures += 1
        was_out = lane.breaker.wait(now) > 0
        match failure.reason:
            case Reason.THROTTLED:
                lane.throttled += 1
                most = lane.concurrency.limit
                pause = lane.concurrency.refused(now - began, lane.running + 1, now)
                if (wait := failure.retry_after or pause) > 0:
                    lane.breaker.held(wait, now)
                self._tell_limit(lane, most)
            case Reason.PROVIDER_REJECTED if failure.refuses == "provider":
                # One key, one account: its other models would say the same.
                for other in self._lanes.values():
                    if other.model.provider == lane.model.provider:
                        other.breaker.refused(now)
            case Reason.PROVIDER_REJECTED if failure.refuses == "model":
                lane.breaker.refused(now)
            case Reason.PROVIDER_REJECTED if failure.http_status != 404:
                lane.breaker.succeeded()  # it is well; it was this call that it did not take
            case Reason.CONTEXT_OVERFLOW:
                lane.breaker.succeeded()
            case _:
                lane.breaker.failed(now)
        if not was_out and (wait := lane.breaker.wait(now)) >= _LONG_BREAK:
            lane.concurrency.begin()
            _log.warning(
                "model out",
                model=lane.model.id,
                provider=lane.model.provider,
                reason=failure.reason.value,
                http_status=failure.http_status,
                seconds=round(wait),
            )

    def _buckets(self, name: str, lane: _Lane, source: tuple[Tier, int], now: float) -> _Buckets:
        found = lane.buckets.get(source)
        if found is None:
            part = self._shares.get((name, source[0]), 0.0) / max(self._partitions(), 1)
            requests, tokens = lane.limits.requests_per_minute, lane.limits.tokens_per_minute
            found = lane.buckets[source] = (
                Bucket(requests * part, now) if requests else None,
                Bucket(tokens * part, now) if tokens else None,
            )
        return found
