"""What accounts, reservations, the ledger and a bill have in common is nothing but agreement."""

from datetime import timedelta
from typing import Any

import pytest

from consumers.runtime.keyed_state import StatePart
from router.money.book import GRACE, Book, Reserved, Wanted
from router.money.verify import (
    Calls,
    against_bill,
    against_counters,
    book_call,
)
from router.policy.caps import Facts, caps_of
from router.policy.table import Policy
from schemas.attempt import LedgerEntry
from schemas.base import Tier
from schemas.tenancy import RequestKey
from tests.builders import NOON, an_attempt, policy_with

_CAP = {"per": "day", "at_cap": "refuse", "because": "tests"}
_POLICY = policy_with(
    caps={
        "low_users": {
            **_CAP,
            "scope": ["user"],
            "where": {"tier": ["low"], "plan": ["free"]},
            "dollars": "0.10",
        },
        "all_tokens": {**_CAP, "tokens": 100_000},
        "each": {**_CAP, "per": "request", "dollars": "0.05"},
        "share": {**_CAP, "premium_share": 0.5},
    }
)
_FACTS = Facts(
    *("acme", "free", Tier.LOW, RequestKey("acme", "r-1").text),
    user="u1",
    task="general",
    conversation="r-1",
)
_SPENT, _TOKENS = 700, 50
_SAME = {"low_users": 0, "all_tokens": 0, "each": 0}


def _line(**fields: Any) -> LedgerEntry:
    attempt = {"started_at": NOON, "cost_micros": _SPENT, "usage": {"input_tokens": _TOKENS}}
    whom = {"request_id": "r-1", "generation": 1, "tenant": "acme", "plan": "free", "user": "u1"}
    paid = {"task": "general", "reservation": "0-1", "reserved_at": NOON}
    given = {key: fields.pop(key) for key in [*fields] if key in LedgerEntry.model_fields}
    made = an_attempt(Tier.LOW).model_dump() | attempt | fields
    return LedgerEntry.model_validate({**whom, **paid, **given, "attempt": made})


def _calls(*lines: LedgerEntry, policy: Policy = _POLICY) -> Calls:
    calls: Calls = {}
    for line in lines:
        book_call(calls, line, policy)
    return calls


@pytest.fixture
def book() -> Book:
    """A book with one reservation, which has been settled."""
    book = Book(StatePart({}))
    caps = caps_of(_POLICY, _FACTS)
    assert len(caps) == 4
    wanted, until = Wanted(1_000, 4_000, 100, 400), NOON + timedelta(minutes=5)
    assert isinstance(book.reserve(caps, _FACTS, wanted, "0-1", until, NOON), Reserved)
    assert isinstance(book.reserve(caps, _FACTS, wanted, "0-2", until, NOON), Reserved)
    book.settle("0-1", _SPENT, _TOKENS, NOON)
    return book


_VERIFIER = {"step": "verify", "tier": Tier.PREMIUM, "attempt_id": "r-1.1.2"}


@pytest.mark.parametrize(
    ("lines", "differing"),
    [
        pytest.param([_line()], {}, id="all is booked"),
        pytest.param(
            [],
            {"low_users": -_SPENT, "each": -_SPENT, "all_tokens": -_TOKENS},
            id="nothing is booked",
        ),
        pytest.param([_line(outcome="started"), _line()], {}, id="it was announced"),
        pytest.param(
            [_line(is_estimated=True, cost_micros=9_000), _line()], {}, id="an estimate before"
        ),
        pytest.param(
            [_line(), _line(is_estimated=True, cost_micros=9_000)], {}, id="an estimate after"
        ),
        pytest.param(
            [_line(cost_micros=_SPENT - 1)],
            {"low_users": -1, "each": -1},
            id="a millionth is missing",
        ),
        pytest.param(
            [_line(cost_micros=500), _line(cost_micros=200, usage={}, **_VERIFIER)],
            {},
            id="a verifier counts where its answer does",
        ),
        pytest.param(
            [_line(), _line(reservation="0-2", attempt_id="r-2.1.1")], {}, id="one is open"
        ),
        pytest.param(
            [_line(), _line(reservation=None, reserved_at=None, attempt_id="r-3.1.1")],
            {},
            id="one that no cap touched",
        ),
        pytest.param(
            [
                _line(),
                _line(reserved_at=NOON - timedelta(days=1), request_id="r-0", attempt_id="x"),
            ],
            {},
            id="one of another day",
        ),
    ],
)
def test_each_account_is_compared_with_what_the_ledger_paid_from_it(
    book: Book, lines: list[LedgerEntry], differing: dict[str, int]
) -> None:
    accounts = list(book.accounts(NOON))
    opened = book.reservations()
    more = against_counters(accounts, _calls(*lines), _POLICY, opened)

    assert [*opened] == ["0-2"]
    assert {a.cap: more[a.place] for a in accounts if a.place in more} == {**_SAME, **differing}


def test_accounts_of_a_cap_that_is_another_now_are_not_compared(book: Book) -> None:
    other = policy_with(caps={"all_tokens": {**_CAP, "tokens": 100_000, "per": "week"}})
    assert against_counters(book.accounts(NOON), {}, other, ()) == {}


def test_a_reservation_is_open_until_its_deadline_and_grace_are_over(book: Book) -> None:
    until = NOON + timedelta(minutes=5) + GRACE
    assert book.reservations() == {"0-2": until}
    book.expire(until)
    assert book.reservations() == {}


def test_a_bill_differs_by_attempt_in_both_directions() -> None:
    again = _line(started_at=NOON + timedelta(seconds=1))
    calls = _calls(_line(), again, _line(attempt_id="r-2.1.1"), _line(attempt_id="r-3.1.1"))
    billed = {again.attempt.attempt_id: 2 * _SPENT, "r-3.1.1": _SPENT + 1, "r-4.1.1": 5}

    more = {name: micros for name, micros in against_bill(calls, billed).items() if micros}
    assert more == {"r-2.1.1": _SPENT, "r-3.1.1": -1, "r-4.1.1": -5}
