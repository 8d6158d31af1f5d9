"""The tables of the read model: one schema for SQLite and PostgreSQL.

Single calls, their outcomes and the feedback on them are kept for as long as the settings say; the
sums by hour and by day for ever. Times are milliseconds since 1970. All tables can be rebuilt from
the topics.
"""

import sqlalchemy as sa

from consumers.readmodel.columns import always, facts_table, key, positions_table, sometimes
from router.reports.measures import FIGURES, PAID
from router.reports.quality import Call, Group

__all__ = [
    "BY_USER",
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

SCHEMA = sa.MetaData()
#: Raised whenever the tables change: they are then rebuilt from the topics.
_VERSION = "8"

FACTS = facts_table("read_facts", SCHEMA)
POSITIONS = positions_table("read_positions", SCHEMA)

#: What was asked: of several records on intake that have the same id, the first.
REQUESTS = sa.Table(
    "requests",
    SCHEMA,
    *key(request_id=sa.Text, tenant=sa.Text),
    sa.Column("appended_at", sa.BigInteger, nullable=False, index=True),
    *always(topic=sa.Text, partition=sa.Integer, offset=sa.BigInteger),
    *sometimes(task=sa.Text, plan=sa.Text),
    #: These, and the beginning of what the customer says, are masked as pages mask them.
    *sometimes(user=sa.Text, conversation_id=sa.Text),
    *always(words=sa.Text),
    #: A number for its conversation, or for itself: what the arms of a rollout are drawn by.
    *always(unit=sa.BigInteger),
    # Whatever requests are listed by, the newest come first.
    sa.Index("requests_by_tenant", "tenant", "appended_at"),
    sa.Index("requests_by_user", "user", "appended_at"),
    sa.Index("requests_by_conversation", "conversation_id", "appended_at"),
    sa.Index("requests_by_unit", "unit"),
)

#: Where all records of a request lie.
RECORDS = sa.Table(
    "request_records",
    SCHEMA,
    *key(request_id=sa.Text, tenant=sa.Text),
    *key(topic=sa.Text, partition=sa.Integer, offset=sa.BigInteger),
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
    #: Of a request given to a tier, the rule that sent it there, the release that decided it, what
    #: the classify step had said of it, in JSON, and the plan that counts for it.
    *sometimes(rule=sa.Text, release=sa.Text, classified=sa.Text, plan=sa.Text),
    sqlite_with_rowid=False,
)
sa.Index(
    "routed_records",
    RECORDS.c.at,
    RECORDS.c.rule,
    sqlite_where=RECORDS.c.rule.is_not(None),
    postgresql_where=RECORDS.c.rule.is_not(None),
)

GROUPS = sa.Table(
    "call_groups",
    SCHEMA,
    sa.Column("group_id", sa.BigInteger, primary_key=True, autoincrement=False),
    *always(**dict.fromkeys(Group._fields, sa.Text)),
)

#: Figures of a call in its own group; those of `PAID` count where its request ended.
OWN = tuple(name for name in FIGURES if name not in ("calls", *PAID))
#: Those of them that few calls have.
RARE = ("reviewed", "by_model", "by_person", "refusals", "abandoned", "schema_failures")
_TEXTS = ("step", "tier", "outcome", "detail")
_KEY = ("tenant", "request_id", "attempt_id")
_OTHER = [
    name
    for name in Call.__slots__
    if name not in (*_KEY, *_TEXTS, "started_at", "has_changed", "latency_us", "bucket")
]

CALLS = sa.Table(
    "calls",
    SCHEMA,
    #: An attempt that two processes made is two calls.
    *key(**dict.fromkeys(_KEY, sa.Text), started_at=sa.BigInteger),
    *always(**dict.fromkeys(_TEXTS, sa.Text), has_changed=sa.Boolean),
    *always(**dict.fromkeys(_OTHER, sa.BigInteger)),
    *sometimes(latency_us=sa.BigInteger, bucket=sa.Integer),
    sa.Index("calls_by_time", "started_at"),
    sa.Index("calls_by_end", "spent_at"),
    # Few calls have these: in a long time they are not found by time alone.
    *(
        sa.Index(f"calls_{name}", "started_at", sqlite_where=has, postgresql_where=has)
        for name in RARE
        for has in (sa.text(f"{name} > 0"),)
    ),
)

#: How a generation of a request ended: in a result, in a dead letter, or in one after the other.
OUTCOMES = sa.Table(
    "outcomes",
    SCHEMA,
    *key(tenant=sa.Text, request_id=sa.Text, generation=sa.BigInteger, is_result=sa.Boolean),
    sa.Column("ended_at", sa.BigInteger, nullable=False, index=True),
    #: Of a dead letter, its place; of a result, the dead letter that it resolves.
    sa.Column("letter", sa.Text, index=True),
    #: The rest is only set for a result; `output` is the answer in the task's format, in JSON.
    *sometimes(published=sa.Text, kind=sa.Text, total_us=sa.BigInteger, task=sa.Text),
    *sometimes(model=sa.Text, review=sa.Text, output=sa.Text),
)

FEEDBACK = sa.Table(
    "feedback",
    SCHEMA,
    *key(tenant=sa.Text, request_id=sa.Text, generation=sa.BigInteger, kind=sa.Text),
    #: `words` are the comment, and the correction.
    *always(at=sa.BigInteger, words=sa.Text),
)

#: What reviewers decided, whether or not the decision stands.
REVIEWS = sa.Table(
    "reviews",
    SCHEMA,
    *key(decision_id=sa.Text),
    sa.Column("letter", sa.Text, nullable=False, index=True),
    #: `is_example`: kept to test prompts and models with.
    *always(action=sa.Text, who=sa.Text, at=sa.BigInteger, is_example=sa.Boolean),
    *always(tenant=sa.Text, request_id=sa.Text, generation=sa.BigInteger),
    #: What it took the reviewer, where the console measured it.
    *sometimes(seconds=sa.BigInteger),
    sa.Index("reviews_by_request", "request_id", "tenant"),
)

#: Sums of calls by group, for spans of `grain` milliseconds that begin at `at`. Where `grain` is
#: negative, the groups have a task, a tier and a policy only. By `BY_USER` each day is counted by
#: user; these rows are kept as long as single requests.
SUMS = sa.Table(
    "call_sums",
    SCHEMA,
    *key(grain=sa.Integer, at=sa.BigInteger, group_id=sa.BigInteger),
    *always(**dict.fromkeys(FIGURES, sa.BigInteger)),
    sqlite_with_rowid=False,
)

#: The same for latencies by bucket. Their groups span tenants and plans, to keep the rows few.
#: Where `grain` is negative, those of all groups together are group 0. `reviewed` is 1 for answers
#: that a person decided on.
LATENCIES = sa.Table(
    "latency_sums",
    SCHEMA,
    *key(grain=sa.Integer, at=sa.BigInteger, group_id=sa.BigInteger),
    *key(reviewed=sa.Integer, bucket=sa.Integer),
    *always(count=sa.BigInteger, sum_us=sa.BigInteger),
    sqlite_with_rowid=False,
)


#: A grain that is no span.
BY_USER = 1


def make_tables(connection: sa.Connection) -> None:
    """Create the tables where there are none, and replace those of another version."""
    if sa.inspect(connection).has_table(FACTS.name):
        query = sa.select(FACTS.c.value).where(FACTS.c.name == "version")
        if connection.scalar(query) == _VERSION:
            return
        SCHEMA.drop_all(connection)
    SCHEMA.create_all(connection)
    connection.execute(FACTS.insert().values(name="version", value=_VERSION))
