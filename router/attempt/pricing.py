"""What a call costs, and an estimate of how many tokens a text has."""

from decimal import ROUND_CEILING, Decimal

from router.policy.table import Price
from schemas.usage import Usage

__all__ = ["cost_micros", "estimate_tokens"]


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


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has, without a tokenizer.

    Latin text has about four characters per token; scripts with three or four bytes per character
    have one or two tokens per character. Bytes divided by four fit both within a factor of two.
    Text beyond ASCII is divided by three, on the high side: an error would overflow a context.
    """
    if text.isascii():
        return -(-len(text) // 4)

    return -(-len(text.encode("utf-8", "surrogatepass")) // 3)
