"""Requests that wait: in line for money, or for somebody who confirms their price.

Each is kept with its envelope. Those that wait for the same cap and key stand in one line, in the
order in which they came: each knows who stands before and after it, so that a long line costs no
more than a short one.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from router.money.accounts import State, instant_of, micros_of, over_at, read_account
from router.policy.caps import AtCap

__all__ = ["RESERVED", "Confirmed", "Full", "Held", "Waiting"]

RESERVED = b"r:"
_HELD, _LINK, _LINE, _ASKED, _SUMMARY = b"h:", b"k:", b"l:", b"q:", b"n:"
#: Places in the summary: when the book has to be looked through, the last number that was given to
#: a held request, how many are held and asked about, and the bytes of their envelopes.
_DUE, _NUMBER, _OF_HELD, _OF_ASKED, _BYTES = range(5)
#: Of a line: its first and last number, how many stand in it, and the least that one of them needs.
_FIRST, _LAST, _COUNT, _LEAST = range(4)


class Full(NamedTuple):
    """No room: the cap that decides what follows."""

    cap: str
    at_cap: AtCap
    #: "cap NAME: $x spent and $y reserved of $z for KEY until T".
    sentence: str
    #: Until when the request may wait. None: it cannot be held (any longer): do as `at_cap` says.
    #: Only `hold` and `cheaper` wait for the next window too; others as long as `may_free`.
    hold_until: datetime | None
    #: Open reservations, or an earlier request in the line, could still make room.
    may_free: bool
    #: For `hold`: line, account, what one call needs, and whether it waits for the next window.
    place: tuple[str, str, int, bool]


class Confirmed(NamedTuple):
    """A price that somebody has confirmed: so much may be spent over the caps that say `ask`."""

    micros: int
    tokens: int


class Held(NamedTuple):
    """A request that waits for money, with what was given to `hold`."""

    number: int
    since: datetime
    until: datetime
    envelope: bytes
    confirmed: Confirmed | None


class Waiting:
    """The requests of one partition that wait."""

    def __init__(self, state: State) -> None:
        self.state = state

    def can_keep(self, envelope: bytes, most: int, most_bytes: int) -> bool:
        """True where one more envelope may wait here, held or asked about."""
        summary = self._summary()
        has_place = summary[_OF_HELD] + summary[_OF_ASKED] < most
        return has_place and summary[_BYTES] + len(envelope) <= most_bytes

    def hold(
        self, full: Full, envelope: bytes, now: datetime, confirmed: Confirmed | None = None
    ) -> None:
        """Let a request wait for money until `full.hold_until`, at the end of its line."""
        summary = self._summary()
        summary[_NUMBER] += 1
        self._write(_SUMMARY, summary)
        self._enter(Held(summary[_NUMBER], now, full.hold_until or now, envelope, confirmed), full)

    def hold_on(self, held: Held, full: Full) -> None:
        """Let a held request wait on, where it stands: what it waits for may have changed."""
        held = held._replace(until=full.hold_until or held.until)
        if _facts_of(held, full) != self._facts(held.number):
            self.release(held)
            self._enter(held, full)

    def release(self, held: Held) -> None:
        """A held request waits no more: it goes on, or has ended."""
        if (facts := self._facts(held.number)) is not None:
            self._leave(facts[2].encode(), held.number)
            self._drop(_key(_HELD, held.number), _OF_HELD)

    def held(self, now: datetime, lines: Sequence[bytes] | None = None) -> Iterator[Held]:
        """The held requests to try again, in order: for which there is room, or no more waiting.

        Release what goes on, or ends, and `hold_on` to the others: then the next of the line may
        follow. `lines`: only of these (what `settle` and `grant` return). None: of all, at a tick.
        """
        is_tick, moment = lines is None, micros_of(now)
        if lines is None:
            lines = [key[len(_LINE) :] for key in self.state.values if key.startswith(_LINE)]
            lines.sort(key=lambda line: self._line(line)[_FIRST])
        for line in lines:
            is_blocked = False
            for number, needs in self._standing(line):
                key = _key(_HELD, number)
                value = self.state.get(key) or b""
                end = value.index(b"\n")
                until, since, _, place, _, is_patient, price = orjson.loads(value[:end])
                if is_blocked and moment < until:
                    if is_tick:
                        continue
                    break
                account = read_account(self.state, place.encode(), now)
                may_fit = account is None or needs <= account.room
                if account is not None and moment < until and now < account.end:
                    if may_fit and needs > account.free:
                        is_blocked = True
                        continue
                    if not may_fit and is_patient:
                        continue  # in the next window
                confirmed = Confirmed(*price) if price else None
                times = instant_of(since), instant_of(until)
                yield Held(number, *times, value[end + 1 :], confirmed)
                is_blocked |= may_fit and self.state.get(key) is not None

    def ask(
        self, request: str, tenant: str, envelope: bytes, price: Confirmed, deadline: datetime
    ) -> None:
        """Let a request (`RequestKey.text`) wait until somebody confirms its price."""
        facts = [micros_of(deadline), *price, tenant]
        self._keep(_ASKED + request.encode(), facts, envelope, _OF_ASKED)
        self._look_at(deadline)

    def confirm(
        self, request: str, tenant: str, price_micros: int, now: datetime
    ) -> tuple[bytes, Confirmed] | None:
        """A confirmation, which counts once: the request's envelope, and what it may spend.

        None where none is waited for (any more), or it is for another price or another tenant.
        """
        key = _ASKED + request.encode()
        value = self.state.get(key)
        if value is None:
            return None
        until, micros, tokens, whose = orjson.loads(value[: value.index(b"\n")])
        if until <= micros_of(now) or (whose, micros) != (tenant, price_micros):
            return None
        return self._drop(key, _OF_ASKED), Confirmed(micros, tokens)

    def due(self, now: datetime) -> datetime | None:
        """When the next tick has something to do; None: never. Cheap."""
        summary = self._summary()
        if summary[_OF_HELD]:
            return now
        return instant_of(summary[_DUE]) if summary[_DUE] else None

    def waiting(self, line: bytes) -> int:
        """How many wait in a line."""
        return self._line(line)[_COUNT]

    def has_earlier(self, line: bytes, room: int, before: int | None) -> bool:
        """True where a line has a request, before this number, that so much room could serve."""
        if self._line(line)[_LEAST] > room:
            return False
        for number, needs in self._standing(line):
            if before is not None and number >= before:
                return False
            if needs <= room:
                return True
        return False

    def _overdue(self, now: datetime) -> list[bytes]:
        """The envelopes of requests that nobody confirmed before their deadline."""
        return [self._drop(key, _OF_ASKED) for key, _ in self._over(_ASKED, now)]

    def _over(self, prefix: bytes, now: datetime) -> list[tuple[bytes, bytes]]:
        """The values with a prefix that are over."""
        items = [item for item in self.state.values.items() if item[0].startswith(prefix)]
        return [(key, value) for key, value in items if over_at(value) <= micros_of(now)]

    def _is_due(self, now: datetime) -> bool:
        return 0 < self._summary()[_DUE] <= micros_of(now)

    def _look_again(self) -> None:
        """Have the book looked through when the next reservation or question is over."""
        keys = (RESERVED, _ASKED)
        times = [over_at(v) for key, v in self.state.values.items() if key.startswith(keys)]
        summary = self._summary()
        summary[_DUE] = min(times, default=0)
        self._write(_SUMMARY, summary)

    def _look_at(self, instant: datetime) -> None:
        """Have the book looked through at an instant, unless that is due earlier."""
        summary, moment = self._summary(), micros_of(instant)
        if not 0 < summary[_DUE] <= moment:
            summary[_DUE] = moment
            self._write(_SUMMARY, summary)

    def _enter(self, held: Held, full: Full) -> None:
        line, number = full.place[0].encode(), held.number
        ends = self._line(line)
        before = ends[_LAST]
        while before > number:
            before = self._link(before)[0]
        after = self._link(before)[1] if before else ends[_FIRST]
        self._write(_key(_LINK, number), [0, 0, full.place[2]])
        self._tie(ends, before, number)
        self._tie(ends, number, after)
        least = min(ends[_LEAST], full.place[2]) if ends[_COUNT] else full.place[2]
        self._write(_LINE + line, [*ends[:_COUNT], ends[_COUNT] + 1, least])
        self._keep(_key(_HELD, number), _facts_of(held, full), held.envelope, _OF_HELD)

    def _leave(self, line: bytes, number: int) -> None:
        ends, (before, after, _) = self._line(line), self._link(number)
        self.state.delete(_key(_LINK, number))
        self._tie(ends, before, after)
        ends[_COUNT] -= 1
        if ends[_COUNT]:
            self._write(_LINE + line, ends)
        else:
            self.state.delete(_LINE + line)

    def _tie(self, ends: list[int], before: int, after: int) -> None:
        """Let two neighbours know each other; 0 is the line's end."""
        for number, other, place in ((before, after, 1), (after, before, 0)):
            if number:
                link = self._link(number)
                link[place] = other
                self._write(_key(_LINK, number), link)
            else:
                ends[1 - place] = other

    def _standing(self, line: bytes) -> Iterator[tuple[int, int]]:
        """The numbers of a line in order, with what each needs."""
        number = self._line(line)[_FIRST]
        while number:
            _, after, needs = self._link(number)
            yield number, needs
            number = after

    def _line(self, line: bytes) -> list[int]:
        return self._read(_LINE + line, 4)

    def _link(self, number: int) -> list[int]:
        return self._read(_key(_LINK, number), 3)

    def _summary(self) -> list[int]:
        return self._read(_SUMMARY, 5)

    def _read(self, key: bytes, size: int) -> list[int]:
        value = self.state.get(key)
        return [0] * size if value is None else list(orjson.loads(value))

    def _write(self, key: bytes, numbers: Sequence[int]) -> None:
        self.state.put(key, orjson.dumps(numbers))

    def _facts(self, number: int) -> list[Any] | None:
        value = self.state.get(_key(_HELD, number))
        return None if value is None else list(orjson.loads(value[: value.index(b"\n")]))

    def _keep(self, key: bytes, facts: Sequence[object], envelope: bytes, kind: int) -> None:
        """Keep an envelope with what is known of it; JSON has no line's end."""
        self._drop(key, kind)
        self.state.put(key, orjson.dumps(facts) + b"\n" + envelope)
        self._count(kind, 1, len(envelope))

    def _drop(self, key: bytes, kind: int) -> bytes:
        value = self.state.get(key)
        if value is None:
            return b""
        self.state.delete(key)
        envelope = value[value.index(b"\n") + 1 :]
        self._count(kind, -1, -len(envelope))
        return envelope

    def _count(self, kind: int, number: int, size: int) -> None:
        summary = self._summary()
        summary[kind] += number
        summary[_BYTES] += size
        self._write(_SUMMARY, summary)


def _facts_of(held: Held, full: Full) -> list[object]:
    price = None if held.confirmed is None else [*held.confirmed]
    return [micros_of(held.until), micros_of(held.since), *full.place, price]


def _key(prefix: bytes, number: int) -> bytes:
    return b"%b%012d" % (prefix, number)
