"""The reply: what a model answered, mapped from the provider's wire format."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from schemas.reasons import Reason
from schemas.usage import Usage

__all__ = ["CallFailure", "FinishReason", "Oddity", "Reply"]

FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "other"]


class Oddity(StrEnum):
    """What cannot be true about a reply that can be read."""

    #: No usage, or not all of it.
    USAGE_MISSING = "usage_missing"
    #: A count that is negative, a fraction, or a text.
    USAGE_INVALID = "usage_invalid"
    #: Nothing read, or nothing written although there is an answer.
    USAGE_ZERO = "usage_zero"
    #: Far less read or written than the text can be made of.
    USAGE_SMALL = "usage_small"
    #: More read than was sent.
    USAGE_HUGE = "usage_huge"
    #: Parts that add up to more than their total.
    USAGE_CONTRADICTS = "usage_contradicts"
    #: More written than the call allowed.
    OVER_LIMIT = "over_limit"
    #: The provider states a higher cost than the policy's price gives.
    COST_HIGHER = "cost_higher"
    #: Another model answered than was asked.
    OTHER_MODEL = "other_model"


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that can be judged."""

    text: str
    finish_reason: FinishReason
    #: What is booked: at least our own estimate where the provider's count cannot be true.
    usage: Usage
    #: As an OpenAI chat completion, whatever the provider's own format is.
    body: dict[str, Any]
    #: The model's own refusal field, where the format has one.
    refusal: str | None = None
    served_model: str | None = None
    http_status: int = 200
    oddities: tuple[Oddity, ...] = ()
    #: The cost that the provider states, in micro-dollars, where it states one.
    stated_micros: int | None = None

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The tool calls of the first choice, as the model made them."""
        match self.body:
            case {"choices": [{"message": {"tool_calls": [*calls]}}, *_]}:
                return [call for call in calls if isinstance(call, dict)]
            case _:
                return []


@dataclass(frozen=True, slots=True)
class CallFailure:
    """A call without a reply to judge. `reason` says whether it may be retried."""

    reason: Reason
    detail: str
    http_status: int | None = None
    #: The provider's own words, which may quote the call: for its caller, never for a log.
    provider_words: str = field(default="", repr=False, compare=False)
    #: What refuses every call of ours by now: this model, or the whole provider.
    refuses: Literal["model", "provider"] | None = None
    #: Seconds the provider asked us to wait.
    retry_after: float | None = None
    #: What the provider may have billed in spite of the failure.
    usage: Usage = field(default_factory=Usage)

    @property
    def is_unsent(self) -> bool:
        """True when the provider cannot have run the call, so that repeating it is safe."""
        return self.reason in (Reason.NOT_SENT, Reason.THROTTLED)
