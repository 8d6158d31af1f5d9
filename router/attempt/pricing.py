"""What a call costs."""

from decimal import ROUND_CEILING, Decimal

from router.policy.models import Price
from schemas.usage import Usage

__all__ = ["cost_micros", "most_micros"]


def cost_micros(usage: Usage, price: Price) -> int:
    """The cost in micro-dollars, rounded up once per call.

    A price per million tokens is the same number as micro-dollars per token.
    """
    cache_read, cache_write, write_1h = _cache_prices(price)
    for_an_hour = min(usage.cache_write_1h_tokens, usage.cache_write_tokens)
    cost = (
        usage.input_tokens * price.input
        + usage.cache_read_tokens * cache_read
        + (usage.cache_write_tokens - for_an_hour) * cache_write
        + for_an_hour * write_1h
        + usage.output_tokens * price.output
        + usage.reasoning_tokens * _reasoning_price(price)
    )
    return _rounded_up(cost)


def most_micros(usage: Usage, price: Price) -> int:
    """The cost in micro-dollars where all is billed at the dearest of its prices."""
    read, written = (
        max(price.input, *_cache_prices(price)),
        max(price.output, _reasoning_price(price)),
    )
    return _rounded_up(usage.input_side * read + usage.output_side * written)


def _cache_prices(price: Price) -> tuple[Decimal, Decimal, Decimal]:
    """Of a read, of a write, and of a write that is kept for an hour."""
    return (
        price.input if price.cache_read is None else price.cache_read,
        price.input if price.cache_write is None else price.cache_write,
        2 * price.input if price.cache_write_1h is None else price.cache_write_1h,
    )


def _reasoning_price(price: Price) -> Decimal:
    return price.output if price.reasoning is None else price.reasoning


def _rounded_up(cost: Decimal) -> int:
    return int(Decimal(cost).to_integral_value(rounding=ROUND_CEILING))
