"""The checks of a reply: each a pure function with its reason code, meaning and example."""

from router.checks.judged import Asked, Check, Judged
from router.checks.table import CHECKS, DEFAULT_CHECKS, NamedCheck, check_rows, named

__all__ = [
    "CHECKS",
    "DEFAULT_CHECKS",
    "Asked",
    "Check",
    "Judged",
    "NamedCheck",
    "check_rows",
    "named",
]
