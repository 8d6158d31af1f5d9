"""A model with latencies and limits of its own, called at a rate through our limit, simulated."""

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from router.limits.concurrency import Concurrency

__all__ = ["Flow", "Latency", "Model", "bimodal", "drifting", "lognormal", "run", "uniform"]

#: Seconds that a reply takes, by when its call begins.
Latency = Callable[[random.Random, float], float]


def lognormal(sigma: float, median: float = 0.8) -> Latency:
    return lambda dice, _: dice.lognormvariate(math.log(median), sigma)


def uniform(least: float = 0.05, most: float = 3.0) -> Latency:
    return lambda dice, _: dice.uniform(least, most)


def bimodal(short: float = 0.4, long: float = 8.0, share: float = 0.8) -> Latency:
    return lambda dice, _: short if dice.random() < share else long


def drifting(inner: Latency, factor: float, begins: float, ends: float) -> Latency:
    """As `inner`, and from `begins` to `ends` slower, ever more, and then for good."""

    def latency(dice: random.Random, now: float) -> float:
        share = min(max((now - begins) / (ends - begins), 0.0), 1.0)
        return inner(dice, now) * math.pow(factor, share)

    return latency


@dataclass(frozen=True)
class Model:
    """How a provider serves a model."""

    latency: Latency
    #: Calls at once that are served; more are refused. By time.
    most: Callable[[float], float] = lambda _: math.inf
    #: Calls per second that are served, in bursts of a second; more are refused.
    rate: float = math.inf
    #: Calls at once that are served in good time; more wait in line at the provider.
    servers: float = math.inf
    refusal_takes: float = 0.05
    #: Share of calls that are refused whatever runs: others use the same account.
    refused_at_random: float = 0.0


class _Unlimited:
    """As if nobody counted."""

    limit = 1_000_000

    def succeeded(self, seconds: float, running: int, now: float) -> None:
        """Learn nothing."""

    def refused(self, seconds: float, running: int, now: float) -> float:
        """Learn nothing."""
        return 0.0


@dataclass
class Flow:
    """What became of the calls."""

    offered: int = 0
    calls: int = 0
    done: int = 0
    refused: int = 0
    #: Seconds that calls were served, all together.
    busy: float = 0.0
    #: The limit at every second.
    limits: list[int] = field(default_factory=list)

    @property
    def refused_share(self) -> float:
        return self.refused / max(self.calls, 1)


def run(
    model: Model, *, rate: float, seconds: float, limit: Concurrency | None = None, seed: int = 1
) -> Flow:
    """Requests come at random at a rate; what is refused is asked again, after the others."""
    return _Simulation(model, rate, limit or _Unlimited(), random.Random(seed)).run(seconds)


class _Simulation:
    def __init__(
        self, model: Model, rate: float, limit: "Concurrency | _Unlimited", dice: random.Random
    ) -> None:
        self.model, self.rate, self.limit, self.dice = model, rate, limit, dice
        self.flow = Flow()
        self.now = self.rests_until = self.filled_at = 0.0
        self.tokens = 1.0
        self.waiting = self.running = self.served = 0
        #: When, in which order, what, and when it began.
        self.events: list[tuple[float, int, str, float]] = []
        self.free_at: list[float] = []
        self.order = itertools.count()

    def run(self, seconds: float) -> Flow:
        self.push(0.0, "arrive")
        while self.events[0][0] <= seconds:
            at, _, what, began = heapq.heappop(self.events)
            self.flow.busy += self.served * (at - self.now)
            self.flow.limits += [self.limit.limit] * (int(at) - int(self.now))
            self.now = at
            if what == "arrive":
                self.flow.offered += 1
                self.waiting += 1
                self.push(at + self.dice.expovariate(self.rate), "arrive")
            elif what != "go on":
                self.end(began, is_refused=what == "refused")
            while self.waiting and self.running < self.limit.limit and at >= self.rests_until:
                self.call()
        return self.flow

    def push(self, at: float, what: str, began: float = 0.0) -> None:
        heapq.heappush(self.events, (at, next(self.order), what, began))

    def end(self, began: float, *, is_refused: bool) -> None:
        if is_refused:
            pause = self.limit.refused(self.now - began, self.running, self.now)
            self.rests_until = self.now + pause
            self.push(self.rests_until, "go on")
            self.flow.refused += 1
            self.waiting += 1
        else:
            self.limit.succeeded(self.now - began, self.running, self.now)
            self.served -= 1
            self.flow.done += 1
        self.running -= 1

    def call(self) -> None:
        self.waiting -= 1
        self.running += 1
        self.flow.calls += 1
        if self.model.rate < math.inf:
            burst = max(self.model.rate, 1.0)
            self.tokens = min(self.tokens + (self.now - self.filled_at) * self.model.rate, burst)
            self.filled_at = self.now
        share = self.model.refused_at_random
        is_unlucky = share > 0 and self.dice.random() < share
        if is_unlucky or self.served >= self.model.most(self.now) or self.tokens < 1.0:
            self.push(self.now + self.model.refusal_takes, "refused", self.now)
            return

        if self.model.rate < math.inf:
            self.tokens -= 1.0
        self.served += 1
        took = self.model.latency(self.dice, self.now)
        self.push(self.begins(took) + took, "done", self.now)

    def begins(self, took: float) -> float:
        """When a server of the model is free for a call that takes so long."""
        if self.model.servers == math.inf:
            return self.now
        free = heapq.heappop(self.free_at) if len(self.free_at) >= self.model.servers else 0.0
        begins = max(free, self.now)
        heapq.heappush(self.free_at, begins + took)
        return begins
