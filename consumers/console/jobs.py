"""Jobs in the store: their cases, their progress, and the outcome of each case."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from consumers.console.errors import JobRunningError
from consumers.console.tables import CASES, JOB_CASES, JOBS, Job
from consumers.readmodel.database import Database

__all__ = ["Became", "Job", "JobCase", "Jobs", "Outcome"]

Outcome = Literal["waiting", "done", "skipped"]
#: What became of a case of a job: a decision alone is no end.
Became = Literal[
    "waiting", "skipped", "on_the_way", "published", "discarded", "came_back", "unknown"
]

#: Jobs and outcomes that are read at a time.
_MOST_JOBS, _MOST_OUTCOMES = 20, 1000
_BECAME = sa.case(
    (JOB_CASES.c.outcome != "done", JOB_CASES.c.outcome),
    (CASES.c.place.is_(None), "unknown"),
    (CASES.c.state == "decided", "on_the_way"),
    (CASES.c.closed_by == "result", "published"),
    (CASES.c.closed_by == "discard", "discarded"),
    # It waits again, since the decision could not be carried out, or as a later dead letter.
    else_="came_back",
).label("became")
_WITH_CASE = JOB_CASES.outerjoin(CASES, CASES.c.place == JOB_CASES.c.place)


@dataclass(frozen=True, slots=True)
class JobCase:
    """The outcome of one case of a job."""

    place: str
    outcome: Outcome
    #: Why it was skipped, in words.
    detail: str
    became: Became
    #: The beginning of what the customer says; None for a case that is gone.
    asked: str | None
    #: The later case, where it came back as one.
    later: str | None


class Jobs:
    """The jobs of all consoles that use the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(self, job: Job, places: Sequence[str]) -> None:
        """Store a job with its cases. Raises JobRunningError."""
        row = {"job_id": job.job_id, "outcome": "waiting", "detail": ""}
        rows = [{**row, "place": place, "no": no} for no, place in enumerate(places, 1)]
        try:
            async with self._database.writing() as connection:
                await connection.execute(sa.insert(JOBS).values(asdict(job)))
                if rows:
                    await connection.execute(sa.insert(JOB_CASES), rows)
        except IntegrityError:
            msg = "another job of yours is running; wait for its end or cancel it"
            raise JobRunningError(msg) from None

    async def job(self, job_id: str) -> Job | None:
        """A job; None for an unknown id."""
        rows = await self._database.read(sa.select(JOBS).where(JOBS.c.job_id == job_id))
        return Job(**rows[0]) if rows else None

    async def recent(self) -> list[Job]:
        query = sa.select(JOBS).order_by(sa.desc(JOBS.c.created_at), JOBS.c.job_id)
        rows = await self._database.read(query.limit(_MOST_JOBS))
        return [Job(**row) for row in rows]

    async def take(self, runner: str, now: datetime, lease: timedelta) -> list[Job]:
        """Take the running jobs that no other process has; called again before the lease ends."""
        free = sa.or_(JOBS.c.run_until.is_(None), JOBS.c.run_until <= now, JOBS.c.run_by == runner)
        taking = (
            sa.update(JOBS)
            .where(sa.and_(JOBS.c.state == "running", free))
            .values(run_by=runner, run_until=now + lease)
            .returning(JOBS)
        )
        taken = [Job(**row) for row in await self._database.write(taking)]
        return sorted(taken, key=lambda job: (job.created_at, job.job_id))

    async def waiting(self, job_id: str, limit: int = 100) -> list[str]:
        """The next cases to work on; none where the job was cancelled."""
        query = (
            sa.select(JOB_CASES.c.place)
            .join(JOBS, JOBS.c.job_id == JOB_CASES.c.job_id)
            .where(JOBS.c.job_id == job_id, JOBS.c.state == "running")
            .where(JOB_CASES.c.outcome == "waiting")
            .order_by(JOB_CASES.c.no)
            .limit(limit)
        )
        return [row["place"] for row in await self._database.read(query)]

    async def note(self, job_id: str, place: str, outcome: Outcome, detail: str = "") -> None:
        done = sa.update(JOB_CASES).where(JOB_CASES.c.job_id == job_id, JOB_CASES.c.place == place)
        await self._database.write(done.values(outcome=outcome, detail=detail))

    async def end(self, job_id: str, state: Literal["done", "cancelled"], now: datetime) -> bool:
        """End a job; False where it had ended already."""
        running = sa.update(JOBS).where(JOBS.c.job_id == job_id, JOBS.c.state == "running")
        ended = running.values(state=state, ended_at=now).returning(JOBS.c.job_id)
        return bool(await self._database.write(ended))

    async def progress(self, job_id: str) -> Counter[str]:
        """The number of a job's cases by outcome."""
        query = sa.select(JOB_CASES.c.outcome, sa.func.count()).where(JOB_CASES.c.job_id == job_id)
        rows = await self._database.read(query.group_by(JOB_CASES.c.outcome))
        return Counter(dict(tuple(row.values()) for row in rows))

    async def became(self, job_id: str) -> Counter[str]:
        """The number of a job's cases by what became of them."""
        query = sa.select(_BECAME, sa.func.count()).select_from(_WITH_CASE)
        own = query.where(JOB_CASES.c.job_id == job_id).group_by("became")
        rows = await self._database.read(own)
        return Counter(dict(tuple(row.values()) for row in rows))

    async def outcomes(self, job_id: str) -> list[JobCase]:
        """The outcome of each case, and what became of it, in order."""
        columns = [JOB_CASES.c[name] for name in ("place", "outcome", "detail")]
        is_end = CASES.c.closed_by.in_(("result", "discard"))
        later = sa.case((is_end, None), else_=CASES.c.closed_by)
        query = sa.select(*columns, _BECAME, CASES.c.asked, later.label("later"))
        own = query.select_from(_WITH_CASE).where(JOB_CASES.c.job_id == job_id)
        rows = await self._database.read(own.order_by(JOB_CASES.c.no).limit(_MOST_OUTCOMES))
        return [JobCase(**row) for row in rows]
