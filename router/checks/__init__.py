"""The checks of a reply: each a pure function with its reason code, meaning and example."""

from router.checks.basic import CHECKS, Check, Judged

__all__ = ["CHECKS", "Check", "Judged"]
