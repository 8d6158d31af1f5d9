"""Many requests at once through a provider that misbehaves: who is called, how often, and when.

Whole workers behind one gate, over real connections. Time runs sixty times as fast for whoever
waits, so that a minute of trouble takes a second.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
import pytest

from consumers import clock
from consumers.policies import Policies
from consumers.providers.client import Providers
from consumers.providers.gate import Gate
from consumers.providers.settings import ModelLimits
from consumers.stages.route import Router
from router.prompts.chat_fields import ChatFields
from router.reply.reply import CallFailure, Reply
from schemas.base import Tier
from schemas.status import ModelStatus
from tests.builders import a_record, a_worker, decided, handled
from tests.unit.consumers.servers import Respond, Server, a_response, sending, serving
from tests.unit.consumers.test_hostile_providers import (
    GOOD,
    RULES,
    TOPICS,
    error,
    status,
)
from tests.unit.consumers.test_providers import a_completion, settings

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

A, B = "sim-small", "sim-small-b"
_FASTER = 60.0
#: What a model's call takes, in real seconds: more than one of a minute's, as of a slow model.
_LATENCY = 0.04


def fast_clock() -> float:
    return time.monotonic() * _FASTER


class _Place:
    async def wait(self, seconds: float, *, keeps_place: bool = False, paid: bool = False) -> None:
        await asyncio.sleep(seconds / _FASTER)

    async def may_call(self, *, paid: bool = False) -> bool:
        return True

    def is_ours(self) -> bool:
        return True


@dataclass(frozen=True)
class Call:
    """One call as the process that made it saw it; times by the fast clock."""

    model: str
    began: float
    ended: float
    outcome: Reply | CallFailure

    @property
    def wait(self) -> float | None:
        """Seconds that the provider asked us to wait."""
        return self.outcome.retry_after if isinstance(self.outcome, CallFailure) else None


@dataclass
class Crowd:
    """Requests on their way, and what came of them."""

    gate: Gate
    calls: list[Call] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    #: How the first model was, whenever a request had ended.
    seen: list[ModelStatus] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return len(self.calls) / self.ends.total()

    def of(self, model: str) -> list[Call]:
        return [call for call in self.calls if call.model == model]

    def early(self, model: str) -> list[Call]:
        """Calls made after the provider had asked to wait, and before the time was over."""
        asked = [(one.ended, one.ended + one.wait) for one in self.of(model) if one.wait]
        return [
            call
            for call in self.of(model)
            if any(told < call.began < until for told, until in asked)
        ]


@dataclass
class _Watched:
    """A process's calls, noted."""

    providers: Providers
    crowd: Crowd

    def chat_fields(self, provider: str) -> ChatFields:
        return self.providers.chat_fields(provider)

    async def call(
        self,
        provider: str,
        body: dict[str, Any],
        *,
        attempt_id: str,
        request_id: str,
        timeout: timedelta,  # noqa: ASYNC109
        may_leave: Callable[[], bool],
        idempotency_key: str = "",
    ) -> Reply | CallFailure:
        began = fast_clock()
        outcome = await self.providers.call(
            provider, body, attempt_id=attempt_id, request_id=request_id, timeout=timeout
        )
        self.crowd.calls.append(Call(body["model"], began, fast_clock(), outcome))
        return outcome


#: What a model does with a call, and how long it takes, by the seconds since the crowd came.
Behaves = Callable[[float], tuple[Respond, float]]


def always(respond: Respond, latency: float = _LATENCY) -> Behaves:
    return lambda _: (respond, latency)


def until(seconds: float, first: Behaves, then: Behaves) -> Behaves:
    return lambda now: (first if now < seconds else then)(now)


def replying(model: str, latency: float = _LATENCY) -> Behaves:
    """A reply that says who gives it."""
    completion = {**a_completion(GOOD), "model": model}
    return always(sending(a_response(orjson.dumps(completion))), latency)


WELL = {model: replying(model) for model in (A, B)}


async def a_crowd(
    behaves: dict[str, Behaves], *, requests: int, width: int, least: float = 0.0
) -> Crowd:
    """Send so many requests, and more until `least` seconds are over, at most `width` at once."""
    policy = RULES.policy
    gate = Gate(lambda _: ModelLimits(), lambda: 1, clock=fast_clock)
    gate.serve([policy])
    crowd, arrived, models = Crowd(gate), fast_clock(), {**WELL, **behaves}

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The server keeps bodies in their order, and this one is read before anything is awaited.
        model = orjson.loads(server.bodies[-1])["model"]
        said, latency = models[model](fast_clock() - arrived)
        await asyncio.sleep(latency)
        await said(reader, writer)

    def numbers() -> Iterator[int]:
        number = 0
        while number < requests or fast_clock() - arrived < least:
            yield number
            number += 1

    async def work(left: Iterator[int]) -> None:
        for number in left:
            fields = {"id": f"r-{number}", "task": "classification", "input": f"Printer {number}"}
            record = a_record(orjson.dumps(fields), timestamp=int(clock.now().timestamp() * 1000))
            [assigned] = decided(router, record)
            assert assigned.topic == TOPICS.tier(Tier.LOW)
            made = await handled(worker, a_record(assigned.value, topic=assigned.topic), _Place())
            crowd.ends[made[-1].topic.removeprefix("llm.")] += 1
            crowd.seen.append(next(one for one in gate.states() if one.model == A))

    server: Server
    async with serving(respond) as server, Providers({"simulated": settings(server.url)}) as http:
        router = Router(Policies(RULES), TOPICS, clock.now)
        calls = _Watched(http, crowd)
        worker = a_worker(Tier.LOW, Policies(RULES), calls, clock.now, gate=gate)
        left = numbers()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(width):
                tasks.create_task(work(left))
    return crowd


THROTTLED = status("429 Slow", error("rate_limit_exceeded"), retry_after="5")
BROKEN = status("500 Oops")


async def test_nobody_calls_before_the_time_that_the_provider_has_given() -> None:
    crowd = await a_crowd({A: until(14, always(THROTTLED), WELL[A])}, requests=200, width=16)

    assert crowd.early(A) == []
    assert crowd.ends == {"results": 200}
    throttled = [one for one in crowd.of(A) if one.wait]
    assert len(crowd.of(A)) - len(throttled) > 16, "it is called again when it is well"
    assert len(throttled) <= 16 + 2, "one probe for each time"


async def test_where_all_models_throttle_requests_wait_and_are_answered() -> None:
    trouble = {model: until(14, always(THROTTLED), WELL[model]) for model in (A, B)}
    crowd = await a_crowd(trouble, requests=60, width=8)

    assert crowd.early(A) == crowd.early(B) == []
    assert crowd.ends == {"results": 60}


@pytest.mark.parametrize("width", [8, 64, 256])
async def test_a_model_that_fails_completely_costs_few_calls_while_its_backup_serves(
    width: int,
) -> None:
    crowd = await a_crowd({A: always(BROKEN)}, requests=1_000, width=width)

    assert crowd.ends == {"results": 1_000}
    assert crowd.ratio <= 1.10


async def test_a_model_that_fails_after_a_good_time_does_too() -> None:
    crowd = await a_crowd({A: until(20, WELL[A], always(BROKEN))}, requests=1_000, width=64)

    assert crowd.ends == {"results": 1_000}
    assert crowd.ratio <= 1.10


async def test_a_model_that_fails_for_a_minute_is_found_well_again() -> None:
    crowd = await a_crowd({A: until(60, always(BROKEN), WELL[A])}, requests=100, width=8, least=130)

    assert set(crowd.ends) == {"results"}
    assert crowd.ratio <= 1.10
    assert isinstance(crowd.of(A)[-1].outcome, Reply)


@pytest.mark.parametrize(
    "out",
    [
        pytest.param(status("429 Slow", error("insufficient_quota")), id="no credit"),
        pytest.param(status("401 Who", error("invalid_api_key")), id="a revoked key"),
    ],
)
async def test_a_provider_that_refuses_us_is_asked_at_most_once_a_minute(out: Respond) -> None:
    crowd = await a_crowd({A: always(out)}, requests=100, width=8, least=200)

    first = min(one.ended for one in crowd.of(A))
    later = [one.began for one in crowd.of(A) if one.began > first]
    assert set(crowd.ends) == {"results"}
    assert later
    assert all(after - before >= 60 for before, after in zip([first, *later], later, strict=False))


async def test_a_model_that_answers_ten_times_as_slowly_for_a_while_keeps_its_calls() -> None:
    """Fewer calls do not make it faster, and that is soon seen."""
    slow = until(40, WELL[A], until(160, replying(A, _LATENCY * 10), WELL[A]))
    crowd = await a_crowd({A: slow}, requests=1, width=16, least=240)

    limits = [one.most_running for one in crowd.seen]
    assert set(crowd.ends) == {"results"}
    assert len(crowd.calls) == crowd.ends.total(), "nothing was paid twice, nothing expired"
    assert min(limits[20:]) >= 8
