"""The rules of a policy, and the examples that test it."""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field

from router.rows import Count, Fraction, Name, Row, Sentence, TierName
from schemas.reasons import Reason
from schemas.spans import PositiveSpan

__all__ = ["Approval", "Example", "Rule", "When"]

#: Whether a person approves the answers, or has the request before any model is called.
Approval = Literal["none", "person", "person_first"]


class When(Row):
    """The left side of a rule: every condition given must hold."""

    #: The request's task is one of these.
    tasks: list[str] | None = None
    #: The customer's plan is one of these.
    plans: list[str] | None = None
    #: How bad a wrong answer would be: as the producer says, else as the text's words say.
    blast_radius: list[Literal["low", "medium", "high"]] | None = None
    #: The risk that the task's row gives is one of these.
    risk: list[Literal["routine", "risky", "unclear"]] | None = None
    #: The request is less ambiguous than this.
    ambiguity_below: Fraction | None = None
    #: The request is so ambiguous or more.
    ambiguity_from: Fraction | None = None
    #: The request is so complex or less, from 1 to 5.
    complexity_at_most: Annotated[int, Field(ge=1, le=5)] | None = None
    #: The request is so complex or more, from 1 to 5.
    complexity_from: Annotated[int, Field(ge=1, le=5)] | None = None
    #: The request and its context have so many tokens or more, as estimated.
    context_tokens_from: Count | None = None
    #: Any of these signals in the text: `docs/signals.md` has them all.
    text: list[str] | None = None
    #: No more time than this from acceptance to the deadline.
    deadline_within: PositiveSpan | None = None

    @cached_property
    def asked(self) -> Sequence[tuple[str, Any]]:
        """The conditions given, without those that a task settles once and for all."""
        return [
            (name, value)
            for name, value in self
            if value is not None and name not in ("tasks", "risk")
        ]


class Rule(Row):
    """A rule that moves a request away from its task's own tier. The first that matches wins."""

    #: What records, `explain` and the console call it.
    name: Name
    #: What must hold. Without a condition, the rule is about every request.
    when: When
    #: The tier the rule moves a request to. None: the task's own.
    tier: TierName | None = None
    #: `at_least` raises to the tier, `at_most` lowers to it, `exactly` sets it.
    sets: Literal["at_least", "at_most", "exactly"] = "at_least"
    #: A person approves the answer, or has the request first. This holds wherever the rule matches,
    #: also below a rule that sets the tier; a rule with this alone leaves the tier to others.
    approval: Literal["person", "person_first"] | None = None
    #: Why, for people.
    reason: Sentence

    @cached_property
    def moves_by(self) -> Reason:
        """Why it moves a request, as a code."""
        when = self.when
        if when.complexity_from is not None or when.complexity_at_most is not None:
            return Reason.COMPLEXITY
        return Reason.RULE if when.context_tokens_from is None else Reason.LONG_CONTEXT


class Example(Row):
    """A test the policy brings along: this request takes that route."""

    #: What the example shows.
    says: Sentence
    #: A request as a producer would send it.
    request: dict[str, Any]
    #: What the classify step takes it for. None: it has not been asked yet.
    classified_as: str | None = None
    #: Where it must start.
    tier: TierName
    #: The rule that must have decided. None: any.
    rule: str | None = None
    #: The task that counts. None: any.
    task: str | None = None
    #: Whether a person approves the answer, or has it first. None: either.
    approval: Approval | None = None
