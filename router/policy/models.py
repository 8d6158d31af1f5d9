"""Models and their prices."""

import hashlib
import re
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from router.rows import Count, Name, Row, Sentence

__all__ = ["Dollars", "Model", "Price"]


_DECIMAL = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,12})?")


def _read_decimal(value: Any) -> Any:
    # A YAML float may have lost its last digit, so prices may be quoted; whole numbers are exact.
    is_number = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and _DECIMAL.fullmatch(value)):
        return Decimal(str(value))

    msg = "a number of US dollars was expected (prices: per million tokens), for example 0.25"
    raise ValueError(msg)


def _check_date(value: str) -> str:
    try:
        date.fromisoformat(value)
    except ValueError:
        msg = "a date is year-month-day, for example 2026-11-01"
        raise ValueError(msg) from None
    return value


Dollars = Annotated[Decimal, BeforeValidator(_read_decimal), Field(ge=0, allow_inf_nan=False)]


class Price(Row):
    """US dollars per million tokens."""

    #: What the model reads.
    input: Dollars
    #: What it writes, its thinking included.
    output: Dollars
    #: Its thinking; None: that costs what other output costs.
    reasoning: Dollars | None = None
    #: None: cached input costs what other input costs.
    cache_read: Dollars | None = None
    #: None: writing to the cache costs what other input costs.
    cache_write: Dollars | None = None
    #: Of what is kept for an hour; None: twice the price of input, which is what Anthropic takes.
    cache_write_1h: Dollars | None = None
    #: What is read through the provider's batch API, to compare with: our own calls never use it.
    #: None: not known.
    batch_input: Dollars | None = None
    #: And what is written.
    batch_output: Dollars | None = None
    #: Where the numbers are from.
    source: Sentence
    #: When they were read; `policy check` warns of prices that are older than half a year.
    as_of: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$"), AfterValidator(_check_date)]

    @cached_property
    def version(self) -> str:
        """A short digest of the row: the ledger's lines say with which price they were costed."""
        row = self.model_dump_json(exclude_none=True).encode()
        return hashlib.blake2b(row, digest_size=6).hexdigest()

    @property
    def batch(self) -> "Price | None":
        """The price of calls through the provider's batch API, where both its figures are known."""
        if self.batch_input is None or self.batch_output is None:
            return None
        rates = {"input": self.batch_input, "output": self.batch_output}
        return Price.model_validate({**rates, "source": self.source, "as_of": self.as_of})


class Model(Row):
    """A model that tiers may name."""

    #: The provider entry in the deployment's settings; the policy never holds hosts or keys.
    provider: str
    #: What the provider calls the model.
    id: str
    #: What its tokens cost.
    price: Price
    #: Tokens the model reads and writes at most.
    context_tokens: Count
    #: Tokens it writes at most in one call.
    max_output_tokens: Count = 1024
    #: Other names it may answer under, beside its id and dated versions of both: an Azure
    #: deployment answers as the model that it is of.
    answers_as: list[str] = Field(default_factory=list)
    #: Fields of a chat body that it cannot take: a request that holds one is not for this model.
    refuses: list[Name] = Field(default_factory=list)
    #: Fields of a chat body that it does without: they are left out of its calls.
    drops: list[Name] = Field(default_factory=list)
    #: How it is held to a format: by its JSON Schema, as any JSON object, or in words alone.
    structured: Literal["json_schema", "json_object", "prompt"] = "json_schema"
    #: What its provider calls the output limit. None: as the producer does, else `max_tokens`.
    limit: Literal["max_tokens", "max_completion_tokens"] | None = None
    #: Marks the stable part of a long prompt for the provider's cache. Only where the provider
    #: wants to be asked; give the price of a cache write with it.
    cache_prompt: bool = False
    #: The problem that the model solves in one sentence, with a target that can be measured.
    problem: Sentence | None = None

    @property
    def room(self) -> int:
        """The most input tokens beside its longest output."""
        return self.context_tokens - self.max_output_tokens

    @model_validator(mode="after")
    def _keeps_the_chat(self) -> "Model":
        if {"model", "messages"} & {*self.drops, *self.refuses}:
            msg = "no call can do without its model and messages"
            raise ValueError(msg)
        return self
