"""What decides whether a dearer model is worth its price: how often tiers are right, and costs."""

from decimal import Decimal

from router.policy.models import Dollars
from router.rows import Fraction, Row, Sentence
from schemas.base import Tier

__all__ = ["Costs", "Right"]


class Right(Row):
    """How often a tier's answers to a task are right, from 0 to 1, fitted to recorded outcomes."""

    #: Of the low tier. None: nobody knows.
    low: Fraction | None = None
    #: Of the balanced tier.
    balanced: Fraction | None = None
    #: Of the premium tier.
    premium: Fraction | None = None
    #: Which answers, of which time, they are fitted to.
    source: Sentence

    def at(self, tier: Tier) -> float | None:
        """How often the tier is right. None: nobody knows."""
        share: float | None = getattr(self, tier.value)
        return share


class Costs(Row):
    """What a step costs that is no call, in dollars: `worth` weighs it against a dearer model."""

    #: A person's decision.
    person: Dollars = Decimal(3)
    #: A question back to the user.
    question: Dollars = Decimal("0.25")
