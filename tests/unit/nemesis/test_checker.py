"""The judge sees every kind of break, and no break where there is none."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.attempt import Attempt, LedgerEntry
from schemas.base import Tier
from schemas.reasons import Reason
from schemas.usage import Usage
from tests.nemesis.checker import (
    ID_REUSED,
    STARTED,
    BillCall,
    Facts,
    LedgerLine,
    Published,
    Terminal,
    check,
)

UNKNOWN = Reason.OUTCOME_UNKNOWN.value


def sent(id_: str, key: str | None = None, body: str = "b", **more) -> Published:
    return Published(id_, key or f"key-{id_}", body, **more)


def end(id_: str, offset: int, kind: str = "result", partition: int = 0, body="") -> Terminal:
    return Terminal(id_, kind, partition, offset, body)


def line(id_: str, cost: int, no: int = 1, outcome: str = "accepted") -> LedgerLine:
    return LedgerLine(f"{id_}.1.{no}", id_, cost, outcome, is_estimate=outcome == UNKNOWN)


def lost(id_: str, cost: int, no: int = 1, at: str = "") -> LedgerLine:
    """The line of a call whose process is gone."""
    return LedgerLine(f"{id_}.1.{no}", id_, cost, UNKNOWN, True, at, is_lost=True)


def call(id_: str, cost: int, no: int = 1) -> BillCall:
    return BillCall(f"{id_}.1.{no}", id_, cost)


#: Two requests: one answered at once, one rejected, called again and given up on.
GOOD = Facts(
    published=(sent("one"), sent("two")),
    terminals=(end("one", 4), end("two", 4, "dead_letter", partition=2, body="b")),
    ledger=(line("one", 100), line("two", 40, 1, "rejected"), line("two", 0, 2, "throttled")),
    bill=(call("one", 100), call("two", 40), call("two", 0, 2)),
)


def judged(**changed) -> tuple[str, set[str]]:
    """The report's line, and the kinds of its problems."""
    report = check(replace(GOOD, **changed))
    assert report.ok == (not report.problems)
    return report.line(), {problem.partition(":")[0] for problem in report.problems}


def counts(lost=0, duplicates=0, extra_calls=0, ledger_minus_bill=0, above=0, stuck=0) -> str:
    return (
        f"lost={lost} duplicates={duplicates} extra_calls={extra_calls} "
        f"ledger_minus_bill={ledger_minus_bill} estimates_above_bill={above} stuck={stuck}"
    )


@pytest.mark.parametrize(
    ("changed", "line_"),
    [
        pytest.param({}, counts(), id="a run without faults"),
        pytest.param(
            {"published": (*GOOD.published, sent("three", is_acknowledged=False))},
            counts(),
            id="what was perhaps never published may be missing",
        ),
        pytest.param(
            {"published": (*GOOD.published, sent("one"))},
            counts(),
            id="the same request published twice has one end",
        ),
        pytest.param(
            {"terminals": (*GOOD.terminals, GOOD.terminals[0])},
            counts(),
            id="one record read twice is one record",
        ),
        pytest.param(
            {
                "published": (*GOOD.published, sent("one", body="other")),
                "terminals": (*GOOD.terminals, end("one", 9, ID_REUSED, body="other")),
            },
            counts(),
            id="another body under a used id is refused once",
        ),
        pytest.param(
            {
                "bill": (*GOOD.bill, call("one", 100, 2)),
                "ledger": (lost("one", 150), line("one", 100, 2), *GOOD.ledger[1:]),
                "in_flight_at_cuts": ({"one": 1},),
            },
            counts(extra_calls=1, above=50),
            id="a call in flight at a kill is booked at its reserve and made again",
        ),
        pytest.param(
            {
                "bill": (*GOOD.bill, call("one", 100, 2)),
                "ledger": (*GOOD.ledger, lost("one", 150), line("one", 100, 2)),
                "in_flight_at_cuts": ({"one": 1},),
            },
            counts(extra_calls=1),
            id="or booked by a process that was only frozen, which replaces the reserve",
        ),
        pytest.param(
            {
                "bill": (*GOOD.bill, call("one", 100)),
                "ledger": (*GOOD.ledger, line("one", 100)),
                "in_flight_at_cuts": ({}, {"one": 2}),
            },
            counts(extra_calls=1),
            id="or booked, by whoever was thought dead",
        ),
        pytest.param(
            {
                "bill": (*GOOD.bill, call("one", 70, 2)),
                "ledger": (
                    *(*GOOD.ledger, lost("one", 70, 2, "then")),
                    line("one", 0, 3, Reason.NOT_SENT.value),
                ),
                "in_flight_at_cuts": ({"one": 3},),
            },
            counts(extra_calls=1),
            id="the second try after a kill reaches nobody",
        ),
        pytest.param(
            {"ledger": (*GOOD.ledger, line("two", 90, 3, STARTED))},
            counts(),
            id="a started line books nothing",
        ),
        pytest.param(
            {
                "ledger": (*GOOD.ledger, line("two", 90, 3, UNKNOWN)),
                "bill": (*GOOD.bill, call("two", 60, 3)),
            },
            counts(above=30),
            id="a reserve covers what was billed",
        ),
        pytest.param(
            {"ledger": (*GOOD.ledger, line("two", 90, 3, UNKNOWN))},
            counts(above=90),
            id="a reserve may be for a call that never arrived",
        ),
        pytest.param({"standing": {"work.low-0": 0}}, counts(), id="nothing stands"),
    ],
)
def test_what_is_right_passes(changed, line_):
    assert judged(**changed) == (line_, set())


@pytest.mark.parametrize(
    ("changed", "line_", "kinds"),
    [
        pytest.param(
            {"terminals": GOOD.terminals[:1]}, counts(lost=1), {"lost"}, id="a request has no end"
        ),
        pytest.param(
            {"published": (*GOOD.published, sent("one", body="other"))},
            counts(lost=1),
            {"lost"},
            id="another body under a used id was swallowed",
        ),
        pytest.param(
            {"terminals": (*GOOD.terminals, end("one", 5))},
            counts(duplicates=1),
            {"duplicate"},
            id="two results",
        ),
        pytest.param(
            {"terminals": (*GOOD.terminals, end("one", 4, "dead_letter"))},
            counts(duplicates=1),
            {"duplicate"},
            id="a result and a dead letter, at the same place of their topics",
        ),
        pytest.param(
            {"terminals": (*GOOD.terminals, end("one", 5, ID_REUSED))},
            counts(duplicates=1),
            {"duplicate"},
            id="refused although no id was reused",
        ),
        pytest.param(
            {
                "published": (*GOOD.published, sent("three", is_acknowledged=False)),
                "terminals": (*GOOD.terminals, *(end("three", at, "dead_letter") for at in (7, 8))),
            },
            counts(duplicates=1),
            {"duplicate"},
            id="two ends of what was perhaps never published",
        ),
        pytest.param(
            {"terminals": (*GOOD.terminals, end("nobody", 7, "dead_letter"))},
            counts(),
            {"from nowhere"},
            id="an end of what nobody published",
        ),
        pytest.param(
            {"terminals": (*GOOD.terminals, end("", 7, "dead_letter"))},
            counts(),
            {"from nowhere"},
            id="an end without an id",
        ),
        pytest.param(
            {"terminals": (GOOD.terminals[0], end("two", 4, "dead_letter", 2, "rewritten"))},
            counts(),
            {"bytes changed"},
            id="a dead letter with other bytes",
        ),
        pytest.param(
            {"published": (sent("one", "same"), sent("two", "same"))},
            counts(),
            {"torn key"},
            id="one key in two partitions",
        ),
        pytest.param(
            {"bill": GOOD.bill[1:], "ledger": GOOD.ledger[1:]},
            counts(),
            {"answer without a call"},
            id="a result that nobody was asked for",
        ),
        pytest.param(
            {"bill": (*GOOD.bill, call("one", 100)), "ledger": (*GOOD.ledger, line("one", 100))},
            counts(extra_calls=1),
            {"paid again"},
            id="a call made again without a kill, and booked",
        ),
        pytest.param(
            {"bill": (*GOOD.bill, call("one", 100))},
            counts(extra_calls=1, ledger_minus_bill=-100),
            {"paid again", "unbooked"},
            id="a call made again without a kill, and not booked",
        ),
        pytest.param(
            {
                "bill": (*GOOD.bill, *(call("one", 100, no) for no in (2, 3, 4))),
                "ledger": (*GOOD.ledger, *(lost("one", 100, no) for no in (2, 3, 4))),
                "in_flight_at_cuts": ({"one": 1}, {"one": 1}),
            },
            counts(extra_calls=3),
            {"paid again"},
            id="more calls made again than were in flight",
        ),
        pytest.param(
            {"bill": (*GOOD.bill, call("one", 100)), "in_flight_at_cuts": ({"one": 1},)},
            counts(extra_calls=1, ledger_minus_bill=-100),
            {"unbooked"},
            id="a call made again after a freeze, and the first one not booked",
        ),
        pytest.param(
            {
                "bill": (*GOOD.bill, call("one", 100)),
                "ledger": (*GOOD.ledger, lost("one", 100)),
                "in_flight_at_cuts": ({"one": 1},),
            },
            counts(extra_calls=2, ledger_minus_bill=-100),
            {"paid again", "unbooked"},
            id="a call that died with a process and that no next owner booked",
        ),
        pytest.param(
            {"ledger": (*GOOD.ledger, lost("two", 0, 3))},
            counts(),
            {"lost without a fault"},
            id="a call booked as lost although nothing went wrong",
        ),
        pytest.param(
            {"ledger": (*GOOD.ledger, lost("two", 90, 3), line("two", 0, 3, "not_sent"))},
            counts(),
            set(),
            id="a call that was given up unsent, and booked after its next owner looked",
        ),
        pytest.param(
            {"bill": (*GOOD.bill, call("one", 100)), "in_flight_at_cuts": ({"two": 1},)},
            counts(extra_calls=1, ledger_minus_bill=-100),
            {"paid again", "unbooked"},
            id="a call made again whose request no kill has touched",
        ),
        pytest.param(
            {"published": (sent("one"), sent("two", planned_calls=0))},
            counts(extra_calls=1),
            {"paid again", "beyond the plan"},
            id="a call that the plan did not allow, though booked",
        ),
        pytest.param(
            {"ledger": (*GOOD.ledger, line("one", 100))},
            counts(ledger_minus_bill=100),
            {"ledger"},
            id="one call booked for each delivery",
        ),
        pytest.param(
            {"ledger": (*GOOD.ledger, line("one", 30, 2))},
            counts(ledger_minus_bill=30),
            {"ledger"},
            id="a call booked that nobody made",
        ),
        pytest.param(
            {"ledger": (line("one", 101), *GOOD.ledger[1:])},
            counts(ledger_minus_bill=1),
            {"ledger"},
            id="a wrong price",
        ),
        pytest.param(
            {"ledger": (line("one", 0), *GOOD.ledger[1:])},
            counts(ledger_minus_bill=-100),
            {"ledger"},
            id="an answer booked as free",
        ),
        pytest.param(
            {
                "ledger": (line("one", 105), line("two", 35, 1, "rejected"), *GOOD.ledger[2:]),
            },
            counts(),
            {"ledger"},
            id="two wrong prices that make up for each other",
        ),
        pytest.param(
            {"ledger": GOOD.ledger[1:]},
            counts(extra_calls=1, ledger_minus_bill=-100),
            {"paid again", "unbooked"},
            id="a call never booked",
        ),
        pytest.param(
            {
                "ledger": (*GOOD.ledger, line("two", 90, 3, UNKNOWN)),
                "bill": (*GOOD.bill, call("two", 91, 3)),
            },
            counts(),
            {"reserve too low"},
            id="a reserve below the bill",
        ),
        pytest.param(
            {"ledger": (*GOOD.ledger, line("nobody", 0, 1, "throttled"))},
            counts(),
            {"stray money"},
            id="a line for nobody",
        ),
        pytest.param(
            {"bill": (*GOOD.bill, BillCall("", "one", 0))},
            counts(),
            {"stray money"},
            id="a call without an attempt",
        ),
        pytest.param(
            {"bill": (*GOOD.bill, BillCall("one.1.1", "two", 0))},
            counts(),
            {"stray money"},
            id="an attempt of two requests",
        ),
        pytest.param(
            {"standing": {"work.low-0": 3, "llm.results-1": 2}},
            counts(stuck=5),
            {"stuck"},
            id="records that nobody gets on with",
        ),
        pytest.param(
            {"published": (), "terminals": (), "ledger": (), "bill": ()},
            counts(),
            {"blind"},
            id="nothing was tried",
        ),
    ],
)
def test_every_break_is_seen(changed, line_, kinds):
    assert judged(**changed) == (line_, kinds)


def test_a_problem_names_the_request_and_where_its_ends_lie():
    report = check(replace(GOOD, terminals=(*GOOD.terminals, end("one", 5))))
    assert report.problems == ("duplicate: one (key key-one, calls 1, result-0-4, result-0-5)",)


def test_many_breaks_of_a_kind_are_counted_and_a_few_told():
    published = [sent(str(no)) for no in range(25)]
    report = check(Facts(published, [], [], []))
    assert report.lost == 25
    assert len(report.problems) == 11
    assert report.problems[-1] == "lost: and 15 more"


@given(st.data())
def test_a_run_is_right_until_any_one_fact_is_taken_away(data):
    count = data.draw(st.integers(1, 12))
    costs = data.draw(st.lists(st.integers(1, 99), min_size=count, max_size=count))
    ids = [f"r{no}" for no in range(count)]
    facts = Facts(
        published=[sent(id_) for id_ in ids],
        terminals=data.draw(st.permutations([end(id_, no) for no, id_ in enumerate(ids)])),
        ledger=data.draw(st.permutations([line(*one) for one in zip(ids, costs, strict=True)])),
        bill=data.draw(st.permutations([call(*one) for one in zip(ids, costs, strict=True)])),
    )
    assert check(facts).ok
    name = data.draw(st.sampled_from(["published", "terminals", "ledger", "bill"]))
    kept = list(getattr(facts, name))
    del kept[data.draw(st.integers(0, count - 1))]
    changed: dict[str, Any] = {name: kept}
    assert not check(replace(facts, **changed)).ok


@pytest.mark.parametrize(
    ("outcome", "reason", "estimated", "expected"),
    [
        ("accepted", None, False, ("accepted", False)),
        ("rejected", Reason.LOW_CONFIDENCE, False, ("rejected", False)),
        ("failed", Reason.OUTCOME_UNKNOWN, True, (UNKNOWN, True)),
        ("failed", Reason.NOT_SENT, False, ("not_sent", False)),
    ],
)
def test_a_ledger_entry_becomes_a_line(outcome, reason, estimated, expected):
    attempt = Attempt(
        attempt_id="one.1.1",
        attempt_no=1,
        tier=Tier.LOW,
        model="m",
        provider="p",
        prompt_version="v",
        policy_version="v",
        started_at=datetime(2026, 11, 1, tzinfo=UTC),
        duration_ms=1,
        outcome=outcome,
        reason=reason,
        usage=Usage(estimated=estimated),
        is_estimated=estimated,
        cost_micros=7,
    )
    entry = LedgerEntry(request_id="one", generation=1, tenant="default", attempt=attempt)
    assert LedgerLine.of(entry)[:5] == ("one.1.1", "one", 7, *expected)
    assert LedgerLine.of(entry).started_at == attempt.started_at.isoformat()
