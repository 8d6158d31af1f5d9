"""The runtime's rules under random schedules: nothing lost or run again, every call booked once."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from consumers.runtime.offsets import Completion, OffsetTracker
from consumers.runtime.ownership import FenceLimit
from tests.unit.consumers.runtime.world import World

#: Logs with holes, as transaction markers, aborted records and compaction leave them.
_LOGS = [
    [0, 1, 2, 4, 5, 8, 9, 11],
    [3, 7, 8, 20, 21, 22, 40, 41, 42, 43],
    list(range(12)),
    [*range(0, 30, 3)],
]
_MANY = settings(
    max_examples=10_000,
    stateful_step_count=12,
    phases=(Phase.generate,),
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class Schedules(RuleBasedStateMachine):
    """What can happen to a partition, in any order."""

    restore = staticmethod(OffsetTracker.restore)
    has_identities = True

    @initialize(log=st.sampled_from(_LOGS))
    def begin(self, log: list[int]) -> None:
        self.world = World(log, type(self).restore, type(self).has_identities)
        self.world.take(lands=True)

    @rule(most=st.integers(1, 6))
    def fetch(self, most: int) -> None:
        self.world.fetch(most)

    @rule(roll=st.integers(0, 63))
    def work(self, roll: int) -> None:
        """A little of everything, as it goes on a quiet day: calls end from the last backwards."""
        self.world.fetch(1 + roll % 4)
        for which in range(roll % 3 + 1):
            self.world.finish(0, -1 - which)
        self.world.commit(0, arrives=True, is_answered=roll > 3)

    @rule(roll=st.integers(0, 255))
    def finish(self, roll: int) -> None:
        self.world.finish(roll % 3, roll // 3)

    @rule(roll=st.integers(0, 63))
    def commit(self, roll: int) -> None:
        self.world.commit(roll % 4 // 3, arrives=roll & 28 > 0, is_answered=roll & 96 == 0)

    @rule(lands=st.booleans())
    def recover(self, lands: bool) -> None:
        self.world.recover(lands=lands)

    @rule(lands=st.booleans())
    def crash(self, lands: bool) -> None:
        self.world.crash()
        self.world.take(lands=lands)

    @rule(roll=st.integers(0, 7))
    def move(self, roll: int) -> None:
        if roll < 3:
            self.world.take(lands=bool(roll & 1))
        else:
            self.world.give_back(roll, is_stale=bool(roll & 2), lands=bool(roll & 1))

    @rule(is_in_doubt=st.booleans())
    def overtake(self, is_in_doubt: bool) -> None:
        self.world.overtake(is_in_doubt=is_in_doubt)

    @rule(roll=st.integers(0, 3))
    def sleep(self, roll: int) -> None:
        if roll == 0:
            self.world.freeze()
            self.world.take(lands=True)
        elif roll == 1:
            self.world.thaw(roll)
        else:
            self.world.cancel_all(roll)

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish_all()


@pytest.mark.slow
def test_ten_thousand_schedules_lose_nothing_and_double_nothing() -> None:
    run_state_machine_as_test(Schedules, settings=_MANY)


def _forgetful(committed: Completion) -> OffsetTracker:
    """Restored without the offsets that were unfinished and are not fetched again yet."""
    tracker = OffsetTracker.restore(committed)
    tracker._carried.clear()
    return tracker


class Forgetful(Schedules):
    restore = staticmethod(_forgetful)


def test_they_find_that_restored_offsets_are_forgotten() -> None:
    with pytest.raises(AssertionError, match="is lost"):
        run_state_machine_as_test(Forgetful, settings=_MANY)


class Alike(Schedules):
    has_identities = False


def test_they_find_that_equal_commits_of_two_owners_are_taken_for_one() -> None:
    with pytest.raises(AssertionError, match="is not booked"):
        run_state_machine_as_test(Alike, settings=_MANY)


def test_a_third_fencing_within_a_minute_is_the_last() -> None:
    fence_limit = FenceLimit()

    assert [fence_limit.exceeded(at) for at in (0.0, 1.0, 2.0, 59.0)] == [*[False] * 3, True]
    assert not fence_limit.exceeded(200.0)
