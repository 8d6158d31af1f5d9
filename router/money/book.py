"""The book: what each cap's accounts have spent and reserved, over a partition's keyed state.

It is the one place where money is given out. Nothing here does I/O or reads a clock, and all that
it remembers is in the state: whoever undoes the state's changes has undone the book's. A `Book` is
made for each record; making one costs nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from router.policy.caps import AtCap, Facts, NamedCap, Unit
from schemas.money import Grant

__all__ = ["GRACE", "Account", "Book", "Confirmed", "Ended", "Full", "Held", "Reserved", "Wanted"]

#: How long after its request's deadline a reservation ends that nobody has settled.
GRACE = timedelta(minutes=5)


class State(Protocol):
    """A partition's keyed state, as `StatePart` of the runtime is."""

    def get(self, key: bytes) -> bytes | None: ...
    def put(self, key: bytes, value: bytes) -> None: ...
    def delete(self, key: bytes) -> None: ...
    @property
    def values(self) -> Mapping[bytes, bytes]: ...


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


class Full(NamedTuple):
    """No room: the cap that decides what follows."""

    cap: str
    at_cap: AtCap
    #: "cap NAME: $x spent and $y reserved of $z for KEY until T".
    sentence: str
    #: Until when the request may wait. None: it cannot be held (any longer): do as `at_cap` says.
    #: Only `hold` waits for the next window too; the others wait as long as `may_free`.
    hold_until: datetime | None
    #: Open reservations, or an earlier request in the line, could still make room.
    may_free: bool
    #: The line to wait in: give it to `hold`.
    line: bytes
    #: What one call needs of the cap's unit: give it to `hold`.
    needs: int


class Held(NamedTuple):
    """A request that waits for money. `envelope` is what was given to `hold`."""

    number: int
    since: datetime
    until: datetime
    envelope: bytes


class Confirmed(NamedTuple):
    """What a person has confirmed: this may be spent over the caps that say `ask`."""

    envelope: bytes
    micros: int
    tokens: int


class Ended(NamedTuple):
    """What time has ended."""

    #: The ids of reservations that nobody settled: they count as spent in full.
    reservations: Sequence[str]
    #: Envelopes of requests that nobody confirmed before their deadline: they end as `refuse`.
    asked: Sequence[bytes]


class Account(NamedTuple):
    """A cap's account for one key in one window, in the cap's unit (micro-dollars, tokens, requests).

    `spent + reserved <= limit + granted + confirmed` always holds.
    """

    cap: str
    unit: Unit
    #: By the cap's scope, in order.
    key: Mapping[str, str | None]
    start: datetime
    end: datetime
    limit: int
    #: Of all grants of this window, ended ones included.
    granted: int
    confirmed: int
    spent: int
    reserved: int
    #: Open reservations, and how many requests wait for the cap.
    open: int
    waiting: int


class Book:
    """One domain partition's accounts."""

    def __init__(self, state: State) -> None:
        self._state = state

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

        A request that is not `held` has to wait behind those that are, where they wait for money of
        the same account that this window can still give. `confirmed` lifts the caps that say `ask`
        by what they lack, up to that much. An id that is reserved already is given again.
        """
        raise NotImplementedError

    def settle(
        self, reservation_id: str, micros: int, tokens: int, now: datetime
    ) -> Sequence[bytes]:
        """End a reservation with what was really spent; the lines that have got room.

        An unknown id, or one that was settled before, changes nothing.
        """
        raise NotImplementedError

    def grant(self, grant: Grant, now: datetime) -> Sequence[bytes]:
        """Raise a cap for one key until the grant ends; the lines that have got room.

        The same grant (by its id) counts once.
        """
        raise NotImplementedError

    def can_keep(self, envelope: bytes, most: int, most_bytes: int) -> bool:
        """True where one more envelope may wait here, held or asked about."""
        raise NotImplementedError

    def hold(self, full: Full, envelope: bytes, now: datetime) -> None:
        """Let a request wait for money until `full.hold_until`, at the end of its line."""
        raise NotImplementedError

    def hold_on(self, held: Held, full: Full) -> None:
        """Let a held request wait on, where it stands: what it waits for may have changed."""
        raise NotImplementedError

    def release(self, held: Held) -> None:
        """A held request waits no more: it goes on, or has ended."""
        raise NotImplementedError

    def held(self, now: datetime, lines: Sequence[bytes] | None = None) -> Iterator[Held]:
        """The held requests to try again, in order: the first of each line, and who may not wait.

        Release what goes on, or ends: then the next of its line follows. `lines`: only of these
        (what `settle` and `grant` return). None: of all, as at each tick.
        """
        raise NotImplementedError

    def ask(
        self,
        request: str,
        tenant: str,
        envelope: bytes,
        micros: int,
        tokens: int,
        deadline: datetime,
    ) -> None:
        """Let a request (`RequestKey.text`) wait for a person who confirms its price."""
        raise NotImplementedError

    def confirm(self, request: str, tenant: str, price_micros: int) -> Confirmed | None:
        """Take a person's confirmation, once; None where none is waited for, or of another price."""
        raise NotImplementedError

    def expire(self, now: datetime) -> Ended:
        """End what is over: reservations, requests asked about, grants, accounts of past windows."""
        raise NotImplementedError

    def due(self, now: datetime) -> datetime | None:
        """When the next tick has something to do; None: never. Cheap."""
        raise NotImplementedError

    def accounts(self, now: datetime) -> Iterator[Account]:
        """The accounts of all windows that are not over, or have open reservations."""
        raise NotImplementedError
