"""The verdict: the joint judgement of all checks of one reply."""

from typing import Literal

from schemas.base import Contract, JsonObject, Many, Name, Words
from schemas.reasons import Reason

__all__ = ["Change", "CheckResult", "Verdict"]


class CheckResult(Contract):
    """The outcome of one check of a reply."""

    check: Name
    passed: bool
    reason: Reason | None = None
    #: What is wrong and where, in words that do not repeat the reply.
    detail: Words = ""


class Change(Contract):
    """A field in which an accepted answer differs from the answer of a weaker model before it."""

    #: The field's name in the task's format.
    field: Name
    #: What the weaker model said, at most 200 characters of it; None where it said nothing.
    #: Both sides are left out of the ledger, which counts and does not quote.
    before: Words | None = None
    after: Words | None = None


class Verdict(Contract):
    """Accepted only when every check passed. The first failed check gives the reason."""

    outcome: Literal["accepted", "rejected"]
    checks: Many[CheckResult]
    #: 0 to 1, as the model stated it; None when it gave no usable number.
    confidence: float | None = None
    #: The normalised reply: an object for tasks with a format, else `{"answer": text}`.
    output: JsonObject | None = None

    @property
    def failed(self) -> CheckResult | None:
        """The first check that failed."""
        return next((check for check in self.checks if not check.passed), None)
