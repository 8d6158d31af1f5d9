"""What a call costs."""

from decimal import ROUND_CEILING, Decimal

from router.policy.models import Price
from schemas.usage import Usage

__all__ = ["cost_micros"]


def cost_micros(usage: Usage, price: Price) -> int:
    """The cost in micro-dollars, rounded up once per call.

    A price per million tokens is the same number as micro-dollars per token.
    """
    cache_read = price.input if price.cache_read is None else price.cache_read
    cache_write = price.input if price.cache_write is None else price.cache_write
    write_1h = 2 * price.input if price.cache_write_1h is None else price.cache_write_1h
    for_an_hour = min(usage.cache_write_1h_tokens, usage.cache_write_tokens)
    cost = (
        usage.input_tokens * price.input
        + usage.cache_read_tokens * cache_read
        + (usage.cache_write_tokens - for_an_hour) * cache_write
        + for_an_hour * write_1h
        + usage.output_side * price.output
    )
    return int(Decimal(cost).to_integral_value(rounding=ROUND_CEILING))
