"""A request whose release is not here, without a broker: it waits, and goes on or goes back."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from consumers.policies import Policies
from consumers.policy_log import PolicyLog
from consumers.rules import load_rules
from consumers.runtime.health import Health
from consumers.runtime.shell import NotYetError
from consumers.settings import Settings
from consumers.stages.refusing import Refusals
from consumers.stages.route import Router
from consumers.stages.work import Worker
from schemas.attempt import LedgerEntry
from schemas.base import Tier
from schemas.codec import Outgoing, dump_envelope, read_envelope, read_model
from schemas.escalation import Assignment, Escalation, RouteTaken
from schemas.reasons import Reason
from schemas.topics import Topics
from tests.builders import (
    NOON,
    Restless,
    a_record,
    a_route,
    an_assignment,
    an_escalation,
    handled,
)
from tests.releases import edited, records_of
from tests.unit.consumers.stages.test_work import Answers

pytestmark = pytest.mark.anyio

TOPICS = Topics()
FILES = load_rules(Settings())
NEW = edited(FILES, "t1", ("accept: 0.75}\n  balanced", "accept: 0.99}\n  balanced"))
RAW = b'{"input": "Order 7"}'


def _under(**fields: Any) -> RouteTaken:
    named = {"policy_version": "t1", "policy_digest": NEW.digest, "routed_at": NOON}
    return a_route(**{**named, **fields})


class _Place(Restless):
    """A place in which time passes, and something happens while it does."""

    def __init__(self) -> None:
        self.now, self.waits = NOON, 0
        self.policies = Policies(FILES, PolicyLog(FILES.policy.name))
        self.refusals = Refusals(self.policies, lambda: self.now)
        self.health = Health(lambda: timedelta(seconds=60), self.policies)
        self.health.refusals = self.refusals
        self.seen: list[tuple[list[str], list[str]]] = []
        self.meanwhile: Callable[[], Any] | None = None

    async def wait(self, seconds: float, *, keeps_place: bool = False, paid: bool = False) -> None:
        assert not keeps_place
        assert not paid
        self.seen.append((self.health.not_ready(), list(self.health.notes())))
        self.now += timedelta(seconds=seconds)
        if self.meanwhile is not None:
            await self.meanwhile()

    async def work(self, assignment: Assignment) -> list[Outgoing]:
        answer = {"answer": "7", "confidence": 0.95, "next_action": "none"}
        calls = Answers(orjson.dumps(answer).decode(), {})
        worker = Worker(Tier.BALANCED, calls, TOPICS, lambda: self.now, refusals=self.refusals)
        record = a_record(dump_envelope(assignment, RAW), topic=TOPICS.tier(Tier.BALANCED))
        return list(await handled(worker, record, self))


async def _back(place: _Place, assignment: Assignment) -> Escalation:
    [back] = await place.work(assignment)
    assert back.topic == TOPICS.escalations
    escalation, raw = read_envelope(Escalation, back.value)
    assert raw == RAW
    return escalation


async def test_it_waits_for_its_release_and_is_then_answered_under_that_one() -> None:
    place = _Place()

    async def publish() -> None:
        if len(place.seen) == 3:
            await place.policies._take(records_of(1, "publish", NEW))

    place.meanwhile = publish
    line, _ = await place.work(an_assignment(routes=[_under()]))

    attempt = read_model(LedgerEntry, line.value).attempt
    assert (attempt.policy_version, attempt.policy_digest) == ("t1", NEW.digest)
    assert place.refusals.looks == len(place.seen) == 3
    words = f"1 in balanced wait for release t1 ({NEW.digest}), this process applies {FILES.label}"
    assert place.seen[0] == ([], [words]), "it is ready: others' requests wait"
    assert (place.health.notes(), place.refusals.waiting()) == ([], [])


async def test_what_nobody_brings_any_more_goes_back_unpaid() -> None:
    place = _Place()
    await place.policies._take(())
    with capture_logs() as logs:
        back = await _back(place, an_assignment(routes=[_under()]))

    assert (back.reason, back.replaced_policy) == (Reason.POLICY_REPLACED, f"t1 ({NEW.digest})")
    assert (back.attempts_left, back.attempts, back.routes) == (6, [], [])
    assert timedelta(seconds=30) <= place.now - NOON < timedelta(seconds=32)
    [told] = [line for line in logs if line["event"] == "another release"]
    assert (told["routed_under"], told["applied"]) == (f"t1 ({NEW.digest})", FILES.label)


async def test_at_its_deadline_it_goes_back_to_be_ended() -> None:
    place = _Place()
    until = NOON + timedelta(seconds=5)
    back = await _back(place, an_assignment(routes=[_under()], deadline=until))

    assert until <= place.now < until + timedelta(seconds=1)
    assert back.replaced_policy == f"t1 ({NEW.digest})"


def _routed(policies: Policies, escalation: Escalation, now: Any = NOON) -> Assignment:
    value = dump_envelope(escalation, b'{"input": "Order 7", "plan": "enterprise"}')
    router = Router(policies, TOPICS, lambda: now)
    [out] = router.decide(a_record(value, topic=TOPICS.escalations))
    return read_envelope(Assignment, out.value)[0]


async def test_an_escalation_keeps_its_release_and_a_requeue_gets_the_active_one() -> None:
    policies = Policies(FILES, PolicyLog(FILES.policy.name))
    await policies._take(records_of(1, "publish", NEW))
    old = _under(policy_version=FILES.policy.version, policy_digest=FILES.digest)

    climbed = _routed(policies, an_escalation(routes=[old]))
    assert [taken.policy_digest for taken in climbed.routes] == [FILES.digest, FILES.digest]
    assert climbed.route.policy_version == FILES.policy.version
    again = _routed(policies, an_escalation(routes=[], reason=Reason.REQUEUED, generation=2))
    assert again.route.policy_digest == NEW.digest


async def test_route_decides_about_no_request_whose_release_may_still_come() -> None:
    policies = Policies(FILES, PolicyLog(FILES.policy.name))
    await policies._take(())
    escalation = an_escalation(routes=[_under()])
    with pytest.raises(NotYetError, match="release t1"):
        _routed(policies, escalation)
    with pytest.raises(NotYetError):
        _routed(policies, escalation, NOON + timedelta(seconds=29))

    decided = _routed(policies, escalation, NOON + timedelta(seconds=31))
    assert decided.route.policy_digest == FILES.digest
    assert decided.route.reason.endswith(f"no process has release t1 ({NEW.digest})")
    await policies._take(records_of(1, "publish", NEW))
    assert _routed(policies, escalation).route.policy_digest == NEW.digest
