"""Sessions in the store, by the hash of their id."""

from dataclasses import asdict
from datetime import datetime, timedelta

import sqlalchemy as sa

from consumers.console.tables import SESSIONS, Session
from consumers.readmodel.database import Database

__all__ = ["Session", "Sessions"]

_IDLE, _LONGEST = timedelta(minutes=30), timedelta(hours=8)
#: `seen_at` is updated at most this often.
_SEEN_AGAIN = timedelta(minutes=1)


class Sessions:
    """The sessions of all consoles that use the store."""

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database = database
        #: The key of the forms' tokens; the same for all consoles of the store.
        self.secret = secret

    async def start(self, session: Session) -> None:
        """Store a new session."""
        await self._database.write(sa.insert(SESSIONS).values(asdict(session)))

    async def seen(self, id_hash: str, now: datetime, *, is_by_hand: bool = True) -> Session | None:
        """The session; None where it was idle too long, is too old, or is unknown.

        Its `seen_at` is updated, unless a page asks by itself, which keeps no session alive.
        """
        alive = (
            SESSIONS.c.id_hash == id_hash,
            SESSIONS.c.seen_at > now - _IDLE,
            SESSIONS.c.created_at > now - _LONGEST,
        )
        rows = await self._database.read(sa.select(SESSIONS).where(*alive))
        if not rows or not is_by_hand or rows[0]["seen_at"] > now - _SEEN_AGAIN:
            return Session(**rows[0]) if rows else None
        touch = sa.update(SESSIONS).where(*alive).values(seen_at=now).returning(SESSIONS)
        rows = await self._database.write(touch)
        return Session(**rows[0]) if rows else None

    async def end(self, id_hash: str) -> None:
        """Delete a session."""
        await self._database.write(sa.delete(SESSIONS).where(SESSIONS.c.id_hash == id_hash))

    async def sweep(self, now: datetime) -> None:
        """Delete sessions that have ended."""
        has_ended = sa.or_(
            SESSIONS.c.seen_at <= now - _IDLE, SESSIONS.c.created_at <= now - _LONGEST
        )
        await self._database.write(sa.delete(SESSIONS).where(has_ended))
