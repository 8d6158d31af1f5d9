"""The reply: what a model answered, mapped from the provider's wire format."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from schemas.reasons import Reason
from schemas.usage import Usage

__all__ = ["CallFailure", "FinishReason", "Oddity", "Reply"]

FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "other"]


class Oddity(StrEnum):
    """What about a reply cannot be true, although the reply itself can be read."""

    #: No usage, or not all of it.
    USAGE_MISSING = "usage_missing"
    #: A count that is no count: negative, broken, text.
    USAGE_INVALID = "usage_invalid"
    #: Nothing read, or nothing written although there is an answer.
    USAGE_ZERO = "usage_zero"
    #: Far less read or written than the text can be made of.
    USAGE_SMALL = "usage_small"
    #: More read than was sent.
    USAGE_HUGE = "usage_huge"
    #: Parts that are more than their whole.
    USAGE_CONTRADICTS = "usage_contradicts"
    #: More written than the call allowed.
    OVER_LIMIT = "over_limit"
    #: The provider says that it charges more than the policy's price.
    COST_HIGHER = "cost_higher"
    #: Another model answered than was asked.
    OTHER_MODEL = "other_model"


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that can be judged."""

    text: str
    finish_reason: FinishReason
    #: What is booked: never less than our own estimate where the provider's count is odd.
    usage: Usage
    #: As an OpenAI chat completion, whatever the provider's own format is.
    body: dict[str, Any]
    #: The model's own refusal field, where the format has one.
    refusal: str | None = None
    served_model: str | None = None
    http_status: int = 200
    oddities: tuple[Oddity, ...] = ()
    #: What the provider says that it charges, in micro-dollars, where it says so.
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
    """A call that gave nothing to judge. `reason` says whether it may be repeated."""

    reason: Reason
    detail: str
    http_status: int | None = None
    #: The provider's own words, which may quote the call: for the one who made it, never for a log.
    provider_words: str = field(default="", repr=False, compare=False)
    #: Who takes no call of ours any more, whatever it is: this model, or the provider altogether.
    refuses: Literal["model", "provider"] | None = None
    #: Seconds the provider asked us to wait.
    retry_after: float | None = None
    #: What the provider may have billed all the same.
    usage: Usage = field(default_factory=Usage)

    @property
    def is_unsent(self) -> bool:
        """True when the provider cannot have run the call, so that repeating it is safe."""
        return self.reason in (Reason.NOT_SENT, Reason.THROTTLED)
