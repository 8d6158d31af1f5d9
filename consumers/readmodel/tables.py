"""The tables of the read model: one schema for SQLite and PostgreSQL.

Single calls, their outcomes and the feedback on them are kept for as long as the settings say; the
sums by hour and by day for ever. Times are milliseconds since 1970. All tables can be rebuilt from
the topics.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    inspect,
    select,
    text,
)

from consumers.readmodel.columns import facts_table, positions_table
from router.reports.measures import FIGURES
from router.reports.quality import Call, Group

__all__ = [
    "CALLS",
    "FACTS",
    "FEEDBACK",
    "GROUPS",
    "LATENCIES",
    "OUTCOMES",
    "OWN",
    "POSITIONS",
    "RARE",
    "RECORDS",
    "REQUESTS",
    "REVIEWS",
    "SUMS",
    "make_tables",
]

SCHEMA = MetaData()
#: Raised whenever the tables change: they are then rebuilt from the topics.
_VERSION = "6"

FACTS = facts_table("read_facts", SCHEMA)
POSITIONS = positions_table("read_positions", SCHEMA)

#: What was asked: of several records on intake that have the same id, the first.
REQUESTS = Table(
    "requests",
    SCHEMA,
    Column("request_id", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("appended_at", BigInteger, nullable=False, index=True),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("task", Text),
    Column("plan", Text),
    #: These, and the beginning of what the customer says, are masked as pages mask them.
    Column("user", Text),
    Column("conversation_id", Text),
    Column("words", Text, nullable=False),
    #: A number for its conversation, or for itself: what the arms of a rollout are drawn by.
    Column("unit", BigInteger, nullable=False),
    # Whatever requests are listed by, the newest come first.
    Index("requests_by_tenant", "tenant", "appended_at"),
    Index("requests_by_user", "user", "appended_at"),
    Index("requests_by_conversation", "conversation_id", "appended_at"),
)

#: Where all records of a request lie.
RECORDS = Table(
    "request_records",
    SCHEMA,
    Column("request_id", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False, index=True),
    #: Of a request given to a tier, the rule that sent it there, the release that decided it, and
    #: what the classify step had said of it, in JSON.
    Column("rule", Text),
    Column("release", Text),
    Column("classified", Text),
    sqlite_with_rowid=False,
)
Index(
    "routed_records",
    RECORDS.c.at,
    RECORDS.c.rule,
    sqlite_where=RECORDS.c.rule.is_not(None),
    postgresql_where=RECORDS.c.rule.is_not(None),
)

GROUPS = Table(
    "call_groups",
    SCHEMA,
    Column("group_id", BigInteger, primary_key=True, autoincrement=False),
    *(Column(name, Text, nullable=False) for name in Group._fields),
)

#: Figures of a call in its own group; `paid` and `cost_micros` count where its request ended.
OWN = tuple(name for name in FIGURES if name not in ("calls", "paid", "cost_micros"))
#: Those of them that few calls have.
RARE = ("reviewed", "by_model", "by_person", "refusals", "abandoned", "schema_failures")
_TEXTS = ("step", "tier", "outcome", "detail")
_KEY = ("tenant", "request_id", "attempt_id")
_OTHER = [
    name
    for name in Call.__slots__
    if name not in (*_KEY, *_TEXTS, "has_changed", "latency_us", "bucket")
]

CALLS = Table(
    "calls",
    SCHEMA,
    *(Column(name, Text, primary_key=True) for name in _KEY),
    *(Column(name, Text, nullable=False) for name in _TEXTS),
    Column("has_changed", Boolean, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in _OTHER),
    Column("latency_us", BigInteger),
    Column("bucket", Integer),
    Index("calls_by_time", "started_at"),
    # Few calls have these: in a long time they are not found by time alone.
    *(
        Index(f"calls_{name}", "started_at", sqlite_where=has, postgresql_where=has)
        for name in RARE
        for has in (text(f"{name} > 0"),)
    ),
)

#: How a generation of a request ended: in a result, in a dead letter, or in one after the other.
OUTCOMES = Table(
    "outcomes",
    SCHEMA,
    Column("tenant", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("generation", BigInteger, primary_key=True),
    Column("is_result", Boolean, primary_key=True),
    Column("ended_at", BigInteger, nullable=False, index=True),
    #: Of a dead letter, its place; of a result, the dead letter that it resolves.
    Column("letter", Text, index=True),
    #: The rest is only set for a result.
    Column("published", Text),
    Column("kind", Text),
    Column("total_us", BigInteger),
    Column("task", Text),
    Column("model", Text),
    Column("review", Text),
    #: JSON: the answer in the task's format.
    Column("output", Text),
)

FEEDBACK = Table(
    "feedback",
    SCHEMA,
    Column("tenant", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("generation", BigInteger, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    #: The comment, and the correction.
    Column("words", Text, nullable=False),
)

#: What reviewers decided, whether or not the decision stands.
REVIEWS = Table(
    "reviews",
    SCHEMA,
    Column("decision_id", Text, primary_key=True),
    Column("letter", Text, nullable=False, index=True),
    Column("action", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    #: Kept to test prompts and models with.
    Column("is_example", Boolean, nullable=False),
)

#: Sums of calls by group, for spans of `grain` milliseconds that begin at `at`. Where `grain` is
#: negative, the groups have a task, a tier and a policy only.
SUMS = Table(
    "call_sums",
    SCHEMA,
    Column("grain", Integer, primary_key=True),
    Column("at", BigInteger, primary_key=True),
    Column("group_id", BigInteger, primary_key=True),
    *(Column(name, BigInteger, nullable=False) for name in FIGURES),
    sqlite_with_rowid=False,
)

#: The same for latencies by bucket. Their groups span tenants and plans, to keep the rows few.
#: Where `grain` is negative, those of all groups together are group 0.
LATENCIES = Table(
    "latency_sums",
    SCHEMA,
    Column("grain", Integer, primary_key=True),
    Column("at", BigInteger, primary_key=True),
    Column("group_id", BigInteger, primary_key=True),
    #: 1 for answers that a person decided on.
    Column("reviewed", Integer, primary_key=True),
    Column("bucket", Integer, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("sum_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)


def make_tables(connection: Connection) -> None:
    """Create the tables where there are none, and replace those of another version."""
    if inspect(connection).has_table(FACTS.name):
        query = select(FACTS.c.value).where(FACTS.c.name == "version")
        if connection.scalar(query) == _VERSION:
            return
        SCHEMA.drop_all(connection)
    SCHEMA.create_all(connection)
    connection.execute(FACTS.insert().values(name="version", value=_VERSION))
