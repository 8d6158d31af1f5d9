"""What `submit` has sent: a table with a row for each request, since a file may have millions."""

import hashlib
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from schemas.tenancy import DEFAULT_TENANT, RequestKey

__all__ = ["Place", "Sent", "hash_of"]

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -16000;
CREATE TABLE sent (
    partition INTEGER, offset INTEGER, request BLOB, body BLOB,
    is_repeat INTEGER DEFAULT 0, has_ended INTEGER DEFAULT 0,
    PRIMARY KEY (partition, offset)
) WITHOUT ROWID;
CREATE UNIQUE INDEX by_request ON sent (request, body);
CREATE TABLE earlier (request BLOB PRIMARY KEY, outcome BLOB) WITHOUT ROWID;
"""
_ADD = "INSERT OR IGNORE INTO sent (partition, offset, request, body) VALUES (?, ?, ?, ?)"
_END = "UPDATE sent SET has_ended = 1 WHERE NOT has_ended AND (partition, offset) = "
_ONE_OF = "(SELECT partition, offset FROM sent WHERE request = ? AND NOT has_ended LIMIT 1)"
_REPEAT = "UPDATE sent SET is_repeat = 1 WHERE body = ? AND NOT has_ended"
_EARLIER = (
    "INTO earlier SELECT request, ? FROM sent WHERE request = ? AND is_repeat AND NOT has_ended "
    "LIMIT 1"
)
_AT_ONCE = 1_000


class Place(NamedTuple):
    """The place of a request in the topic that it was sent to."""

    partition: int
    offset: int


def hash_of(what: RequestKey | bytes) -> bytes:
    """The hash that identifies a request, or its bytes, in the table."""
    value = what if isinstance(what, bytes) else what.text.encode()
    return hashlib.blake2b(value, digest_size=16).digest()


class Sent:
    """The requests that were published, and which of their outcomes have come.

    Each body that is sent with an id has one outcome. A table of more than some megabytes is kept
    in a temporary file.
    """

    def __init__(self, *, has_passing_ids: bool = False) -> None:
        #: How many requests were published, and how many of them repeat another one of them.
        self.count = self.repeats = 0
        #: How many outcomes are still to come.
        self.left = 0
        #: The request that was published last.
        self.last: RequestKey | None = None
        #: True once a request was sent that gets another id each time it is sent.
        self.has_passing_ids = has_passing_ids
        self._first: dict[int, int] = {}
        self._new: list[tuple[int, int, bytes, bytes]] = []
        self._rows = sqlite3.connect("")
        self._rows.executescript(_TABLES)

    def add(self, request: RequestKey, body: bytes, place: Place) -> None:
        """Add a published request, in its partition's order; `body` is the hash of its bytes."""
        self.count += 1
        self.last = request
        _ = self._first.setdefault(place.partition, place.offset)
        self._new.append((*place, hash_of(request), body))
        if len(self._new) >= _AT_ONCE:
            self.write()

    def write(self) -> None:
        """Write the added requests into the table, before their outcomes are noted."""
        self.left += self._rows.executemany(_ADD, self._new).rowcount
        self.repeats = self.count - self.left
        self._new.clear()

    @property
    def send_again(self) -> str:
        """What to do where not all of them were published."""
        if self.has_passing_ids:
            return "send the same again: a prompt and lines without an id may be processed twice"
        return "send the same lines again: what was published already is not processed twice"

    @property
    def explain_command(self) -> str:
        """The command that shows the journey of the request published last."""
        if self.last is None:
            return "nothing"
        whose = "" if self.last.tenant == DEFAULT_TENANT else f" --tenant {self.last.tenant}"
        return f"`tierline explain {self.last.id}{whose}`"

    def end(self, request: bytes, place: Place | None = None) -> bool:
        """Note an outcome; False where no request waits for it.

        The place identifies the request where it is known: of a request that could not be read,
        nothing else may be.
        """
        is_ours = bool(place and self._rows.execute(f"{_END} (?, ?)", place).rowcount)
        is_ours = is_ours or bool(self._rows.execute(f"{_END} {_ONE_OF}", (request,)).rowcount)
        self.left -= is_ours
        return is_ours

    def look_back(self) -> None:
        """Prepare for `is_repeat`."""
        self._rows.execute("CREATE INDEX by_body ON sent (body)")

    def is_repeat(self, body: bytes, place: Place) -> bool:
        """Note a request on intake; True where one of these has the same bytes and came later."""
        is_before = place.offset < self._first.get(place.partition, place.offset + 1)
        return is_before and self._rows.execute(_REPEAT, (hash_of(body),)).rowcount > 0

    def note_earlier(self, request: bytes, outcome: bytes, *, is_result: bool) -> None:
        """Note an earlier outcome; a result replaces the dead letter that it resolves."""
        how = "REPLACE" if is_result else "IGNORE"
        self._rows.execute(f"INSERT OR {how} {_EARLIER}", (outcome, request))

    def earlier(self) -> Iterator[tuple[bytes, bytes]]:
        """The requests that had outcomes before, with those outcomes."""
        yield from self._rows.execute("SELECT request, outcome FROM earlier")
