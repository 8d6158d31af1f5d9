"""A worker and a request of another policy, without a broker: it waits, is told once, goes back."""

from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from consumers.rules import load_rules
from consumers.runtime.health import Health
from consumers.settings import Settings
from consumers.stages.refusing import Refusals
from consumers.stages.work import Worker
from schemas.base import Tier
from schemas.codec import dump_envelope, read_envelope
from schemas.escalation import Assignment, Escalation, RouteTaken
from schemas.reasons import Reason
from schemas.status import StageStatus, Status
from schemas.topics import Topics
from tests.builders import NOON, Restless, a_record, a_route, an_assignment, handled

pytestmark = pytest.mark.anyio

RULES = load_rules(Settings())
_GONE = "2026-12-01 (0123456789ab)"


def _other() -> RouteTaken:
    return a_route(routed_at=NOON, policy_version="2026-12-01", policy_digest="0123456789ab")


class _Place(Restless):
    """A place in which time passes, and something happens while it does."""

    def __init__(self) -> None:
        self.now = NOON
        self.seen: list[tuple[list[str], list[str]]] = []
        self.refusals = Refusals(RULES.policy, lambda: self.now)
        self.health = Health(timedelta(seconds=60))
        self.health.refusals = self.refusals
        #: When a router with our policy begins to tell.
        self.hears_at: datetime | None = None

    async def wait(self, seconds: float, *, keeps_place: bool = False, paid: bool = False) -> None:
        assert not keeps_place
        assert not paid
        self.seen.append((self.health.not_ready(), list(self.health.notes())))
        self.now += timedelta(seconds=seconds)
        if self.hears_at is not None and self.now >= self.hears_at:
            stage = StageStatus(stage="route", partitions=1, in_flight=0, free=1)
            digest = RULES.policy.digest
            said = Status(
                process="r", started_at=NOON, at=NOON, policy_digest=digest, stages=[stage]
            )
            self.refusals.routers.heard(said, self.now)

    async def work(self, assignment: Assignment) -> Escalation:
        """What becomes of an assignment, by a worker that no model may be called for."""
        topics = Topics()
        worker = Worker(
            Tier.BALANCED,
            RULES.policy,
            RULES.prompts,
            None,  # type: ignore[arg-type]
            topics,
            lambda: self.now,
            refusals=self.refusals,
        )
        value = dump_envelope(assignment, b'{"input": "Order 7"}')
        [back] = await handled(worker, a_record(value, topic=topics.tier(Tier.BALANCED)), self)
        assert back.topic == topics.escalations
        escalation, raw = read_envelope(Escalation, back.value)
        assert raw == b'{"input": "Order 7"}'
        return escalation


async def test_it_waits_until_routers_apply_our_policy_and_goes_back_unpaid() -> None:
    place = _Place()
    place.hears_at = NOON + timedelta(seconds=40)
    with capture_logs() as logs:
        _ = await place.work(an_assignment(routes=[_other()]))
        back = await place.work(an_assignment(routes=[_other()]))

    assert (back.reason, back.replaced_policy) == (Reason.POLICY_REPLACED, _GONE)
    assert (back.attempts_left, back.attempts, back.routes) == (6, [], [])
    assert place.now >= place.hears_at
    assert place.refusals.looks == len(place.seen) > 30
    [told] = [line for line in logs if line["event"] == "another policy"]
    assert told["routed_under"] == "2026-12-01 (0123456789ab)"
    assert RULES.policy.digest in told["applied"]


async def test_a_process_is_not_ready_only_where_it_is_the_one_to_be_replaced() -> None:
    """Who replaces processes one by one waits until the new one is ready."""
    place = _Place()
    place.hears_at = NOON + timedelta(seconds=10)
    assignment = an_assignment(routes=[_other()])
    await place.work(assignment)

    words = "1 in balanced wait for a worker with policy 2026-12-01 (0123456789ab)"
    (reasons, notes), (late_reasons, late_notes) = place.seen[0], place.seen[-1]
    assert (len(reasons), notes) == (1, [])
    assert reasons[0].startswith(words)
    assert (late_reasons, late_notes) == ([], reasons)
    assert (place.health.not_ready(), place.health.notes()) == ([], [])


async def test_at_its_deadline_it_goes_back_to_be_ended() -> None:
    place = _Place()
    until = NOON + timedelta(seconds=5)
    back = await place.work(an_assignment(routes=[_other()], deadline=until))

    assert until <= place.now < until + timedelta(seconds=1)
    assert back.replaced_policy == _GONE
