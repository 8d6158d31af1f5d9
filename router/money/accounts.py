"""Accounts: what a cap has spent and reserved for one key in one window, as the state keeps it.

A key of the state is a prefix and JSON, which escapes what is in it: no two can be the same. Values
are JSON lists; the first number of most of them is when they are over, in microseconds since 1970.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, get_args

import orjson

from router.money.windows import window_of
from router.policy.caps import Facts, NamedCap, Scope, Unit
from schemas.money import Grant

__all__ = [
    "ACCOUNT",
    "GRACE",
    "GRANT",
    "Account",
    "State",
    "add_grant",
    "instant_of",
    "is_closed",
    "micros_of",
    "open_account",
    "over_at",
    "place_of",
    "read_account",
]

#: How long after its request's deadline a reservation ends that nobody has settled.
GRACE = timedelta(minutes=5)
#: An ended grant is kept for as long as a window may last that it was in force in.
_LONGEST_WINDOW = timedelta(days=32)

ACCOUNT, GRANT = b"a:", b"g:"
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


class State(Protocol):
    """A partition's keyed state, as `StatePart` of the runtime is."""

    def get(self, key: bytes) -> bytes | None: ...
    def put(self, key: bytes, value: bytes) -> None: ...
    def delete(self, key: bytes) -> None: ...
    @property
    def values(self) -> Mapping[bytes, bytes]: ...


def micros_of(instant: datetime) -> int:
    """Microseconds since 1970."""
    return (instant - _EPOCH) // _MICROSECOND


def over_at(value: bytes) -> int:
    """When a value of the state is over."""
    return int(value[1 : value.index(b",")])


def instant_of(micros: int) -> datetime:
    """The instant so many microseconds after the beginning of 1970."""
    return _EPOCH + micros * _MICROSECOND


@dataclass(slots=True)
class Account:
    """A cap's account for one key in one window, in the cap's unit.

    That is micro-dollars, tokens, or requests that may ask premium.
    """

    cap: str
    unit: Unit
    #: What it is for, by the cap's scope; a cap per request has the request too.
    key: Mapping[str, str | None]
    start: datetime
    end: datetime
    #: Its key in the state, and that of the requests which wait for its cap and key.
    place: bytes
    line: bytes
    spent: int = 0
    reserved: int = 0
    #: What was confirmed over the limit.
    confirmed: int = 0
    #: Reservations that are neither settled nor over.
    open: int = 0
    #: The policy's limit when something was reserved last, and the highest one of this window.
    limit: int = 0
    highest: int = 0
    #: Of a share, all requests.
    total: int = 0
    #: What its grants add now, and what all grants add that were in force in its window.
    in_force: int = 0
    granted: int = 0

    @property
    def allowed(self) -> int:
        """What may be spent now."""
        return self.limit + self.in_force + self.confirmed

    @property
    def free(self) -> int:
        """What may be reserved now; less than 0 where a grant has ended, or the limit fell."""
        return self.allowed - self.spent - self.reserved

    @property
    def room(self) -> int:
        """What would be free if every open reservation was given back whole."""
        return self.allowed - self.spent

    @property
    def overshoot(self) -> int:
        """What was spent and reserved above all that was ever allowed in this window.

        0, but where a provider states that a call cost more than was set aside for it.
        """
        most = self.highest + self.granted + self.confirmed
        return max(self.spent + self.reserved - most, 0)

    def reserve(self, amount: int, lift: int) -> None:
        """Set an amount aside, of which `lift` is confirmed over the limit."""
        self.reserved += amount
        self.confirmed += lift
        self.open += 1
        self.highest = max(self.highest, self.limit)

    def settle(self, amount: int, lift: int, spent: int) -> None:
        """End a reservation. What was confirmed and not spent is nobody else's."""
        self.spent += spent
        self.reserved -= amount
        self.confirmed -= min(lift, max(amount - spent, 0))
        self.open -= 1

    def write(self, state: State, now: datetime) -> None:
        """Keep it, unless its window is over and nothing is open."""
        if self.open == 0 and self.end <= now:
            state.delete(self.place)
            return
        figures = (self.spent, self.reserved, self.confirmed, self.open, self.limit)
        value = [micros_of(self.end), *figures, self.highest, self.total]
        state.put(self.place, orjson.dumps(value))


def open_account(
    state: State, named: NamedCap, facts: Facts, deadline: datetime, now: datetime
) -> Account:
    """The account of a cap that a request falls into, with the cap's present limit."""
    name, cap = named
    start, end = window_of(cap.per, cap.zone, now)
    if cap.per == "request":
        end = deadline + GRACE
    key = _key_of(named, facts)
    line = orjson.dumps([name, [*key.items()]])
    place = place_of(named, facts, now)
    account = Account(name, cap.unit, key, start, end, place, line)
    _fill(account, state, now)
    account.limit, account.end = cap.limit, max(account.end, end)
    return account


def place_of(named: NamedCap, facts: Facts, at: datetime) -> bytes:
    """The key in the state of the account that a request falls into which comes at that time."""
    name, cap = named
    start = window_of(cap.per, cap.zone, at).start
    whose = [name, [*_key_of(named, facts).items()]]
    return ACCOUNT + orjson.dumps([*whose, cap.unit, cap.per, cap.zone, micros_of(start)])


def _key_of(named: NamedCap, facts: Facts) -> dict[str, str | None]:
    key: dict[str, str | None] = {scope: getattr(facts, scope) for scope in named.cap.kept_by}
    return {**key, "request": facts.request} if named.cap.per == "request" else key


def read_account(state: State, place: bytes, now: datetime) -> Account | None:
    """The account at a place; None where there is none, or its window is over."""
    value = state.get(place)
    if value is None:
        return None
    name, pairs, unit, _per, _zone, start = orjson.loads(place[len(ACCOUNT) :])
    end = instant_of(orjson.loads(value)[0])
    line = orjson.dumps([name, pairs])
    account = Account(name, unit, dict(pairs), instant_of(start), end, place, line)
    _fill(account, state, now)
    return account if account.open or now < account.end else None


def is_closed(value: bytes) -> bool:
    """True for an account's value where no reservation is open."""
    return not orjson.loads(value)[4]


def _fill(account: Account, state: State, now: datetime) -> None:
    if (value := state.get(account.place)) is not None:
        end, account.spent, account.reserved, account.confirmed, *others = orjson.loads(value)
        account.end = instant_of(end)
        account.open, account.limit, account.highest, account.total = others
    if (value := state.get(GRANT + account.line)) is not None:
        for since, until, micros, tokens, *_ in orjson.loads(value)[1:]:
            amount = {"dollars": micros, "tokens": tokens}.get(account.unit, 0)
            if instant_of(since) < account.end and account.start < instant_of(until):
                account.granted += amount
                account.in_force += amount * (now < instant_of(until))


def add_grant(state: State, grant: Grant, now: datetime) -> bytes:
    """Keep a grant with the others of its cap and key; the line of those who wait for it.

    The same one (by its id) is kept once, and those are forgotten whose windows are over.
    """
    pairs = [(scope, grant.key[scope]) for scope in get_args(Scope) if scope in grant.key]
    line = orjson.dumps([grant.cap, pairs])
    known = orjson.loads(state.get(GRANT + line) or b"[0]")[1:]
    if grant.until <= now or grant.id in [fields[4] for fields in known]:
        return line
    lasting = _LONGEST_WINDOW // _MICROSECOND
    times = micros_of(min(grant.at, now)), micros_of(grant.until)
    row = [*times, grant.micros, grant.tokens, grant.id, grant.who, grant.reason]
    kept = [*(fields for fields in known if fields[1] + lasting > micros_of(now)), row]
    state.put(GRANT + line, orjson.dumps([max(f[1] for f in kept) + lasting, *kept]))
    return line
