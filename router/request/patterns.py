"""Patterns that are searched in linear time, whoever wrote the text."""

from collections.abc import Callable

import jsonschema_rs

__all__ = ["matcher_of"]


def matcher_of(pattern: str) -> Callable[[str], bool]:
    """Whether a pattern is in a text: a JSON Schema's engine takes linear time, and little of it.

    A text with half a character counts as one that has it: only a slower search can read that.
    """
    validator = jsonschema_rs.validator_for({"pattern": pattern})

    def matches(text: str) -> bool:
        try:
            return validator.is_valid(text)
        except ValueError:
            return True

    return matches
