"""Why the bill changed: causes one by one, and steps that always add up."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.reports.bill import Line, Spent, steps_between

LOW, PREMIUM = ("extraction", "low", "small"), ("extraction", "premium", "large")


def lines(
    requests: int,
    *,
    calls: int = 1,
    kind: tuple[str, str, str] = LOW,
    tokens: int = 100,
    cost: int = 1000,
) -> list[Line]:
    return [Line(f"r{no}", kind, tokens, cost) for no in range(requests) for _ in range(calls)]


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        pytest.param(lines(4), lines(4), {}, id="nothing changed"),
        pytest.param(lines(4), lines(6), {"traffic": 2000}, id="more requests"),
        pytest.param(lines(4), lines(4, calls=2), {"retries": 4000}, id="more calls each"),
        pytest.param(
            lines(4) + lines(4, kind=PREMIUM, cost=9000),
            lines(2) + lines(2, kind=PREMIUM, cost=9000, calls=3),
            {"traffic": -20_000, "retries": 20_000, "mix": 16_000},
            id="more of the dear model",
        ),
        pytest.param(lines(4), lines(4, tokens=150, cost=1500), {"length": 2000}, id="longer"),
        pytest.param(lines(4), lines(4, cost=1250), {"price": 1000}, id="dearer"),
        pytest.param(lines(4), lines(4, kind=PREMIUM, cost=9000), {"mix": 32_000}, id="a new kind"),
        pytest.param([], lines(3), {"traffic": 3000}, id="nothing before"),
        pytest.param(lines(3), [], {"traffic": -3000}, id="nothing after"),
        pytest.param(lines(2, tokens=0), lines(2, tokens=0), {}, id="calls without tokens"),
    ],
)
def test_each_cause_is_told_apart(
    before: Sequence[Line], after: Sequence[Line], moved: dict[str, int]
) -> None:
    assert {
        one.name: one.micros
        for one in steps_between(Spent.of(before), Spent.of(after))
        if one.micros
    } == moved


_LINES = st.lists(
    st.builds(
        Line,
        st.sampled_from(["r1", "r2", "r3"]),
        st.sampled_from([LOW, PREMIUM]),
        st.integers(0, 10_000),
        st.integers(0, 10**6),
    ),
    max_size=20,
)


@given(_LINES, _LINES)
def test_the_steps_add_up_to_the_difference(before: list[Line], after: list[Line]) -> None:
    spent = [sum(line.cost_micros for line in some) for some in (before, after)]

    steps = steps_between(Spent.of(before), Spent.of(after))

    assert sum(one.micros for one in steps) == spent[1] - spent[0]
    assert [one.name for one in steps] == ["traffic", "retries", "mix", "length", "price"]
