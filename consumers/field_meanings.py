"""What the fields of settings and of the policy mean: the `#:` comments above them."""

import inspect
import re
from collections.abc import Mapping
from functools import cache

from pydantic import BaseModel

__all__ = ["meanings"]

_FIELD = re.compile(r" {4}(\w+): ")


@cache
def meanings(model: type[BaseModel]) -> Mapping[str, str]:
    """What each field of a model means."""
    by_field: dict[str, str] = {}
    comment: list[str] = []
    for line in inspect.getsource(model).splitlines():
        if line.startswith("    #: "):
            comment.append(line.removeprefix("    #: "))
        elif comment and line.startswith("    # "):
            continue
        else:
            if comment and (field := _FIELD.match(line)):
                by_field[field[1]] = _for_people(" ".join(comment))
            comment = []
    return by_field


def _for_people(comment: str) -> str:
    """A comment with values as variables have them, instead of Python's None, True and False."""
    text = re.sub(r"(^|\. )None\b", r"\1Unset", comment)
    text = re.sub(r"\bNone\b", "unset", text)
    return re.sub(r"\b(?:True|False)\b", lambda match: f"`{match[0].lower()}`", text)
