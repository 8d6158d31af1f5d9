"""Context within budget: what becomes of a request that is over a limit of its plan."""

from typing import NamedTuple

from router.policy.table import ContextLimits
from router.request.signals import Signals, context_tokens
from router.request.trimming import trimmed
from schemas.errors import ContractError
from schemas.escalation import Trim
from schemas.reasons import Reason
from schemas.request import Request

__all__ = ["Budgeted", "within_budget"]


class Budgeted(NamedTuple):
    """A request's signals with the context that it is rendered with."""

    signals: Signals
    #: None: nothing is left out.
    trim: Trim | None = None
    #: What is over a limit and asks for a larger window than its tier has, in words.
    over: str = ""

    @property
    def words(self) -> str:
        """What is left out, as the end of a reason."""
        left_out = self.trim.left_out.items() if self.trim else ()
        tokens = [f"about {count:,} tokens of {name}" for name, count in left_out]
        return f"; {' and '.join(tokens)} are left out, the oldest first" if tokens else ""


def within_budget(request: Request, signals: Signals, limits: ContextLimits) -> Budgeted:
    """The request within its plan's limits. Raises ContractError where the plan refuses it."""
    over, trim = _over(signals, limits), None
    if not over:
        return Budgeted(signals)
    trims = limits.that("trim")
    most = {name: limit for name, limit in limits.given if name in over and name in trims}
    if most:
        shorter = trimmed(request, most)
        before, tokens = signals.context_tokens, context_tokens(shorter, shorter.text)
        less = {name: count - tokens.get(name, 0) for name, count in before.items()}
        trim = Trim(most=most, left_out={name: count for name, count in less.items() if count > 0})
        signals = signals._replace(context_tokens=tokens, total_tokens=sum(tokens.values()))
        over = _over(signals, limits)
    larger = limits.that("larger_window")
    refused = [words for name, words in over.items() if name not in larger]
    shortened = " even when trimmed" if trim else ""
    words = f"tokens over the plan's limit{shortened}: {', '.join(refused or over.values())}"
    if refused:
        raise ContractError(Reason.CONTEXT_TOO_LONG, words)
    return Budgeted(signals, trim, words if over else "")


def _over(signals: Signals, limits: ContextLimits) -> dict[str, str]:
    """The components that are over their limits, in words."""
    over = {}
    for name, limit in limits.given:
        tokens = signals.context_tokens.get(name, 0) if name != "total" else signals.total_tokens
        if tokens > limit:
            over[name] = f"{name} {tokens} of {limit}"
    return over
