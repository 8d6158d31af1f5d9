"""What a queue can be narrowed by, all of it in the URL."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import HTTPException

from consumers.console.auth import Visitor
from consumers.console.columns import stored
from consumers.console.queries import CaseFilter

__all__ = ["FILTERS", "filter_of", "filter_of_all"]

FILTERS = ("state", "task", "reason", "model", "tier", "tenant", "risk", "error", "text", "held")
#: Filters that have few values.
_CHOICES: Mapping[str, Sequence[str]] = {
    "state": ("open", "decided", "closed", "all"),
    "risk": ("low", "medium", "high"),
    "held": ("yes", "no"),
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
