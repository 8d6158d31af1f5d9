"""Strikes: what is written of them is read back, fits, and counts each death once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.strikes import MOST_TRIES, Strikes

_DEATHS = st.text("0123456789abcdef", min_size=8, max_size=8)
_STRIKES = st.lists(st.tuples(st.integers(0, 2**63 - 1), _DEATHS), max_size=300)


@given(_STRIKES)
def test_what_is_written_is_read_back_and_fits(told: list[tuple[int, str]]) -> None:
    strikes = Strikes()
    for offset, death in told:
        strikes = strikes.after(offset, death)

    written = strikes.encode()

    assert Strikes.decode(written) == strikes
    assert len(written) <= 4_096
    if told:
        assert strikes.count(told[-1][0]) >= 1


def test_a_death_that_is_told_twice_counts_once() -> None:
    strikes = Strikes().after(7, "a").after(7, "a")
    assert strikes.count(7) == 1
    assert strikes.after(7, "b").count(7) == MOST_TRIES


def test_of_many_records_in_turn_one_has_its_second_strike_in_time() -> None:
    """Fifty hostile records run at once, and each time another one is the one that kills."""
    strikes, deaths = Strikes(), 0
    while max((strikes.count(offset) for offset in range(50)), default=0) < MOST_TRIES:
        strikes = strikes.after(deaths % 50, f"{deaths:08x}")
        deaths += 1
    assert deaths == 51


@pytest.mark.parametrize("metadata", ["2;1=a", "nonsense", "1;x=a"])
def test_what_is_not_ours_is_refused(metadata: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  its words are Python's own
        Strikes.decode(metadata)


def test_no_metadata_is_no_strikes() -> None:
    assert Strikes.decode("") == Strikes() == Strikes.decode(Strikes().encode())
