"""The tokens of one or more calls, in buckets that never overlap."""

from schemas.base import MOST_COUNT, Contract, Count

__all__ = ["Usage"]


class Usage(Contract):
    """Tokens by the way they are billed. No token is in two buckets; their sum is the total."""

    #: Input that was neither read from nor written to a cache.
    input_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    #: How many of `cache_write_tokens` are kept for an hour: no bucket of its own.
    cache_write_1h_tokens: Count = 0
    #: Output without reasoning.
    output_tokens: Count = 0
    reasoning_tokens: Count = 0
    #: True when the provider gave no usable numbers and these are our estimates.
    estimated: bool = False

    def __add__(self, other: "Usage") -> "Usage":
        sums = {
            name: min(getattr(self, name) + getattr(other, name), MOST_COUNT)
            for name in Usage.model_fields
            if name.endswith("_tokens")
        }
        return Usage(**sums, estimated=self.estimated or other.estimated)

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
