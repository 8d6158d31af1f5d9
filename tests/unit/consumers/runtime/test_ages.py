"""Append times against all that are remembered one by one."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.oldest_record import OldestRecord
from tests.builders import a_record


def test_nothing_received_has_no_age() -> None:
    assert OldestRecord().oldest_ms is None


@dataclass
class _All:
    """Every unfinished offset with its append time."""

    times: dict[int, int] = field(default_factory=dict)

    @property
    def oldest_ms(self) -> int | None:
        return self.times[min(self.times)] if self.times else None


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2_500)), min_size=1, max_size=6),
            st.integers(0, 12),
            st.integers(0, 12),
        ),
        max_size=25,
    )
)
def test_the_oldest_is_known_to_the_second(
    rounds: list[tuple[list[tuple[int, int]], int, int]],
) -> None:
    known, model = OldestRecord(), _All()
    offset, at = 0, 1_000_000
    for steps, first, last in rounds:
        records = []
        for gap, later in steps:
            offset, at = offset + gap, at + later
            records.append(a_record(b"", offset=offset, timestamp=at))
        known.receive(records)
        model.times |= {record.offset: record.timestamp for record in records}
        for done in sorted(model.times)[min(first, last) : max(first, last)]:
            del model.times[done]
        known.commit(min(model.times, default=offset + 1), len(model.times))

        if model.oldest_ms is None:
            assert known.oldest_ms is None
        else:
            assert known.oldest_ms is not None
            assert 0 <= model.oldest_ms - known.oldest_ms < 1_000
