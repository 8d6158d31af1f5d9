"""Caps: rows of the policy that bound what may be spent, by whom, in which time."""

from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Protocol, get_args
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from router.errors import did_you_mean
from router.policy.models import Dollars
from router.rows import Count, Fraction, Row, Sentence
from schemas.base import Tier
from schemas.spans import PositiveSpan

__all__ = [
    "AtCap",
    "Cap",
    "Facts",
    "NamedCap",
    "Per",
    "Scope",
    "Unit",
    "amount_text",
    "caps_of",
    "dollars_text",
    "domain_of",
    "is_by_tenant",
    "zone_named",
]

#: What accounts may be kept apart by. Users and conversations live within their tenant.
Scope = Literal["tenant", "user", "plan", "task", "tier", "workflow", "conversation"]
Per = Literal["request", "hour", "day", "week", "month"]
Unit = Literal["dollars", "tokens", "premium_share"]
AtCap = Literal["cheaper", "hold", "ask", "review", "refuse"]

_SCOPES: Sequence[Scope] = get_args(Scope)
_MICROS = 1_000_000


class Facts(NamedTuple):
    """What caps ask about a route. The tier is that of the route."""

    tenant: str
    #: The plan that counts: the default one where the request's is unknown.
    plan: str
    tier: Tier
    #: `RequestKey.text`: what a cap per request is kept by.
    request: str
    user: str | None = None
    #: None in the classify step.
    task: str | None = None
    workflow: str | None = None
    #: The conversation's id, else the request's.
    conversation: str | None = None
    #: The tiers of this generation's earlier calls for answers: a share counts a request once.
    was_at: frozenset[Tier] = frozenset()


class NamedCap(NamedTuple):
    """A cap with its name in the policy."""

    name: str
    cap: "Cap"


def zone_named(name: str) -> tzinfo:
    """The zone of a name such as Europe/Berlin. Raises ValueError, KeyError or OSError."""
    return UTC if name == "UTC" else ZoneInfo(name)


def _check_zone(name: str) -> str:
    try:
        zone_named(name)
    except (ValueError, KeyError, OSError):
        hint = did_you_mean(name, available_timezones())
        msg = f"there is no time zone {name!r}{hint or ', as Europe/Berlin is one'}"
        raise ValueError(msg) from None
    return name


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_Values = Annotated[
    list[str],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
    Field(min_length=1),
]


class Cap(Row):
    """A bound on what is spent in a window: one of `dollars`, `tokens` and `premium_share`."""

    #: Each of these has an account of its own; empty: all that the cap is for share one. A user and
    #: a conversation are always those of their tenant.
    scope: list[Scope] = Field(default_factory=list)
    #: What the cap is for: each field names the value, or the values, that count. Empty: all.
    where: dict[Scope, _Values] = Field(default_factory=dict)
    #: The window after which an account begins again; `week` begins on Monday.
    per: Per
    #: The time zone whose clock windows follow.
    zone: Annotated[str, AfterValidator(_check_zone)] = "UTC"
    #: The most US dollars in a window.
    dollars: Dollars | None = None
    #: The most tokens in a window, read and written.
    tokens: Count | None = None
    #: The largest share of requests that premium may be asked for.
    premium_share: Fraction | None = None
    #: Before so many requests in a window, every one of them may ask premium.
    least: Count = 1
    #: What becomes of a request that does not fit: a cheaper tier takes it, it waits, somebody
    #: confirms its price, a person has it, or it is refused.
    at_cap: AtCap
    #: How long a request waits at most: with `hold`, and where `cheaper` finds no tier, for given
    #: back money or the next window; with the others only while open reservations may be given
    #: back. None: until its deadline, past which nothing waits.
    hold_for: PositiveSpan | None = None
    #: Why the cap is there.
    because: Sentence

    @model_validator(mode="after")
    def _is_one_bound(self) -> "Cap":
        if sum(value is not None for value in (self.dollars, self.tokens, self.premium_share)) != 1:
            msg = "exactly one of dollars, tokens and premium_share was expected"
            raise ValueError(msg)
        if self.dollars is not None and self.dollars * _MICROS % 1:
            msg = "dollars with at most six decimals were expected: money is counted in millionths"
            raise ValueError(msg)
        by_tier = "tier" in self.scope or "tier" in self.where
        if self.premium_share is not None and (by_tier or self.per == "request"):
            msg = "premium_share compares tiers over many requests: neither tier nor per: request"
            raise ValueError(msg)
        if self.premium_share is None and self.least != 1:
            msg = "least belongs to premium_share"
            raise ValueError(msg)
        if self.per == "request" and (self.at_cap == "hold" or self.hold_for is not None):
            msg = (
                "a request does not get its own money back by waiting: another at_cap, no hold_for"
            )
            raise ValueError(msg)
        return self

    @cached_property
    def unit(self) -> Unit:
        """What it counts."""
        return "dollars" if self.dollars is not None else "tokens" if self.tokens else _SHARE

    @cached_property
    def limit(self) -> int:
        """The most micro-dollars or tokens; of a share, the most of a million requests."""
        bound = self.dollars if self.dollars is not None else self.premium_share
        return self.tokens or round((bound or Decimal(0)) * _MICROS)

    @property
    def words(self) -> str:
        """The most of it, for people."""
        if self.premium_share is not None:
            return f"premium for {self.premium_share:.4g}, from {self.least} requests on"
        return amount_text(self.limit, self.unit)

    @cached_property
    def kept_by(self) -> Sequence[Scope]:
        """What its accounts are kept apart by, in one order."""
        is_within_tenant = not {"user", "conversation"}.isdisjoint(self.scope)
        return [s for s in _SCOPES if s in self.scope or (s == "tenant" and is_within_tenant)]

    def touches(self, facts: Facts) -> bool:
        """True for what the cap is for. A share counts answers alone."""
        if self.premium_share is not None and facts.task is None:
            return False
        return all(getattr(facts, name) in values for name, values in self.where.items())


_SHARE: Unit = "premium_share"


class Capped(Protocol):
    """What is asked of a policy here."""

    @property
    def caps(self) -> Mapping[str, Cap]: ...
    @property
    def has_domain_by_tenant(self) -> bool: ...


def caps_of(policy: Capped, facts: Facts) -> Sequence[NamedCap]:
    """The caps that touch a route, in the policy's order. Free for a policy without caps."""
    if not policy.caps:
        return ()
    return [NamedCap(name, cap) for name, cap in policy.caps.items() if cap.touches(facts)]


def is_by_tenant(cap: Cap) -> bool:
    """True where no account of the cap is shared by tenants."""
    return "tenant" in cap.kept_by or cap.per == "request"


def domain_of(policy: Capped, tenant: str) -> str:
    """The budget domain of a tenant's requests: what one partition of `llm.admission` accounts for.

    The tenant where no account is shared by tenants, else "": one for all.
    """
    return tenant if policy.has_domain_by_tenant else ""


def amount_text(amount: int, unit: Unit) -> str:
    """An amount of a cap's unit as people write it."""
    if unit == "dollars":
        return dollars_text(amount)
    return f"{amount:,} {'tokens' if unit == 'tokens' else 'premium requests'}"


def dollars_text(micros: int) -> str:
    """Micro-dollars as people write them, to the last digit that is not 0: $0.10, $0.000125."""
    whole, rest = divmod(abs(micros), _MICROS)
    return f"{'-' * (micros < 0)}${whole:,}.{f'{rest:06}'[:2]}{f'{rest:06}'[2:].rstrip('0')}"
