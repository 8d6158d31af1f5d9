"""What URLs, people's forms and programs' bodies may say."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field, Json, model_validator

from consumers.console.auth import Visitor
from consumers.console.bulk import MOST_CASES, BulkAction, PerSecond
from consumers.console.errors import ImpossibleError
from consumers.console.queries import CaseFilter
from consumers.console.showing import read_output
from consumers.readmodel.columns import stored
from schemas.base import Instant, JsonObject, Tier
from schemas.review import Action

__all__ = [
    "FILTERS",
    "MOST_VERSION",
    "DecisionBody",
    "DecisionForm",
    "JobBody",
    "JobForm",
    "filter_of",
    "filter_of_all",
]

#: What a queue can be narrowed by, all of it in the URL.
FILTERS = ("state", "task", "reason", "model", "tier", "tenant", "risk", "error", "text", "held")
#: Filters that have few values.
_CHOICES: Mapping[str, Sequence[str]] = {
    "state": ("open", "decided", "closed", "all"),
    "risk": ("low", "medium", "high"),
    "held": ("yes", "no"),
}
#: As many changes of a case as its column counts.
MOST_VERSION = (1 << 31) - 1
_Reason = Annotated[str, Field(max_length=2000)]
_Most = Annotated[int, Field(ge=1, le=MOST_CASES)]

#: What only these decisions heed: with another one it is a mistake.
_ONLY_WITH: Mapping[str, Sequence[Action]] = {
    "attempt_id": ("approve",),
    "output": ("edit",),
    "tier": ("retry",),
    "deadline": ("retry", "requeue"),
    "is_example": ("approve", "edit"),
}


def filter_of(given: Mapping[str, str], visitor: Visitor) -> CaseFilter:
    """The filter that a URL's query says, within what one may see.

    What it does not know is left out.
    """
    fields: dict[str, Any] = {
        name: stored(given[name].strip()) for name in FILTERS if given.get(name, "").strip()
    }
    for name, choices in _CHOICES.items():
        if fields.get(name) not in (None, *choices):
            del fields[name]
    state = fields.pop("state", "open")
    held = fields.pop("held", None)
    return CaseFilter(
        state=None if state == "all" else state,
        held=None if held is None else held == "yes",
        tenants=visitor.tenants,
        **fields,
    )


def filter_of_all(given: Mapping[str, str], visitor: Visitor) -> CaseFilter:
    """The same, for acts on all cases that fit: none of it may go unheeded.

    Raises HTTPException with status 422.
    """
    for name, value in given.items():
        if name not in FILTERS:
            raise HTTPException(422, f"{name}: one of {', '.join(FILTERS)} was expected")
        choices = _CHOICES.get(name, ())
        if choices and value not in ("", *choices):
            raise HTTPException(422, f"{name}={value}: one of {', '.join(choices)} was expected")
    return filter_of(given, visitor)


class _Body(BaseModel):
    """Fields that we do not know are mistakes."""

    model_config = ConfigDict(extra="forbid")


class DecisionBody(_Body):
    """A decision on a case that one holds."""

    action: Action
    #: Send the same one again after an error: it decides once.
    decision_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{8,64}$")] | None = None
    attempt_id: str | None = None
    answers: Annotated[
        str,
        Field(
            max_length=100,
            description="What was seen: the case's `answers`. An approval has to name it; where "
            "the case has other answers by then it is refused with 409.",
        ),
    ] = ""
    output: JsonObject | None = None
    tier: Tier | None = None
    deadline: Instant | None = None
    reason: _Reason = ""
    is_example: bool = False
    undo_seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 10.0

    @model_validator(mode="after")
    def _heeds_all(self) -> "DecisionBody":
        for name, actions in _ONLY_WITH.items():
            if getattr(self, name) and self.action not in actions:
                msg = f"{name}: {self.action} takes none, only {' and '.join(actions)} do"
                raise ValueError(msg)
        return self


class DecisionForm(BaseModel):
    """The same, as the form of a case's page sends it: with fields of all decisions."""

    action: Action
    #: The case's, when the page was made.
    version: Annotated[int, Field(ge=0, le=MOST_VERSION)]
    #: Made with the page, so that a form sent twice decides once.
    decision_id: Annotated[str, Field(pattern=r"^[\w-]{8,64}$")]
    #: When the page was made, in seconds.
    opened: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    attempt_id: Annotated[str, Field(max_length=300)] = ""
    #: The answers that the page showed, as their hash.
    answers: Annotated[str, Field(max_length=64)] = ""
    output: Annotated[str, Field(max_length=1_000_000)] = ""
    tier: Annotated[str, Field(max_length=20)] = ""
    reason: _Reason = ""
    keep: Literal["", "yes"] = ""

    def fields(self, now: datetime) -> dict[str, Any]:
        """The decision's fields, as its action heeds them. Raises ImpossibleError."""
        output, words = read_output(self.output) if self.action == "edit" else (None, "")
        if words:
            raise ImpossibleError(words)
        return {
            "action": self.action,
            "decision_id": self.decision_id,
            "attempt_id": self.attempt_id or None if self.action == "approve" else None,
            "output": output,
            "tier": _tier(self.tier) if self.action == "retry" else None,
            "reason": self.reason.strip(),
            "is_example": bool(self.keep),
            "seconds_spent": _spent(self.opened, now),
        }


class JobBody(_Body):
    """One decision on every case that fits."""

    action: BulkAction
    #: As in the URL of the queue: state, task, reason, model, tier, tenant, risk, error, text.
    filter: dict[str, str] = Field(default_factory=dict)
    tier: Tier | None = None
    reason: _Reason = ""
    most: _Most = 1000
    per_second: PerSecond = 10.0
    dry_run: bool = False
    seen: dict[str, str] = Field(
        default_factory=dict,
        description="What was seen: the dry run's `seen`, by case. An approval has to name it, is "
        "about these cases alone, and leaves alone those that have other answers by then.",
    )

    @model_validator(mode="after")
    def _heeds_all(self) -> "JobBody":
        if self.tier is not None and self.action != "retry":
            msg = f"tier: {self.action} takes none, only retry does"
            raise ValueError(msg)
        return self


class JobForm(BaseModel):
    """The same, as the form of a job sends it; the filter is in the URL.

    Filters have names such as `tier` and `reason` too: the form's own fields are called otherwise.
    """

    action: BulkAction = "requeue"
    retry_tier: Annotated[str, Field(max_length=20)] = ""
    because: _Reason = ""
    most: _Most = 1000
    per_second: PerSecond = 10.0
    #: The answers of the dry run, as JSON: a hash by case.
    seen: Json[dict[str, str]] = Field(default_factory=dict)

    def body(self, wanted: Mapping[str, str]) -> JobBody:
        """What is asked for on the cases that fit."""
        fields = self.model_dump(exclude={"retry_tier", "because"})
        tier = _tier(self.retry_tier) if self.action == "retry" else None
        return JobBody(filter=dict(wanted), tier=tier, reason=self.because, **fields)


def _tier(name: str) -> Tier | None:
    return Tier(name) if name in list(Tier) else None


def _spent(opened: int, now: datetime) -> float | None:
    """Seconds since the page was made, as far as that can be believed."""
    seconds = now.timestamp() - opened
    return round(seconds, 1) if 0 <= seconds <= timedelta(days=1).total_seconds() else None
