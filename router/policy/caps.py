"""Caps: rows of the policy that bound what may be spent, by whom, in which time."""

from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from router.policy.models import Dollars
from router.rows import Count, Name, Row, Sentence
from schemas.base import Tier
from schemas.spans import PositiveSpan

if TYPE_CHECKING:
    from router.policy.table import Policy

__all__ = ["AtCap", "Cap", "Facts", "NamedCap", "Per", "Scope", "Unit", "caps_of", "domain_of"]

#: What a cap may be kept apart by. Users and conversations live within their tenant.
Scope = Literal["tenant", "user", "plan", "task", "tier", "workflow", "conversation"]
Per = Literal["request", "hour", "day", "week", "month"]
Unit = Literal["dollars", "tokens", "premium_share"]
AtCap = Literal["cheaper", "hold", "ask", "review", "refuse"]

_WITHIN_TENANT = ("user", "conversation")


class Facts(NamedTuple):
    """What caps ask about a route. The tier is that of the route."""

    tenant: str
    #: The plan that counts: the default one where the request's is unknown.
    plan: str
    tier: Tier
    #: `RequestKey.text`: what a cap per request is kept by.
    request: str
    user: str | None = None
    task: str | None = None
    workflow: str | None = None
    #: The conversation's id, else the request's.
    conversation: str | None = None
    #: The tiers of the earlier calls of this generation: a premium share counts a request once.
    was_at: frozenset[Tier] = frozenset()


class NamedCap(NamedTuple):
    """A cap with its name in the policy."""

    name: str
    cap: "Cap"


class Cap(Row):
    """A bound on what is spent in a window of time by what shares a key."""


def caps_of(policy: "Policy", facts: Facts) -> Sequence[NamedCap]:
    """The caps that touch a route, in the policy's order. Free for a policy without caps."""
    raise NotImplementedError


def domain_of(policy: "Policy", tenant: str) -> str:
    """The budget domain of a tenant's requests: what one partition of `llm.admission` accounts for.

    The tenant where every cap is kept apart by tenant, else "": one for all.
    """
    raise NotImplementedError
