"""Why the bill changed: causes one by one, and steps that always add up."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.reports.bill import movers_between, steps_between
from router.reports.measures import Row

LOW, PREMIUM = ("extraction", "low", "small"), ("extraction", "premium", "large")


def lines(
    requests: int,
    *,
    calls: int = 1,
    kind: tuple[str, str, str] = LOW,
    tokens: int = 100,
    cost: int = 1000,
) -> list[Row]:
    count = requests * calls
    return [
        Row(
            kind,
            requests=requests,
            calls=count,
            input_tokens=tokens * count,
            own_micros=cost * count,
        )
    ]


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
    before: Sequence[Row], after: Sequence[Row], moved: dict[str, int]
) -> None:
    assert {one.name: one.micros for one in steps_between(before, after) if one.micros} == moved


def test_what_moved_the_bill_most_comes_first_with_the_factors_behind_each_step() -> None:
    before = lines(4) + lines(4, kind=PREMIUM, cost=9000)
    after = lines(8, calls=2) + lines(4, kind=PREMIUM, cost=9000)
    movers = movers_between(before, after, 9)
    assert [(mover.name, mover.before, mover.now) for mover in movers] == [(LOW, 4000, 16_000)]
    assert movers_between([], after, 1)[0].name == PREMIUM
    factors = {step.name: step.factor for step in steps_between(before, after)}
    assert factors["traffic"] == ("8", "12")
    assert factors["retries"] == ("1.00", "1.67")
    assert factors["length"] == ("100", "100")


_ROWS = st.lists(
    st.builds(
        Row,
        st.sampled_from([LOW, PREMIUM]),
        requests=st.integers(0, 20),
        calls=st.integers(1, 20),
        input_tokens=st.integers(0, 10_000),
        output_tokens=st.integers(0, 10_000),
        own_micros=st.integers(0, 10**6),
    ),
    max_size=2,
    unique_by=lambda row: row.name,
)


@given(_ROWS, _ROWS)
def test_the_steps_add_up_to_the_difference(before: list[Row], after: list[Row]) -> None:
    spent = [sum(row.own_micros for row in some) for some in (before, after)]

    steps = steps_between(before, after)

    assert sum(one.micros for one in steps) == spent[1] - spent[0]
    assert [one.name for one in steps] == ["traffic", "retries", "mix", "length", "price"]
