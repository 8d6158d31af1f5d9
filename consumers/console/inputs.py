"""The inputs of URLs, people's forms and programs' bodies."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field, Json, model_validator

from consumers.console.auth import Visitor
from consumers.console.bulk import MOST_CASES, BulkAction, PerSecond
from consumers.console.queries import CaseFilter
from consumers.readmodel.columns import stored
from schemas.base import Identifier, Instant, JsonObject, Tier
from schemas.review import Action

__all__ = [
    "FILTERS",
    "ME",
    "MOST_VERSION",
    "AssignBody",
    "CommentBody",
    "DecisionBody",
    "DecisionForm",
    "FilterName",
    "JobBody",
    "JobForm",
    "KeptFilterBody",
    "filter_of",
    "filter_of_all",
]

#: The filters of the queue, which are all in the URL.
FILTERS = (
    *("state", "task", "reason", "model", "tier", "tenant", "risk", "error", "text", "held"),
    "assigned_to",
)
#: Filters with a fixed set of values.
_CHOICES: Mapping[str, Sequence[str]] = {
    "state": ("open", "decided", "closed", "all"),
    "risk": ("low", "medium", "high"),
    "held": ("yes", "no"),
}
#: Whoever looks, as the value of `assigned_to`.
ME = "me"
#: The highest version that the column of a case can hold.
MOST_VERSION = (1 << 31) - 1
#: A filter's name is a part of a path.
FilterName = Annotated[str, Field(max_length=60, pattern=r"^[^\s/.][^/]*$")]
_Reason = Annotated[str, Field(max_length=2000)]
_Most = Annotated[int, Field(ge=1, le=MOST_CASES)]

#: Fields that only these decisions use: with another one they are a mistake.
_ONLY_WITH: Mapping[str, Sequence[Action]] = {
    "attempt_id": ("approve",),
    "output": ("edit",),
    "tier": ("retry",),
    "deadline": ("retry", "requeue"),
    "is_example": ("approve", "edit"),
}


def filter_of(query: Mapping[str, str], visitor: Visitor) -> CaseFilter:
    """The filter of a URL's query, within what the visitor may see.

    Unknown names and values are ignored.
    """
    fields: dict[str, Any] = {
        name: stored(query[name].strip()) for name in FILTERS if query.get(name, "").strip()
    }
    for name, choices in _CHOICES.items():
        if fields.get(name) not in (None, *choices):
            del fields[name]
    if fields.get("assigned_to") == ME:
        fields["assigned_to"] = visitor.who
    state = fields.pop("state", "open")
    held = fields.pop("held", None)
    return CaseFilter(
        state=None if state == "all" else state,
        held=None if held is None else held == "yes",
        tenants=visitor.tenants,
        **fields,
    )


def filter_of_all(query: Mapping[str, str], visitor: Visitor) -> CaseFilter:
    """The same, for acts on all matching cases, where no part of the query may be ignored.

    Raises HTTPException with status 422.
    """
    for name, value in query.items():
        if name not in FILTERS:
            raise HTTPException(422, f"{name}: one of {', '.join(FILTERS)} was expected")
        choices = _CHOICES.get(name, ())
        if choices and value not in ("", *choices):
            raise HTTPException(422, f"{name}={value}: one of {', '.join(choices)} was expected")
    return filter_of(query, visitor)


class _Body(BaseModel):
    """A body in which unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")


class CommentBody(_Body):
    """A comment on a case."""

    text: Annotated[str, Field(min_length=1, max_length=2000, pattern=r"\S")]


class KeptFilterBody(_Body):
    """The name of a kept filter; its fields are in the URL."""

    name: FilterName


class AssignBody(_Body):
    """Whose case it is to decide."""

    #: A name as people sign in with it; null: anybody's.
    to: Annotated[Identifier, Field(max_length=200)] | None = None


class DecisionBody(_Body):
    """A decision on a case that the user holds."""

    action: Action
    #: The same id, sent again after an error, decides once.
    decision_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{8,64}$")] | None = None
    attempt_id: str | None = None
    answers: Annotated[
        str,
        Field(
            max_length=100,
            description="The case's `answers`, as they were seen. An approval must have it; it is "
            "refused with 409 where the case has other answers by then.",
        ),
    ] = ""
    output: JsonObject | None = None
    tier: Tier | None = None
    deadline: Instant | None = None
    reason: _Reason = ""
    is_example: bool = False
    undo_seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 10.0

    @model_validator(mode="after")
    def _uses_all(self) -> "DecisionBody":
        for name, actions in _ONLY_WITH.items():
            if getattr(self, name) and self.action not in actions:
                msg = f"{name}: {self.action} does not use it, only {' and '.join(actions)}"
                raise ValueError(msg)
        return self


class DecisionForm(BaseModel):
    """The same, as the form on a case's page sends it: with the fields of all decisions."""

    #: Empty: none was chosen.
    action: Action | Literal[""] = ""
    #: The case's version when the page was made.
    version: Annotated[int, Field(ge=0, le=MOST_VERSION)]
    #: Made with the page, so that a form sent twice decides once.
    decision_id: Annotated[str, Field(pattern=r"^[\w-]{8,64}$")]
    #: When the page was made, in seconds.
    opened: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    attempt_id: Annotated[str, Field(max_length=300)] = ""
    #: The answers that the page showed, as their hash.
    answers: Annotated[str, Field(max_length=64)] = ""
    tier: Annotated[str, Field(max_length=20)] = ""
    reason: _Reason = ""
    keep: Literal["", "yes"] = ""
    #: Claim the next case at once.
    go_on: Literal["", "yes"] = ""

    def fields(self, now: datetime, output: dict[str, Any] | None) -> dict[str, Any]:
        """The fields that the decision's action uses, with an edited answer."""
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
    """One decision on every matching case."""

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
        description="The `seen` of a dry run, by case. An approval must have it: it is about these "
        "cases only, and skips those that have other answers by then.",
    )

    @model_validator(mode="after")
    def _uses_all(self) -> "JobBody":
        if self.tier is not None and self.action != "retry":
            msg = f"tier: {self.action} does not use it, only retry"
            raise ValueError(msg)
        return self


class JobForm(BaseModel):
    """The same, as the form of a job sends it; the filter is in the URL.

    Some filters are called `tier` and `reason`, so the form's own fields have other names.
    """

    action: BulkAction = "requeue"
    retry_tier: Annotated[str, Field(max_length=20)] = ""
    because: _Reason = ""
    most: _Most = 1000
    per_second: PerSecond = 10.0
    #: The answers of the dry run, as JSON: a hash by case.
    seen: Json[dict[str, str]] = Field(default_factory=dict)

    def body(self, filters: Mapping[str, str]) -> JobBody:
        """The job on the cases that match these filters."""
        fields = self.model_dump(exclude={"retry_tier", "because"})
        tier = _tier(self.retry_tier) if self.action == "retry" else None
        return JobBody(filter=dict(filters), tier=tier, reason=self.because, **fields)


def _tier(name: str) -> Tier | None:
    return Tier(name) if name in list(Tier) else None


def _spent(opened: int, now: datetime) -> float | None:
    """Seconds since the page was made; None where that is implausible."""
    seconds = now.timestamp() - opened
    return round(seconds, 1) if 0 <= seconds <= timedelta(days=1).total_seconds() else None
