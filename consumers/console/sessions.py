"""Who is signed in: sessions by the hash of their id, ended on the server."""

from dataclasses import asdict
from datetime import datetime, timedelta

from sqlalchemy import delete, insert, or_, select, update

from consumers.console.tables import SESSIONS, Session
from consumers.readmodel.database import Database

__all__ = ["Session", "Sessions"]

#: That a session was seen is written no more often.
_SEEN_AGAIN = timedelta(minutes=1)


class Sessions:
    """The sessions of all consoles that use the store."""

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database = database
        #: What the tokens of forms are made with; the same for all consoles of the store.
        self.secret = secret

    async def start(
        self,
        id_hash: str,
        who: str,
        role: str,
        now: datetime,
        tenants: frozenset[str] | None = None,
    ) -> Session:
        """Somebody has signed in."""
        session = Session(id_hash, who, role, tenants, now, now)
        await self._database.write(insert(SESSIONS).values(asdict(session)))
        return session

    async def seen(
        self, id_hash: str, now: datetime, *, idle: timedelta, longest: timedelta
    ) -> Session | None:
        """The session, unless it has ended: it was idle too long, or is too old.

        That it was seen is written once in a while, and nothing for an id that is none.
        """
        alive = (
            SESSIONS.c.id_hash == id_hash,
            SESSIONS.c.seen_at > now - idle,
            SESSIONS.c.created_at > now - longest,
        )
        rows = await self._database.read(select(SESSIONS).where(*alive))
        if not rows or rows[0]["seen_at"] > now - _SEEN_AGAIN:
            return Session(**rows[0]) if rows else None
        touch = update(SESSIONS).where(*alive).values(seen_at=now).returning(SESSIONS)
        rows = await self._database.write(touch)
        return Session(**rows[0]) if rows else None

    async def end(self, id_hash: str) -> None:
        """Somebody has signed out."""
        await self._database.write(delete(SESSIONS).where(SESSIONS.c.id_hash == id_hash))

    async def sweep(self, now: datetime, *, idle: timedelta, longest: timedelta) -> None:
        """Forget sessions that have ended."""
        over = or_(SESSIONS.c.seen_at <= now - idle, SESSIONS.c.created_at <= now - longest)
        await self._database.write(delete(SESSIONS).where(over))
