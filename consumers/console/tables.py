"""The tables of the store: one schema for SQLite and PostgreSQL.

Times are milliseconds since 1970, because both databases count and compare those alike. Audit
lines can only be added, which triggers see to.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    event,
)

__all__ = [
    "AUDIT",
    "BRIEFS",
    "BRIEFS_ASKED",
    "CASES",
    "DECISIONS",
    "FACTS",
    "HEADS",
    "JOBS",
    "JOB_CASES",
    "LETTERS",
    "OFFSETS",
    "ORIGINS",
    "SCHEMA",
    "SESSIONS",
    "UNSENT",
    "VERSION",
]

SCHEMA = MetaData()

#: Raised whenever the tables change: a store of other tables is made again from the topics.
VERSION = "2"

#: What the store knows of itself: the version of its tables, and its secret.
FACTS = Table(
    "facts",
    SCHEMA,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

CASES = Table(
    "cases",
    SCHEMA,
    Column("place", Text, primary_key=True),
    #: Counts what changes a case: who holds it, and what is decided.
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("request_id", Text),
    Column("generation", BigInteger, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("task", Text),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("tier", Text),
    Column("model", Text),
    Column("error", Text, nullable=False),
    #: The intake record, which all generations of a request share.
    Column("source", Text, nullable=False),
    Column("risk", Text, nullable=False),
    #: `router.review.cases.pressure`, per millisecond.
    Column("pressure", Double, nullable=False),
    Column("cost_micros", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("policy_version", Text),
    Column("opened_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("held_by", Text),
    Column("held_until", BigInteger),
    Column("decision_id", Text),
    Column("decided_by", Text),
    Column("decided_at", BigInteger),
    Column("action", Text),
    Column("undo_until", BigInteger),
    Column("closed_at", BigInteger),
    #: What closed it: the result's id, or the dead letter that came after.
    Column("closed_by", Text),
    Index("cases_by_state", "state", "opened_at"),
    Index("cases_by_request", "request_id"),
    Index("cases_by_source", "source"),
)

LETTERS = Table(
    "letters",
    SCHEMA,
    Column("place", Text, primary_key=True),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    #: JSON: a list of names and values, a byte of a value as a character.
    Column("headers", LargeBinary, nullable=False),
    #: Everything a search looks at, in lower case, masked as those see it who look.
    Column("words", Text, nullable=False),
)

#: The decisions given, by which the cases are marked.
DECISIONS = Table(
    "decisions",
    SCHEMA,
    Column("decision_id", Text, primary_key=True),
    Column("place", Text, nullable=False, index=True),
    #: On the review topic; none as long as it was not seen there.
    Column("offset", BigInteger),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("closes", BigInteger, nullable=False),
    Column("undone", Boolean, nullable=False),
)

OFFSETS = Table(
    "offsets",
    SCHEMA,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("position", BigInteger, nullable=False),
)

#: What the store was made from.
ORIGINS = Table(
    "origins",
    SCHEMA,
    Column("topic", Text, primary_key=True),
    Column("cluster", Text, nullable=False),
)

AUDIT = Table(
    "audit",
    SCHEMA,
    Column("writer", Text, primary_key=True),
    Column("no", BigInteger, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("request_id", Text),
    Column("place", Text),
    #: The whole line as JSON, as its hash covers it.
    Column("line", LargeBinary, nullable=False),
    Index("audit_by_time", "at"),
    Index("audit_by_place", "place"),
    Index("audit_by_request_id", "request_id"),
)

#: How far the chain of each writer goes: lines that are gone from its end are missed.
HEADS = Table(
    "audit_heads",
    SCHEMA,
    Column("writer", Text, primary_key=True),
    #: The number and the hash of the last line, and how many lines there are.
    Column("no", BigInteger, nullable=False),
    Column("hash", Text, nullable=False),
    Column("lines", BigInteger, nullable=False),
)

#: Audit lines that Kafka has not acknowledged yet.
UNSENT = Table(
    "unsent",
    SCHEMA,
    Column("writer", Text, primary_key=True),
    Column("no", BigInteger, primary_key=True),
)

#: What a model made of a case for its reviewer.
BRIEFS = Table(
    "briefs",
    SCHEMA,
    Column("place", Text, primary_key=True),
    Column("words", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("cost_micros", BigInteger, nullable=False),
)

#: When a brief was asked for, so that it is asked for once.
BRIEFS_ASKED = Table(
    "briefs_asked",
    SCHEMA,
    Column("place", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
)

SESSIONS = Table(
    "sessions",
    SCHEMA,
    #: SHA-256 of the id, so that nobody signs in with a copy of the database.
    Column("id_hash", Text, primary_key=True),
    Column("who", Text, nullable=False),
    Column("role", Text, nullable=False),
    #: With blanks between them; none: they see all.
    Column("tenants", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)

JOBS = Table(
    "jobs",
    SCHEMA,
    Column("job_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    #: The process that works on it, while it says so.
    Column("run_by", Text),
    Column("run_until", BigInteger),
    #: JSON: what was asked for.
    Column("wanted", LargeBinary, nullable=False),
)
#: Of each person one job runs at a time.
Index(
    "jobs_one_each",
    JOBS.c.who,
    unique=True,
    sqlite_where=JOBS.c.state == "running",
    postgresql_where=JOBS.c.state == "running",
)

JOB_CASES = Table(
    "job_cases",
    SCHEMA,
    Column("job_id", Text, primary_key=True),
    Column("place", Text, primary_key=True),
    Column("no", Integer, nullable=False),
    #: `waiting`, `done`, `skipped` or `failed`.
    Column("outcome", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

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


def _only_grows(_table: object, connection: Connection, **_others: object) -> None:
    for statement in _ONLY_GROWS[connection.dialect.name]:
        connection.exec_driver_sql(statement)


event.listen(AUDIT, "after_create", _only_grows)
