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
    cost = (
        usage.input_tokens * price.input
        + usage.cache_read_tokens * cache_read
        + usage.cache_write_tokens * cache_write
        + usage.output_side * price.output
    )
    return int(Decimal(cost).to_integral_value(rounding=ROUND_CEILING))
