"""The plan of a run: the same from the same seed, one fault at a time, calm at both ends."""

from hypothesis import given
from hypothesis import strategies as st

from consumers.failpoints import FAILPOINTS
from tests.nemesis.plan import KINDS, plan


@given(seed=st.integers(0, 10**6), length=st.floats(20, 600))
def test_a_seed_is_a_plan(seed: int, length: float) -> None:
    faults = plan(seed, length)

    assert faults == plan(seed, length)
    ends = [fault.at + fault.seconds for fault in faults]
    starts = [fault.at for fault in faults]
    assert all(end < start for end, start in zip(ends, starts[1:], strict=False))
    assert all(start >= 3.0 for start in starts)
    assert all(end <= length - 7.9 for end in ends)


def test_long_runs_come_to_every_kind_and_every_failpoint() -> None:
    faults = plan(1, 20_000)

    assert {fault.kind for fault in faults} == set(KINDS)
    points = {fault.point.partition(":")[0] for fault in faults if fault.point}
    assert points == set(FAILPOINTS)
