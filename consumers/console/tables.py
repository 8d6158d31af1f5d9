"""The tables of the store: one schema for SQLite and PostgreSQL, and the only list of its columns.

Triggers ensure that audit lines can only be added.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from consumers.readmodel.columns import (
    Document,
    Instant,
    Known,
    Names,
    Short,
    always,
    facts_table,
    key,
    positions_table,
    sometimes,
)
from router.review.cases import Risk
from schemas.base import Tier
from schemas.dead_letter import Pointer
from schemas.reasons import Reason
from schemas.review import Action

__all__ = [
    "AUDIT",
    "BRIEFS",
    "BRIEFS_ASKED",
    "CASES",
    "DECISIONS",
    "FACTS",
    "FILTERS",
    "HEADS",
    "JOBS",
    "JOB_CASES",
    "LETTERS",
    "POSITIONS",
    "SCHEMA",
    "SESSIONS",
    "UNSENT",
    "VERSION",
    "Case",
    "Job",
    "JobState",
    "Session",
    "State",
    "make_tables",
    "pointer_of",
]

SCHEMA = sa.MetaData()

#: Raised whenever the tables change: a store of another version must be rebuilt from the topics.
VERSION = "4"

#: Also the store's secret.
FACTS = facts_table("facts", SCHEMA)

#: Waiting for a person; decided, with the result on the way; ended or sent through again.
State = Literal["open", "decided", "closed"]
#: A job that is `running` may be taken over by another process.
JobState = Literal["running", "done", "cancelled"]
_Place = Annotated[str, mapped_column(Short(480))]
_Name = Annotated[str, mapped_column(Short(240))]


class _Row(MappedAsDataclass, DeclarativeBase):
    """A row as an object, whose fields are the table's columns."""

    metadata = SCHEMA
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy requires it
        str: sa.Text,
        datetime: Instant,
        Reason: Known(Reason),
        Tier: Known(Tier),
        Risk: sa.Text,
        State: sa.Text,
        Action: sa.Text,
        JobState: sa.Text,
    }


class Case(_Row):
    """A dead letter that waits, or waited, for a person."""

    __tablename__ = "cases"

    #: The place of the dead letter, `topic-partition-offset`: the case's id.
    place: Mapped[_Place] = mapped_column(primary_key=True)
    #: Counts the changes of the case: of its holder, and of the decision.
    version: Mapped[int]
    state: Mapped[State]
    #: None when the record could not be read.
    request_id: Mapped[_Name | None]
    generation: Mapped[int] = mapped_column(sa.BigInteger)
    tenant: Mapped[_Name]
    task: Mapped[_Name | None]
    reason: Mapped[Reason]
    detail: Mapped[str] = mapped_column(Short(2000))
    #: The stage that gave up, for example `work.low`.
    stage: Mapped[_Name]
    #: The last tier and model that were called; None where none was.
    tier: Mapped[Tier | None]
    model: Mapped[_Name | None]
    #: What went wrong, without details that differ from case to case.
    error: Mapped[_Name]
    #: The intake record, which all generations of a request share.
    source: Mapped[_Place]
    risk: Mapped[Risk]
    #: `router.review.cases.pressure`, per millisecond.
    pressure: Mapped[float] = mapped_column(sa.Double)
    #: The cost of the attempts.
    cost_micros: Mapped[int] = mapped_column(sa.BigInteger)
    attempts: Mapped[int]
    policy_version: Mapped[_Name | None]
    opened_at: Mapped[datetime]
    due_at: Mapped[datetime]
    #: The beginnings of what the customer says and of the answer that waits, masked like on pages.
    asked: Mapped[str] = mapped_column(Short(2000))
    proposed: Mapped[str | None] = mapped_column(Short(2000))
    #: How sure the model says it is of that answer.
    confidence: Mapped[float | None] = mapped_column(sa.Double)
    #: Whose case it is to decide; None: anybody's.
    assigned_to: Mapped[_Name | None]
    #: Who holds it, and until when; None once the lease has ended.
    held_by: Mapped[str | None]
    held_until: Mapped[datetime | None]
    decision_id: Mapped[str | None]
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    action: Mapped[Action | None]
    #: Until when the decision can be undone.
    undo_until: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    #: What closed it: `result`, or the later dead letter's place.
    closed_by: Mapped[str | None]

    __table_args__ = (
        sa.Index("cases_by_state", "state", "opened_at"),
        sa.Index("cases_by_request", "request_id"),
        sa.Index("cases_by_source", "source"),
    )

    @property
    def requeues(self) -> int:
        """How often the request was sent through again."""
        return self.generation - 1

    @property
    def letter(self) -> Pointer:
        """The place of the dead letter, as a pointer."""
        return pointer_of(self.place)


class Session(_Row):
    """One person's sign-in."""

    __tablename__ = "sessions"

    #: SHA-256 of the id in hexadecimal, so that nobody signs in with a copy of the database.
    id_hash: Mapped[str] = mapped_column(primary_key=True)
    who: Mapped[str]
    role: Mapped[str]
    #: The tenants whose cases they see; None for all.
    tenants: Mapped[frozenset[str] | None] = mapped_column(Names)
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]


class Job(_Row):
    """The same decision on many cases."""

    __tablename__ = "jobs"

    job_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    who: Mapped[str]
    state: Mapped[JobState]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    #: The options of the job: its action, filter, reason, rate and the answers that were seen.
    wanted: Mapped[Mapping[str, Any]] = mapped_column(Document)
    #: The process that works on it, and until when.
    run_by: Mapped[str | None] = mapped_column(default=None)
    run_until: Mapped[datetime | None] = mapped_column(default=None)


CASES, SESSIONS, JOBS = (SCHEMA.tables[name] for name in ("cases", "sessions", "jobs"))
#: A person can run one job at a time.
sa.Index(
    "jobs_one_each",
    JOBS.c.who,
    unique=True,
    sqlite_where=JOBS.c.state == "running",
    postgresql_where=JOBS.c.state == "running",
)

LETTERS = sa.Table(
    "letters",
    SCHEMA,
    *key(place=Short(480)),
    *sometimes(key=sa.LargeBinary, value=sa.LargeBinary),
    #: JSON: a list of names and values, a byte of a value as a character.
    *always(headers=sa.LargeBinary),
    #: The text for searches, in lower case and masked like on pages.
    *always(words=sa.Text),
)

#: All decisions; a case is marked with the one that stands.
DECISIONS = sa.Table(
    "decisions",
    SCHEMA,
    *key(decision_id=sa.Text),
    sa.Column("place", Short(480), nullable=False, index=True),
    #: The offset on the review topic; None until it was read there.
    *sometimes(offset=sa.BigInteger),
    *always(who=sa.Text, action=sa.Text, at=Instant, closes=Instant, undone=sa.Boolean),
)

#: Filters of the queue that people keep, each under a name of theirs.
FILTERS = sa.Table(
    "filters", SCHEMA, *key(who=sa.Text, name=Short(100)), *always(query=Short(2000))
)

POSITIONS = positions_table("offsets", SCHEMA)

AUDIT = sa.Table(
    "audit",
    SCHEMA,
    *key(writer=sa.Text, no=sa.BigInteger),
    *always(at=Instant, who=Short(2000), what=Short(2000)),
    *sometimes(request_id=Short(2000), place=Short(480)),
    #: The whole line as JSON, as its hash covers it.
    *always(line=sa.LargeBinary),
    sa.Index("audit_by_time", "at"),
    sa.Index("audit_by_place", "place"),
)

#: The end of each writer's chain, which shows when lines at its end are removed: the number and the
#: hash of the last line, and how many lines there are.
HEADS = sa.Table(
    "audit_heads",
    SCHEMA,
    *key(writer=sa.Text),
    *always(no=sa.BigInteger, hash=sa.Text, lines=sa.BigInteger),
)

#: Audit lines that Kafka has not acknowledged yet.
UNSENT = sa.Table("unsent", SCHEMA, *key(writer=sa.Text, no=sa.BigInteger))

#: The briefs of cases.
BRIEFS = sa.Table(
    "briefs",
    SCHEMA,
    *key(place=sa.Text),
    *always(words=Short(2000), model=Short(2000), cost_micros=sa.BigInteger),
)

#: When a brief was requested, so that it is requested once.
BRIEFS_ASKED = sa.Table("briefs_asked", SCHEMA, *key(place=sa.Text), *always(at=Instant))

#: The outcome is `waiting`, `done` or `skipped`.
JOB_CASES = sa.Table(
    "job_cases",
    SCHEMA,
    *key(job_id=sa.Text, place=sa.Text),
    *always(no=sa.Integer, outcome=sa.Text, detail=Short(2000)),
)


def make_tables(connection: sa.Connection) -> None:
    """Create the tables where there are none."""
    if not sa.inspect(connection).has_table(CASES.name):
        SCHEMA.create_all(connection)
        facts = {"version": VERSION, "secret": secrets.token_hex(32)}
        rows = [{"name": name, "value": value} for name, value in facts.items()]
        connection.execute(FACTS.insert(), rows)
    elif not sa.inspect(connection).has_table(FACTS.name):
        FACTS.create(connection)  # an old release had none; its version is then found missing


def pointer_of(place: str) -> Pointer:
    """A place as a pointer. Raises ValueError for any other text."""
    topic, partition, offset = place.rsplit("-", 2)
    return Pointer(topic=topic, partition=int(partition), offset=int(offset))


_REFUSE = "audit lines are only added"
_ONLY_GROWS = {
    "sqlite": [
        f"CREATE TRIGGER audit_no_{what} BEFORE {what} ON audit "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSE}'); END"
        for what in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        (
            "CREATE OR REPLACE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{_REFUSE}'; END $$"
        ),
        (
            "CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows()"
        ),
    ],
}


def _only_grows(_table: object, connection: sa.Connection, **_others: object) -> None:
    for statement in _ONLY_GROWS[connection.dialect.name]:
        connection.exec_driver_sql(statement)


sa.event.listen(AUDIT, "after_create", _only_grows)
