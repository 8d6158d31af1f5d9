"""The gate: may this model be called now? One per process, in front of every call.

Per model it combines what the provider allows (requests and tokens per minute, calls at once) with
how the provider is doing (throttling, failing, slow). It never blocks: it says how long to wait,
and the caller waits in its own way.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from consumers.providers.settings import ModelLimits, ProviderSettingsError
from router.limits.breaker import Breaker
from router.limits.bucket import Bucket
from router.limits.concurrency import Concurrency
from router.limits.shares import Account, account_of, shares
from router.policy.apart import SHARED, Apart
from router.policy.table import Model, Policy
from router.reply.reply import CallFailure, Reply
from schemas.base import Tier
from schemas.reasons import Reason
from schemas.status import ModelStatus, TaskBreaker

__all__ = ["Admission", "Gate"]

_log = structlog.get_logger(__name__)

#: As good as no limit: a process does not hold so many calls.
_MANY = 10_000
#: Seconds until a caller asks again for a slot, which may become free at any moment.
_LOOK_AGAIN = 0.05
#: The part of a limit for a tier that no release served now lets call the model.
_OTHER_SHARE = 0.1
#: A model that is out for so many seconds is worth a line in the log.
_LONG_BREAK = 30.0

#: Requests and tokens per minute, as far as they are limited.
_Buckets = tuple[Bucket | None, Bucket | None]


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that was let through; handed back when it has ended."""

    account: Account
    #: The tier that calls, and the input partition it calls for.
    source: tuple[Tier, int]
    #: Tokens reserved.
    tokens: int
    began: float
    #: True for the call that finds out whether a model that was out is back.
    is_probe: bool
    #: The task that calls, and whose failures count; empty: those of all tasks.
    task: str
    whose: str


@dataclass(slots=True)
class _ModelState:
    """One model's limits and health in this process."""

    #: What a policy calls it.
    name: str
    model: Model
    limits: ModelLimits
    #: The tiers that call it for answers.
    tiers: set[Tier] = field(default_factory=set)
    #: The tasks that have a breaker of their own under the releases served now; True: their rows
    #: name a tier that calls it.
    apart: dict[str, bool] = field(default_factory=dict)
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

    def keep_apart(self, task: str, *, is_usual: bool) -> None:
        """Give a task a breaker of its own."""
        self.breaker_of(task)
        self.apart[task] = self.apart.get(task, False) or is_usual

    def is_out(self, now: float) -> bool:
        """True while nobody who usually calls it may."""
        usual = [task for task, is_usual in self.apart.items() if is_usual]
        return all(self.breakers[whose].wait(now) > 0 for whose in ("", *usual))

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

    Two names for one model of one provider share its limits and its health. The releases that are
    served, which new requests are given, share the limits and hold the fetch up while their models
    are out. What is left of earlier releases may call, too.

    A provider's limit per minute is split by `shares` over the tiers that use a model, and then
    evenly over the partitions of a tier's topic, of which there are `partitions`. A process has a
    bucket per partition it holds, so all processes together stay under the limit through every
    rebalance, without shared state.
    """

    def __init__(
        self,
        limits: Callable[[Model], ModelLimits],
        partitions: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        #: Grows while callers wait here: a process that waits for a provider is not stuck.
        self.waits = 0
        self._limits = limits
        self._partitions = partitions
        self._clock = clock
        #: Calls under way, by task.
        self._taken: Counter[str] = Counter()
        self._shares: Mapping[tuple[Account, Tier], float] = {}
        self._states: dict[Account, _ModelState] = {}

    def check(self, policy: Policy) -> None:
        """Raises ProviderSettingsError where a tier that calls a model has no share of it."""
        for (account, tier), part in self._parts([policy]).items():
            if not part:
                models = policy.models.items()
                name = next(name for name, model in models if account_of(model) == account)
                msg = f"limits of {name}: share leaves {tier} out, and a policy lets it call it"
                raise ProviderSettingsError(msg)

    def serve(self, policies: Sequence[Policy]) -> None:
        """Share the limits between the models of these policies, which have passed `check`.

        What is known of a model stays. Where its share changes, its buckets are empty again.
        """
        named = [(name, model) for policy in policies for name, model in policy.models.items()]
        accounts, now = {account_of(model) for _, model in named}, self._clock()
        parts = self._parts(policies)
        keys = {*parts, *self._shares}
        changed = {key[0] for key in keys if parts.get(key) != self._shares.get(key)}
        for account, state in list(self._states.items()):
            state.tiers.clear()
            state.apart.clear()
            if account in changed:
                state.buckets.clear()
            is_waiting = any(breaker.wait(now) > 0 for breaker in state.breakers.values())
            if account not in accounts and not state.running and not is_waiting:
                del self._states[account]
        self._shares = parts
        for name, model in named:
            self._state(model, name)
        for policy in policies:
            for tier, names in policy.models_by_tier.items():
                for name in names:
                    self._state(policy.models[name]).tiers.add(tier)
            for task, row in policy.tasks.items():
                tiers = (row.tier, *row.escalation)
                usual = {name for tier in tiers for name in policy.models_of(tier, task)}
                for name in policy.apart(task).models:
                    self._state(policy.models[name]).keep_apart(task, is_usual=name in usual)

    def is_out(self, model: Model, whose: str = "") -> bool:
        """True while the model is not to be called: it fails, it throttles, or it refuses us.

        `whose`: the task whose failures count, where it has a breaker of its own.
        """
        is_out = self._state(model).breaker_of(whose).wait(self._clock()) > 0
        self.waits += is_out
        return is_out

    def is_full(self, own: Apart) -> bool:
        """True while the task has as many calls under way as it may have at once."""
        is_full = own.slots is not None and self._taken[own.task] >= own.slots
        self.waits += is_full
        return is_full

    def most_calls(self, tier: Tier) -> int:
        """How many calls the models of a tier take at once, all together; 0 while all are out.

        What is left in a tier that no release served now has is not held up.
        """
        states, now = [each for each in self._states.values() if tier in each.tiers], self._clock()
        most = sum(state.concurrency.limit for state in states if not state.is_out(now))
        most = most if states else _MANY
        self.waits += not most
        return most

    def counts_tokens(self, model: Model) -> bool:
        """True when the provider limits the model's tokens, so that `admit` has to know them."""
        return self._state(model).limits.tokens_per_minute is not None

    def admit(
        self,
        model: Model,
        source: tuple[Tier, int],
        tokens: int,
        own: Apart = SHARED,
        whose: str = "",
    ) -> Admission | float:
        """Let a call through, or say in how many seconds to ask again.

        `tokens`: the most it may use, both sides.
        """
        state, now = self._state(model), self._clock()
        breaker = state.breaker_of(whose)
        self.waits += 1
        if (wait := breaker.wait(now)) > 0:
            return wait
        if state.running >= state.concurrency.limit or self.is_full(own):
            return _LOOK_AGAIN
        account = account_of(model)
        requests, by_token = self._buckets(account, state, source, now)
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
        return Admission(account, source, tokens, now, breaker.begin(now), own.task, whose)

    def settle(self, admission: Admission, outcome: Reply | CallFailure | None) -> None:
        """Note that a call has ended, and its outcome: None when we gave it up ourselves."""
        state, now = self._states[admission.account], self._clock()
        state.running -= 1
        self._taken[admission.task] -= 1
        breaker = state.breaker_of(admission.whose)
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
                model=state.name,
                provider=state.model.provider,
                breaker=state.breaker.state(now),
                wait_seconds=state.breaker.wait(now),
                running=state.running,
                most_running=state.concurrency.limit,
                limited_by=state.concurrency.limited_by,
                calls=state.calls,
                failures=state.failures,
                throttled=state.throttled,
                apart=[
                    TaskBreaker(task=task, breaker=own.state(now), wait_seconds=own.wait(now))
                    for task in sorted(state.apart)
                    for own in (state.breakers[task],)
                ],
            )
            for state in self._states.values()
        ]

    def _parts(self, policies: Sequence[Policy]) -> Mapping[tuple[Account, Tier], float]:
        """The share of each tier in each model that it calls under these policies."""
        models = [model for policy in policies for model in policy.models.values()]
        limits = {account_of(model): self._limits(model) for model in models}
        given = {account: limit.share for account, limit in limits.items() if limit.share}
        return shares(policies, given)

    def _state(self, model: Model, name: str = "") -> _ModelState:
        """A model's state. A request may be under a release that is served no more."""
        account = account_of(model)
        if (state := self._states.get(account)) is None:
            state = _ModelState(name or model.id, model, self._limits(model))
            self._states[account] = state
        return state

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
                for_task=admission.whose or "all",
            )

    def _buckets(
        self, account: Account, state: _ModelState, source: tuple[Tier, int], now: float
    ) -> _Buckets:
        buckets = state.buckets.get(source)
        if buckets is None:
            share = self._shares.get((account, source[0]), _OTHER_SHARE)
            share /= max(self._partitions(), 1)
            requests, tokens = state.limits.requests_per_minute, state.limits.tokens_per_minute
            buckets = state.buckets[source] = (
                Bucket(requests * share, now) if requests else None,
                Bucket(tokens * share, now) if tokens else None,
            )
        return buckets
