"""The book: what each cap's accounts have spent and reserved, over a partition's keyed state.

It is the one place where money is given out. Nothing here does I/O or reads a clock, and all that
it remembers is in the state: whoever undoes the state's changes has undone the book's. A `Book` is
made for each record; making one costs nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import orjson

from router.money.accounts import (
    ACCOUNT,
    GRACE,
    GRANT,
    Account,
    add_grant,
    instant_of,
    is_closed,
    micros_of,
    open_account,
    over_at,
    read_account,
)
from router.money.waiting import RESERVED, Confirmed, Full, Held, Waiting
from router.policy.caps import AtCap, Facts, NamedCap, amount_text, zone_named
from schemas.base import Tier
from schemas.money import Grant

__all__ = ["GRACE", "Account", "Book", "Confirmed", "Ended", "Full", "Held", "Reserved", "Wanted"]

#: Of several caps without room, the first of these decides.
_FIRST: Sequence[AtCap] = ("refuse", "review", "ask", "hold", "cheaper")


class Wanted(NamedTuple):
    """The worst case of one call, and of the whole tier step (all its calls, and one for a crash).

    What is reserved lies between them: the step's where it fits, else as much as is free.
    """

    call_micros: int
    step_micros: int
    call_tokens: int
    step_tokens: int


class Reserved(NamedTuple):
    """A reservation that was made. None: no cap counts that."""

    id: str
    micros: int | None
    tokens: int | None
    at: datetime


class Ended(NamedTuple):
    """What time has ended."""

    #: The ids of reservations that nobody settled: they count as spent in full.
    reservations: Sequence[str]
    #: Envelopes of requests that nobody confirmed before their deadline: they end as `refuse`.
    asked: Sequence[bytes]


class Book(Waiting):
    """One domain partition's accounts, and the requests that wait for their money."""

    def reserve(
        self,
        caps: Sequence[NamedCap],
        facts: Facts,
        wanted: Wanted,
        reservation_id: str,
        deadline: datetime,
        now: datetime,
        *,
        held: Held | None = None,
        confirmed: Confirmed | None = None,
    ) -> Reserved | Full:
        """Reserve what a tier step may cost in every account of its caps, or in none.

        A request waits behind those that came before it, where they wait for money of the same
        account that this window can still give. `confirmed` lifts the caps that say `ask` by what
        they lack, up to that much. An id that is reserved already is given again.
        """
        place = RESERVED + reservation_id.encode()
        if (value := self.state.get(place)) is not None:
            _, micros, tokens, at, _ = orjson.loads(value)
            return Reserved(reservation_id, micros, tokens, instant_of(at))
        sides = [_Side(self, named, facts, wanted, deadline, now, confirmed) for named in caps]
        before = held.number if held else None
        lacking = [side for side in sides if side.is_full(before)]
        if lacking:
            first = min(lacking, key=lambda side: _FIRST.index(side.named.cap.at_cap))
            return first.full(held.since if held else now, deadline, now)
        amounts = {
            unit: min([side.most for side in sides if side.unit == unit], default=None)
            for unit in ("dollars", "tokens")
        }
        parts = [side.reserve(amounts, now) for side in sides]
        micros, tokens = amounts["dollars"], amounts["tokens"]
        until = deadline + GRACE
        fields = [micros_of(until), micros, tokens, micros_of(now), parts]
        self.state.put(place, orjson.dumps(fields))
        self._look_at(until)
        return Reserved(reservation_id, micros, tokens, now)

    def settle(
        self, reservation_id: str, micros: int, tokens: int, now: datetime
    ) -> Sequence[bytes]:
        """End a reservation with what was really spent; the lines that have got room.

        An unknown id, or one that was settled before, changes nothing. It counts in the windows in
        which it was made.
        """
        place = RESERVED + reservation_id.encode()
        value = self.state.get(place)
        spent = {"dollars": micros, "tokens": tokens}
        if not micros and not tokens:
            spent["premium_share"] = 0  # no model was asked
        return [] if value is None else self._end(place, value, now, spent)

    def grant(self, grant: Grant, now: datetime) -> Sequence[bytes]:
        """Raise a cap for one key until the grant ends; the lines that have got room.

        The same grant (by its id) counts once. What was reserved under it stays when it ends.
        """
        line = add_grant(self.state, grant, now)
        return [line] if self.waiting(line) else []

    def expire(self, now: datetime) -> Ended:
        """End what is over: reservations, questions, grants, and accounts of past windows."""
        if not self._is_due(now):
            return Ended([], [])
        lost = self._over(RESERVED, now)
        for place, value in lost:
            self._end(place, value, now, {})
        for place, value in [*self._over(ACCOUNT, now), *self._over(GRANT, now)]:
            if place.startswith(GRANT) or is_closed(value):
                self.state.delete(place)
        asked = self._overdue(now)
        self._look_again()
        return Ended([place[len(RESERVED) :].decode() for place, _ in lost], asked)

    def accounts(self, now: datetime) -> Iterator[Account]:
        """The accounts of all windows that are not over, or have open reservations."""
        for place in [key for key in self.state.values if key.startswith(ACCOUNT)]:
            if (account := read_account(self.state, place, now)) is not None:
                yield account

    def reservations(self) -> Mapping[str, datetime]:
        """The open reservations by their ids, with when each ends that nobody settles."""
        return {
            place[len(RESERVED) :].decode(): instant_of(over_at(value))
            for place, value in self.state.values.items()
            if place.startswith(RESERVED)
        }

    def _end(
        self, place: bytes, value: bytes, now: datetime, spent: Mapping[str, int]
    ) -> Sequence[bytes]:
        """End a reservation; a unit that `spent` does not have counts as spent in full."""
        lines = []
        for where, amount, lift in orjson.loads(value)[-1]:
            account = read_account(self.state, where.encode(), now)
            if account is not None:
                account.settle(amount, lift, spent.get(account.unit, amount))
                account.write(self.state, now)
                if self.waiting(account.line):
                    lines.append(account.line)
        self.state.delete(place)
        return lines


class _Side:
    """One cap's side of a reservation: its account, and what is asked of it."""

    def __init__(
        self,
        book: Book,
        named: NamedCap,
        facts: Facts,
        wanted: Wanted,
        deadline: datetime,
        now: datetime,
        confirmed: Confirmed | None,
    ) -> None:
        self.book, self.named, self.unit = book, named, named.cap.unit
        self.account = open_account(book.state, named, facts, deadline, now)
        price = confirmed if named.cap.at_cap == "ask" else None
        if self.unit == "dollars":
            self.needs, most, lift = wanted.call_micros, wanted.step_micros, price and price.micros
        elif self.unit == "tokens":
            self.needs, most, lift = wanted.call_tokens, wanted.step_tokens, price and price.tokens
        else:
            self._count_request(facts)
            most, lift = self.needs, price and 1
        self.is_lifted = lift is not None
        self.most = min(most, max(self.account.free, lift or 0, 0))

    def _count_request(self, facts: Facts) -> None:
        """Of a share: the request counts once, and once more where premium is asked for it."""
        account, cap = self.account, self.named.cap
        account.total += not facts.was_at
        self.needs = int(facts.tier is Tier.PREMIUM and Tier.PREMIUM not in facts.was_at)
        share = account.total * cap.limit // 1_000_000
        account.limit = share if account.total >= cap.least else account.total

    def is_full(self, before: int | None) -> bool:
        """True where no call fits, or an earlier request (than number `before`) comes first."""
        if self.needs > self.most:
            return True
        account, comes_first = self.account, self.is_lifted or not self.needs
        return not comes_first and self.book.has_earlier(account.line, account.room, before)

    def reserve(self, amounts: Mapping[str, int | None], now: datetime) -> tuple[str, int, int]:
        """Set aside; account, amount, and what of it is over the limit, for the settlement."""
        amount = amounts.get(self.unit)
        amount = self.needs if amount is None else amount
        lift = max(amount - max(self.account.free, 0), 0)
        self.account.reserve(amount, lift)
        self.account.write(self.book.state, now)
        return self.account.place.decode(), amount, lift

    def full(self, since: datetime, deadline: datetime, now: datetime) -> Full:
        """What follows; `since`: when the request came, or was held first."""
        account, (name, cap) = self.account, self.named
        may_free = self.needs <= account.room and cap.per != "request"
        is_patient = (
            cap.at_cap in ("hold", "cheaper")
            and cap.per != "request"
            and self.needs <= account.limit + account.in_force
        )
        until = deadline if cap.hold_for is None else min(deadline, since + cap.hold_for)
        can_wait = (may_free or is_patient) and now < until
        place = account.line.decode(), account.place.decode(), self.needs, is_patient
        return Full(
            name, cap.at_cap, self._sentence(), until if can_wait else None, may_free, place
        )

    def _sentence(self) -> str:
        account, zone = self.account, zone_named(self.named.cap.zone)
        figures = (account.spent, account.reserved, account.allowed)
        spent, reserved, allowed = (amount_text(figure, self.unit) for figure in figures)
        whose = ", ".join(
            f"requests without a {scope}" if value is None else f"{scope} {value}"
            for scope, value in account.key.items()
        )
        words = f"cap {account.cap}: {spent} spent and {reserved} reserved of {allowed}"
        words += f" for {whose or 'all requests'}"
        if self.named.cap.per != "request":
            until = account.end.astimezone(zone)
            words += f" until {until:%Y-%m-%d %H:%M} {self.named.cap.zone}"
        if self.needs <= self.most:
            return f"{words}; earlier requests wait for it"
        return f"{words}; a call may take {amount_text(self.needs, self.unit)}"
