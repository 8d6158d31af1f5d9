"""Tokens one or more calls consumed, in buckets that never overlap."""

from typing import Annotated

from pydantic import Field

from schemas.base import Contract

__all__ = ["Usage"]

Tokens = Annotated[int, Field(ge=0)]


class Usage(Contract):
    """Tokens by the way they are billed. No token is in two buckets; their sum is the total."""

    #: Input that was neither read from nor written to a cache.
    input_tokens: Tokens = 0
    cache_read_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    #: Output without reasoning.
    output_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0
    #: True when the provider told no usable numbers and these are ours.
    estimated: bool = False

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            estimated=self.estimated or other.estimated,
        )

    @property
    def total_tokens(self) -> int:
        """Every token of every bucket."""
        return self.input_side + self.output_side

    @property
    def input_side(self) -> int:
        """What went in, cached or not."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def output_side(self) -> int:
        """What came out, reasoning included."""
        return self.output_tokens + self.reasoning_tokens
