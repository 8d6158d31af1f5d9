"""The tokens of one or more calls, in buckets that never overlap."""

from schemas.base import MOST_COUNT, Contract, Count

__all__ = ["Usage"]


class Usage(Contract):
    """Tokens by the way they are billed. No token is in two buckets; their sum is the total."""

    #: Input that was neither read from nor written to a cache.
    input_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    #: Output without reasoning.
    output_tokens: Count = 0
    reasoning_tokens: Count = 0
    #: True when the provider gave no usable numbers and these are our estimates.
    estimated: bool = False

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=min(self.input_tokens + other.input_tokens, MOST_COUNT),
            cache_read_tokens=min(self.cache_read_tokens + other.cache_read_tokens, MOST_COUNT),
            cache_write_tokens=min(self.cache_write_tokens + other.cache_write_tokens, MOST_COUNT),
            output_tokens=min(self.output_tokens + other.output_tokens, MOST_COUNT),
            reasoning_tokens=min(self.reasoning_tokens + other.reasoning_tokens, MOST_COUNT),
            estimated=self.estimated or other.estimated,
        )

    @property
    def total_tokens(self) -> int:
        return self.input_side + self.output_side

    @property
    def input_side(self) -> int:
        """What went in, cached or not."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def output_side(self) -> int:
        """What came out, reasoning included."""
        return self.output_tokens + self.reasoning_tokens
