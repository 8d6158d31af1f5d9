"""Money is exact: whole micro-dollars, rounded up once per call."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.attempt.pricing import cost_micros, most_micros
from router.policy.table import Price
from router.request.tokens import estimate_tokens
from schemas.usage import Usage

TOKENS = st.integers(0, 2_000_000)
DOLLARS = st.decimals(0, 500, places=6)
USAGES = st.builds(
    Usage,
    input_tokens=TOKENS,
    cache_read_tokens=TOKENS,
    cache_write_tokens=TOKENS,
    output_tokens=TOKENS,
    reasoning_tokens=TOKENS,
).map(
    lambda usage: usage.model_copy(update={"cache_write_1h_tokens": usage.cache_write_tokens // 3})
)


def a_price(**fields) -> Price:
    return Price(
        **{"input": "1", "output": "4", "source": "a test", "as_of": "2026-01-01"} | fields
    )


PRICES = st.builds(
    a_price,
    input=DOLLARS,
    output=DOLLARS,
    cache_read=st.none() | DOLLARS,
    cache_write=st.none() | DOLLARS,
    cache_write_1h=st.none() | DOLLARS,
    reasoning=st.none() | DOLLARS,
)


@pytest.mark.parametrize(
    ("usage", "price", "expected"),
    [
        pytest.param({}, {}, 0, id="no tokens cost nothing"),
        pytest.param({"input_tokens": 1}, {}, 1, id="a dollar per million is a micro per token"),
        pytest.param({"input_tokens": 1}, {"input": "0.1"}, 1, id="a part of a micro counts whole"),
        pytest.param(
            {"input_tokens": 15, "output_tokens": 15},
            {"input": "0.1", "output": "0.1"},
            3,
            id="rounded up once for the call, not once per bucket",
        ),
        pytest.param({"cache_read_tokens": 10}, {}, 10, id="cached input costs what input costs"),
        pytest.param(
            {"cache_read_tokens": 10}, {"cache_read": "0.1"}, 1, id="unless it has its own price"
        ),
        pytest.param({"cache_write_tokens": 8}, {"cache_write": "1.25"}, 10, id="so has writing"),
        pytest.param(
            {"cache_write_tokens": 8, "cache_write_1h_tokens": 3},
            {"cache_write": "1.25"},
            13,
            id="what is kept for an hour costs twice what input costs",
        ),
        pytest.param(
            {"cache_write_tokens": 8, "cache_write_1h_tokens": 3},
            {"cache_write": "1.25", "cache_write_1h": "1.75"},
            12,
            id="unless it has its own price too",
        ),
        pytest.param(
            {"cache_write_tokens": 2, "cache_write_1h_tokens": 9},
            {},
            4,
            id="a part of more than all",
        ),
        pytest.param(
            {"cache_read_tokens": 9}, {"cache_read": 0}, 0, id="a price of zero is a price"
        ),
        pytest.param({"reasoning_tokens": 2}, {}, 8, id="reasoning costs what output costs"),
        pytest.param({"reasoning_tokens": 2}, {"reasoning": 9}, 18, id="unless it has a price"),
    ],
)
def test_cost(usage, price, expected):
    assert cost_micros(Usage(**usage), a_price(**price)) == expected


@given(USAGES, PRICES)
def test_the_cost_is_the_exact_sum_rounded_up(usage, price):
    """Checked against fractions, which never round."""
    read = price.input if price.cache_read is None else price.cache_read
    write = price.input if price.cache_write is None else price.cache_write
    write_1h = 2 * price.input if price.cache_write_1h is None else price.cache_write_1h
    reasoning = price.output if price.reasoning is None else price.reasoning
    exact = (
        usage.input_tokens * Fraction(price.input)
        + usage.cache_read_tokens * Fraction(read)
        + (usage.cache_write_tokens - usage.cache_write_1h_tokens) * Fraction(write)
        + usage.cache_write_1h_tokens * Fraction(write_1h)
        + usage.output_tokens * Fraction(price.output)
        + usage.reasoning_tokens * Fraction(reasoning)
    )

    cost = cost_micros(usage, price)

    assert cost >= 0
    assert 0 <= cost - exact < 1


@given(USAGES, USAGES, PRICES)
def test_more_tokens_never_cost_less(usage, more, price):
    assert cost_micros(usage + more, price) >= cost_micros(usage, price)


@given(USAGES, PRICES, DOLLARS)
def test_a_higher_price_never_costs_less(usage, price, more):
    dearer = price.model_copy(update={"output": price.output + Decimal(more)})

    assert cost_micros(usage, dearer) >= cost_micros(usage, price)


@given(USAGES, PRICES)
def test_no_way_of_caching_or_thinking_costs_more_than_the_most(usage, price):
    most = Usage(input_tokens=usage.input_side, output_tokens=usage.output_side)

    assert most_micros(most, price) >= cost_micros(usage, price)
    assert most_micros(usage, price) >= cost_micros(usage, price)


def test_a_price_that_changes_has_another_version():
    plain = a_price()

    assert plain.version == a_price().version
    for changed in ({"input": 2}, {"cache_read": "0.1"}, {"as_of": "2026-02-02"}):
        assert a_price(**changed).version != plain.version


def test_the_batch_price_is_one_of_its_own():
    price = a_price(cache_read="0.1", reasoning="5", batch_input="0.5", batch_output="2")
    usage = Usage(input_tokens=10, cache_read_tokens=10, reasoning_tokens=10)

    assert price.batch is not None
    assert cost_micros(usage, price.batch) == 30
    assert a_price(batch_input="0.5").batch is None


@given(st.text(), st.text())
def test_an_estimate_grows_with_the_text(first, second):
    assert estimate_tokens(first) <= estimate_tokens(first + second) or not first.isascii()
    assert (estimate_tokens(first) == 0) == (first == "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", 0, id="nothing"),
        pytest.param("four", 1, id="four letters are one token"),
        pytest.param("fives", 2, id="rounded up"),
        pytest.param("日本語", 3, id="a token per character where characters are large"),
        pytest.param("\ud800", 1, id="half a character is counted, not refused"),
    ],
)
def test_estimates(text, expected):
    assert estimate_tokens(text) == expected
