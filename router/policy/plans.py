"""What customers' plans allow, and what one request may use up."""

from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from router.rows import Count, Row, Sentence, TierName
from schemas.spans import PositiveSpan

__all__ = ["AttemptLimits", "ContextLimits", "Plan"]

#: What a plan limits the tokens of.
_Component = Literal["system", "user", "retrieved", "history", "tools", "total"]


class ContextLimits(Row):
    """Most tokens by component, and in all; where none is given, only the models limit them."""

    #: Instructions of the system and the developer, and the output format.
    system: Count | None = None
    #: What the user says, the input included.
    user: Count | None = None
    #: Documents that were found for the request.
    retrieved: Count | None = None
    #: What was said before.
    history: Count | None = None
    #: What tools returned, and the tools that are offered.
    tools: Count | None = None
    #: All of it together.
    total: Count | None = None
    #: What becomes of a request over a limit: it is rendered with less (the oldest is left out),
    #: goes to a tier whose models have a larger window than its own, or is refused, which also
    #: happens where nothing is said.
    over: dict[_Component, Literal["trim", "larger_window", "refuse"]] = Field(default_factory=dict)

    def that(self, action: str) -> set[str]:
        """The components whose limit has this action."""
        return {component for component, chosen in self.over.items() if chosen == action}

    @cached_property
    def given(self) -> Sequence[tuple[str, int]]:
        """The limits that are set, by component."""
        return [(name, limit) for name, limit in self if isinstance(limit, int)]


class Plan(Row):
    """What a customer's plan allows."""

    #: What the plan gives, in a few words.
    says: Sentence
    #: The tier a request of this plan starts at, at least; None: as the task says.
    start: TierName | None = None
    #: The highest tier a request of this plan may start at.
    start_at_most: TierName
    #: The highest tier a request of this plan may reach by escalation.
    ceiling: TierName
    #: Tiers above this one need a justification in the request.
    justify_above: TierName | None = None
    #: How much context a request of this plan may bring.
    context: ContextLimits = ContextLimits()
    #: The longest output of a call that answers it. None: as its task and model say.
    max_output_tokens: Count | None = None


class AttemptLimits(Row):
    """What one request may use up, whatever happens to it."""

    #: Calls, without those that were turned away before anything ran.
    attempts: Annotated[int, Field(ge=1, le=20)] = 6
    #: How often it may climb.
    escalations: Annotated[int, Field(ge=0, le=10)] = 2
    #: How often people may send it through again.
    requeues: Annotated[int, Field(ge=0, le=10)] = 3
    #: How long it may take where its task sets no time.
    deadline: PositiveSpan = timedelta(minutes=15)
    #: How soon a person should have decided on a dead letter; the queue is ordered by it.
    review_within: PositiveSpan = timedelta(hours=4)
    #: Longest single call.
    call_timeout: PositiveSpan = timedelta(seconds=60)
