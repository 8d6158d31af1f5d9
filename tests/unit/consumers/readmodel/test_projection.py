"""The projection says what a plain walk says, in whatever order and however often it is told."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from consumers.readmodel.answers import answered, kept_answers
from consumers.readmodel.database import open_database
from consumers.readmodel.model import ReadModel, _forget
from consumers.readmodel.queries import failures, figures_by, figures_over_time, releases
from consumers.readmodel.tables import CALLS, FACTS, make_tables
from consumers.runtime.clients import Clients
from consumers.settings import KafkaSettings
from router.attempt.answering import composed_result
from router.reports.measures import FIGURES, By, percentile
from schemas.attempt import LedgerEntry
from schemas.base import EARLIEST, LATEST, Tier
from schemas.codec import dump, read_model
from schemas.dead_letter import DeadLetter, Pointer
from schemas.feedback import Feedback
from schemas.reasons import Reason
from schemas.request import Request
from schemas.result import Result
from schemas.review import AuditLine, Decision
from schemas.tenancy import RequestKey
from schemas.usage import Usage
from schemas.verdict import Change
from tests.builders import (
    NOON,
    a_record,
    a_request,
    a_route,
    an_assignment,
    an_attempt,
    an_escalation,
    the_policy,
)
from tests.tables import (
    TOPICS,
    behind,
    everything_in,
    positions,
    record_of,
    rows_of,
    tables,
    take_in,
)
from tests.unit.consumers.readmodel.model import Plain

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
#: Apart so far that sums by day, sums by hour and single calls are all asked.
MOMENTS = [NOON + hours * HOUR + timedelta(minutes=7) for hours in (0, 0.5, 1, 13, 30, 200)]
BY: Sequence[By] = ("task", "tier", "model", "prompt", "reason", "policy")


def a_line(
    no: int = 1, request_id: str = "r-1", tenant: str = "default", generation: int = 1, **call: Any
) -> LedgerEntry:
    return LedgerEntry(
        request_id=request_id,
        generation=generation,
        task="support_answer",
        tenant=tenant,
        attempt=an_attempt(
            call.pop("tier", Tier.LOW),
            attempt_id=f"{request_id}.{generation}.{no}",
            attempt_no=no,
            generation=generation,
            **{"outcome": "accepted", "reason": None, "cost_micros": 7 * no, **call},
        ),
    )


def a_result(
    no: int = 1,
    request_id: str = "r-1",
    tenant: str = "default",
    generation: int = 1,
    **router: Any,
) -> Result:
    assignment = an_assignment(
        id=request_id, tenant=tenant, generation=generation, routes=[a_route()]
    )
    fields = composed_result(
        assignment, a_request(), [an_attempt()], "answer", "x", {"answer": "x"}, now=NOON + HOUR
    )
    fields["response"]["request_id"] = f"{request_id}.{generation}.{no}"
    fields["router"] |= {"tenant": tenant, **router}
    return read_model(Result, dump(fields))


def a_letter(request_id: str = "r-1", tenant: str = "default", generation: int = 1) -> DeadLetter:
    return DeadLetter(
        request_id=request_id,
        tenant=tenant,
        generation=generation,
        reason=Reason.NO_TIER_LEFT,
        detail="",
        stage="route",
        source=Pointer(topic="llm.intake", partition=1, offset=7),
        failed_at=NOON,
    )


def said(kind: str, request_id: str = "r-1", tenant: str = "default", **words: Any) -> Feedback:
    fields = {"request_id": request_id, "tenant": tenant, "kind": kind, "at": NOON}
    return Feedback.model_validate({**fields, **words})


_WHO: dict[str, Any] = {
    "request_id": st.sampled_from(["r-1", "r-2"]),
    "tenant": st.sampled_from(["default", "acme"]),
}
_OUTCOMES = st.sampled_from(
    [
        {},
        {"outcome": "rejected", "reason": Reason.SCHEMA_FAILED},
        {"outcome": "failed", "reason": Reason.NOT_SENT},
        {"outcome": "failed", "reason": Reason.OUTCOME_UNKNOWN, "is_estimated": True},
        {"changes": [Change(field="answer", before="a", after="b")]},
        {"usage": Usage(input_tokens=10, reasoning_tokens=2)},
        {"outcome": "started", "reason": None},
    ]
)
_LINES = st.builds(
    lambda outcome, **fields: a_line(**fields, **outcome),
    _OUTCOMES,
    no=st.integers(1, 4),
    generation=st.integers(1, 2),
    tier=st.sampled_from(list(Tier)),
    step=st.sampled_from(["classify", "answer", "answer", "verify"]),
    started_at=st.sampled_from(MOMENTS),
    **_WHO,
)
_RESULTS = st.builds(
    a_result,
    no=st.integers(1, 4),
    generation=st.integers(1, 2),
    kind=st.sampled_from(["answer", "safe_default"]),
    review=st.sampled_from([None, None, "approve"]),
    final=st.sampled_from([True, True, False]),
    **_WHO,
)
_KINDS = st.sampled_from(["accepted", "edited", "abandoned"])
_SAID = st.builds(said, _KINDS, comment=st.sampled_from([None, "no"]), **_WHO)
_LETTERS = st.builds(a_letter, generation=st.integers(1, 2), **_WHO)
_ASKED = st.builds(
    lambda words, request_id, tenant: a_request(id=request_id, tenant=tenant, input=words),
    st.sampled_from(["Where is it?", "Who?", "When?"]),
    **_WHO,
)
_HOPS = st.builds(
    lambda made, request_id, tenant: made(id=request_id, tenant=tenant, routes=[a_route()]),
    st.sampled_from([an_assignment, an_escalation]),
    **_WHO,
)


def _records(told: Sequence[Any]) -> list[Any]:
    """A request's records of a topic lie in one partition; transaction markers leave holes."""
    ends: dict[tuple[str, int], int] = {}
    records = []
    for what in told:
        key = what.key if hasattr(what, "key") else RequestKey(what.tenant, what.id)
        record = record_of(what, partition=len(f"{key}") % 2)
        if isinstance(what, Request):  # a producer may use an id again, with another key
            record.partition = len(what.text) % 2
            record.timestamp += len(what.text)
        place = record.topic, record.partition
        record.offset = ends[place] = ends.get(place, -1) + 1 + len(ends) % 2
        records.append(record)
    return records


@st.composite
def _tellings(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """What is told, and its records as one reader may get them: each partition in its order."""
    told = draw(
        st.lists(
            st.one_of(_LINES, _LINES, _RESULTS, _SAID, _LETTERS, _ASKED, _HOPS),
            min_size=4,
            max_size=14,
        )
    )
    records = _records(told)
    order = draw(st.permutations(range(len(records))))
    lines: dict[tuple[str, int], Iterator[Any]] = {}
    for record in records:
        place = record.topic, record.partition
        lines.setdefault(
            place, iter([one for one in records if (one.topic, one.partition) == place])
        )
    shuffled = [next(lines[records[no].topic, records[no].partition]) for no in order]
    return told, shuffled


@settings(max_examples=80)
@given(_tellings(), st.data())
def test_any_interleaving_and_any_crash_give_the_same_tables(
    telling: tuple[list[Any], list[Any]], data: st.DataObject
) -> None:
    told, records = telling
    with tables() as connection:
        take_in(connection, _records(told))
        expected = everything_in(connection)
    with tables() as connection:
        read = 0
        while read < len(records):
            count = data.draw(st.integers(1, 4), label="batch")
            known = positions(connection)
            # A reader that begins anew may also get what is in the tables already.
            again = data.draw(st.integers(0, read), label="begins anew at")
            batch = records[again : read + count]
            transaction = connection.begin_nested()
            take_in(connection, batch)
            if data.draw(st.integers(0, 3), label="how it ends") == 3:  # it dies
                transaction.rollback()
                assert positions(connection) == known
                continue
            transaction.commit()
            read += count
        assert everything_in(connection) == expected

        since, until = data.draw(_spans, label="span")
        plain = Plain(told).figures(BY, since, until)
        rows, _ = figures_by(connection, BY, the_policy(), since, until)
        assert {row.name: _counts(row) for row in rows} == {
            name: figures.counts for name, figures in plain.items()
        }
        for row in rows:
            times = plain[row.name].latencies_ms, plain[row.name].waits_ms
            for values, latencies in zip(times, (row.latencies, row.waits), strict=True):
                assert sum(count for count, _ in latencies.values()) == len(values)
                assert percentile(latencies, 100) == (
                    pytest.approx(max(values), rel=0.021) if values else None
                )


_spans = st.tuples(
    st.sampled_from([EARLIEST, *MOMENTS, NOON, NOON + 3 * HOUR, NOON + DAY]),
    st.sampled_from([LATEST, *MOMENTS, NOON + 5 * HOUR, NOON + 9 * DAY]),
)


def _counts(row: Any) -> dict[str, int]:
    return {name: getattr(row, name) for name in FIGURES}


@settings(max_examples=20)
@given(st.lists(_LINES, min_size=1, max_size=10), st.sampled_from([5, 60, 360, 1440]))
def test_periods_are_the_figures_of_their_spans_and_add_up(
    told: list[LedgerEntry], minutes: int
) -> None:
    step = timedelta(minutes=minutes)
    since, until = NOON + timedelta(minutes=9), NOON + 20 * step + timedelta(minutes=8)
    with tables(told) as connection:
        periods = figures_over_time(connection, the_policy(), since, until, step)
        assert (periods[0].since, periods[-1].until) == (since, until)
        for period, later in pairwise(periods):
            assert (period.until, period.at + step) == (later.since, later.at)
        _, whole = figures_by(connection, ("task",), the_policy(), since, until)
        for name in FIGURES:
            assert sum(getattr(period.total, name) for period in periods) == getattr(whole, name)
        for no in (0, 1, 6, 19):
            period = periods[no]
            rows, total = figures_by(
                connection, ("task", "tier"), the_policy(), period.since, period.until
            )
            assert _counts(period.total) == _counts(total)
            assert {name: _counts(row) for name, row in period.by_task_and_tier.items()} == {
                row.name: _counts(row) for row in rows
            }


@settings(max_examples=30)
@given(_tellings(), st.sampled_from(MOMENTS))
def test_sums_outlast_the_requests_that_are_forgotten(
    telling: tuple[list[Any], list[Any]], before: datetime
) -> None:
    with tables() as connection:
        take_in(connection, telling[1])
        whole = before.replace(minute=0)
        expected = rows_of(connection, BY, whole), rows_of(connection, BY)
        _forget(connection, before + HOUR)
        kept = connection.execute(CALLS.select()).mappings().all()
        first = (before + HOUR).timestamp() * 1000
        assert all(max(row["started_at"], row["spent_at"]) >= first for row in kept)
        assert (rows_of(connection, BY, whole), rows_of(connection, BY)) == expected


def test_what_cannot_be_read_stops_nothing_else() -> None:
    odd = [
        a_record(b"{ no json", topic=TOPICS.attempts, offset=0),
        a_record(None, topic=TOPICS.results, offset=0),
        record_of(a_line(model="m\0x"), 1),
        record_of(a_line(2, own := "r-2"), 2),
    ]
    with tables() as connection:
        take_in(connection, odd)
        assert behind(connection, "calls") == ["r-1", own]
        assert {row.name for row in rows_of(connection, ("model",))[0]} >= {
            ("m\N{REPLACEMENT CHARACTER}x",)
        }
        assert {source.topic: at for source, at in positions(connection).items()} == {
            TOPICS.attempts: 3,
            TOPICS.results: 1,
        }


def test_a_record_that_the_tables_cannot_hold_is_left_out_alone() -> None:
    """Sums of 64 bits end somewhere; whoever forges records may not end the others' figures."""
    many = [record_of(a_line(no, f"r-{no}"), no) for no in range(1, 6)]
    with tables() as connection:
        connection.exec_driver_sql(
            "CREATE TEMP TRIGGER refuse BEFORE INSERT ON calls WHEN NEW.request_id = 'r-3' "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        take_in(connection, many)
        assert behind(connection, "calls") == ["r-1", "r-2", "r-4", "r-5"]
        connection.exec_driver_sql("DROP TRIGGER refuse")


def test_the_failures_are_the_newest_with_what_came_of_them() -> None:
    rejected: dict[str, Any] = {"outcome": "rejected", "reason": Reason.SCHEMA_FAILED}
    told: list[BaseModel] = [
        a_line(1, "gave-up", started_at=NOON, **rejected),
        a_letter("gave-up"),
        a_line(1, "climbed", started_at=NOON + HOUR, **rejected),
        a_line(2, "climbed", tier=Tier.BALANCED),
        a_line(1, "minded", started_at=NOON + 2 * HOUR),
        said("complaint", "minded", comment="rude"),
        a_line(1, "good"),
    ]
    with tables(told) as connection:
        found, count = failures(connection, "low", NOON, 2)
        every, _ = failures(connection, "low", NOON, 9)
    assert count == 3
    assert [(one.request.id, one.fixed, one.then) for one in found] == [
        ("climbed", "check", "another model was asked"),
        ("minded", "person", "complaint: rude"),
    ]
    assert (every[0].then, every[0].reason) == ("a person was asked", Reason.SCHEMA_FAILED)
    assert every[2].reason is None


def test_answers_are_drawn_from_their_week_alone() -> None:
    with tables() as connection:
        records = [
            record_of(
                a_result(1, f"r-{day}"), day, timestamp=int((NOON + day * DAY).timestamp() * 1000)
            )
            for day in range(14)
        ]
        take_in(connection, records)
        monday = NOON + DAY
        found, count = answered(connection, "w", 3, monday, monday + 7 * DAY)
    assert (len(found), count) == (3, 7)
    assert {one.request.id for one in found} <= {f"r-{day}" for day in range(1, 8)}
    assert found[0].output == {"answer": "x"}


def test_an_answer_that_was_kept_is_the_last_one_of_its_dead_letter() -> None:
    def line(no: int, **fields: Any) -> AuditLine:
        decision = {
            "decision_id": f"d-{no}",
            "request_id": "r-1",
            "generation": 1,
            "letter": Pointer(topic="llm.dead-letters", partition=1, offset=no),
            "action": "edit",
            **fields,
        }
        return AuditLine(
            writer="w", no=no, at=NOON, who="ann", what="decide", decision=Decision(**decision)
        )

    told: list[BaseModel] = [
        line(1, is_example=True),
        line(2),
        a_result(1, review="edit", resolves="llm.dead-letters-1-1", output={"answer": "mine"}),
        a_result(1, "r-2", review="approve", resolves="llm.dead-letters-1-2"),
        a_result(1, "r-3", review="reject", resolves="llm.dead-letters-1-1"),
    ]
    with tables(told) as connection:
        letters = [f"llm.dead-letters-1-{no}" for no in range(4)]
        kept = kept_answers(connection, letters, every=False)
        every = kept_answers(connection, letters, every=True)
        assert kept_answers(connection, letters[3:], every=True) == {}
        assert kept_answers(connection, [], every=True) == {}
    assert {place: one.request for place, one in kept.items()} == {
        "llm.dead-letters-1-1": RequestKey("default", "r-1")
    }
    assert kept["llm.dead-letters-1-1"].output == {"answer": "mine"}
    assert len(every) == 2


@pytest.mark.parametrize("step", [HOUR, timedelta(minutes=60, seconds=1)])
def test_a_release_is_marked_where_it_was_used_first(step: timedelta) -> None:
    lines = [
        a_line(no, policy_version=version, started_at=NOON + no * HOUR + timedelta(minutes=5))
        for no, version in ((3, "2"), (1, "1"), (2, "2"), (5, "2"))
    ]
    with tables(lines) as connection:
        found = releases(connection, NOON, step, 9)
        later = releases(connection, NOON + 3 * HOUR, step, 9)
    assert (found, later) == ([("1", 1), ("2", 2)], [])


def test_tables_of_another_version_are_made_anew() -> None:
    with tables([a_line()]) as connection:
        make_tables(connection)
        assert rows_of(connection)[1].calls == 1
        connection.execute(FACTS.update().values(value="0"))
        make_tables(connection)
        assert rows_of(connection)[1].calls == 0


@pytest.mark.anyio
async def test_both_databases_say_the_same(url: str) -> None:
    told: list[BaseModel] = [
        a_line(1, outcome="rejected", reason=Reason.SCHEMA_FAILED, started_at=MOMENTS[0]),
        a_line(2, tier=Tier.BALANCED, started_at=MOMENTS[1]),
        a_result(2),
        said("edited"),
        a_line(1, "r-2", "acme", started_at=MOMENTS[5]),
        a_letter("r-2", "acme"),
    ]
    records = _records(told)
    with tables() as connection:
        take_in(connection, records)
        expected = everything_in(connection)
        figures = [rows_of(connection, BY, since) for since in (NOON, MOMENTS[0], MOMENTS[1])]
    async with open_database(url, make_tables) as database:
        model = ReadModel(database, Clients(KafkaSettings()))
        for part, batch in groupby(records, key=lambda record: record.topic):
            assert part
            await model._take(list(batch))
        await model._take(records)
        assert await model.ask(everything_in) == expected
        for since, found in zip((NOON, MOMENTS[0], MOMENTS[1]), figures, strict=True):
            assert await model.ask(partial(rows_of, by=BY, since=since)) == found
        span = NOON, NOON + 10 * DAY
        periods = await model.ask(
            lambda asked: figures_over_time(asked, the_policy(), *span, 6 * HOUR)
        )
        assert sum(period.total.calls for period in periods) == 3
        assert await model.ask(partial(behind, measure="spend", tier="balanced")) == ["r-1"]
        async with database.writing() as connection:
            await connection.run_sync(_forget, LATEST)
        assert (await model.ask(rows_of))[1].calls == 3
