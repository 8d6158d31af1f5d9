"""Grants: what a cap is raised by for one key, until when, by whom and why."""

from typing import Annotated

from pydantic import Field

from schemas.base import Contract, Count, Identifier, Instant, Name, Words

__all__ = ["Grant"]


class Grant(Contract):
    """A cap is raised for one key until the grant ends by itself."""

    #: The same grant sent twice counts once.
    id: Identifier
    cap: Name
    #: By the cap's scope: `{tenant: acme, user: u1}`. Empty for a cap that has none.
    key: Annotated[dict[Name, Name | None], Field(max_length=10)] = Field(default_factory=dict)
    #: What is added in every window that the grant touches: one of the two.
    micros: Count = 0
    tokens: Count = 0
    until: Instant
    reason: Words
    who: Identifier
    at: Instant
