"""The book gives out no more than its caps allow, and all of that."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumers.runtime.keyed_state import StatePart
from router.money.book import GRACE, Book, Confirmed, Full, Reserved, Wanted
from router.policy.caps import Cap, Facts, NamedCap
from schemas.base import Tier
from schemas.money import Grant

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)
DEADLINE = NOON + timedelta(minutes=15)


def a_cap(name: str = "daily", **fields: Any) -> NamedCap:
    bound = {} if {"tokens", "premium_share"} & fields.keys() else {"dollars": "0.10"}
    row = {"per": "day", "at_cap": "refuse", "because": "tests", **bound, **fields}
    return NamedCap(name, Cap.model_validate(row))


def facts(request: str = "r1", **fields: Any) -> Facts:
    others = {"tenant": "acme", "plan": "free", "tier": Tier.LOW, "task": "general"}
    return Facts(**{**others, "request": request, "conversation": request, **fields})


def wanted(call: int = 10_000, step: int | None = None, tokens: int = 100) -> Wanted:
    return Wanted(call, step or call, tokens, tokens * (step or call) // call)


@pytest.fixture
def book() -> Book:
    return Book(StatePart({}))


def reserve(book: Book, number: int, *caps: NamedCap, now: datetime = NOON, **how: Any):
    its_facts = how.pop("facts", None) or facts(f"r{number}")
    asked = how.pop("wanted", wanted())
    deadline = how.pop("deadline", now + timedelta(minutes=15))
    return book.reserve(caps, its_facts, asked, f"res{number}", deadline, now, **how)


def only_account(book: Book, now: datetime = NOON):
    (account,) = book.accounts(now)
    return account


def test_a_step_is_reserved_whole_where_it_fits_and_else_what_is_left(book):
    cap = a_cap()
    took = [reserve(book, n, cap, wanted=wanted(10_000, 60_000)) for n in range(3)]

    assert [r.micros for r in took[:2]] == [60_000, 40_000]
    assert isinstance(took[2], Full)
    assert only_account(book).reserved == 100_000


def test_the_cap_can_be_spent_to_the_last_call(book):
    cap = a_cap()
    for number in range(10):
        assert isinstance(reserve(book, number, cap), Reserved)
        book.settle(f"res{number}", 10_000, 100, NOON)

    full = reserve(book, 10, cap)

    assert full.sentence == (
        "cap daily: $0.10 spent and $0.00 reserved of $0.10 for all requests"
        " until 2026-11-21 00:00 UTC; a call may take $0.01"
    )
    assert (full.hold_until, full.may_free) == (None, False)


def test_a_reservation_is_made_in_every_account_or_in_none(book):
    wide, narrow = a_cap("wide", dollars=5), a_cap("narrow", scope=["user"], dollars="0.01")
    mine = facts(user="u1")

    assert isinstance(reserve(book, 1, wide, narrow, facts=mine), Reserved)
    full = reserve(book, 2, wide, narrow, facts=mine)

    assert full.cap == "narrow"
    assert "for tenant acme, user u1 until" in full.sentence
    assert [account.reserved for account in book.accounts(NOON)] == [10_000, 10_000]


def test_a_settlement_gives_back_what_was_not_spent_and_counts_once(book):
    reserve(book, 1, a_cap(), wanted=wanted(10_000, 60_000))
    for _ in range(2):
        book.settle("res1", 7_000, 90, NOON)
        book.settle("unknown", 7_000, 90, NOON)

    account = only_account(book)
    assert (account.spent, account.reserved, account.open) == (7_000, 0, 0)


def test_a_reservation_counts_in_the_window_in_which_it_was_made(book):
    late = MIDNIGHT - timedelta(seconds=1)
    reserve(book, 1, a_cap(), now=late)

    reserve(book, 2, a_cap(), now=MIDNIGHT)
    book.settle("res1", 10_000, 100, MIDNIGHT)

    account = only_account(book, MIDNIGHT)
    assert (account.start, account.spent, account.reserved) == (MIDNIGHT, 0, 10_000)


def test_the_account_of_a_past_window_goes_with_its_last_reservation(book):
    late = MIDNIGHT - timedelta(seconds=1)
    reserve(book, 1, a_cap(), now=late)
    reserve(book, 2, a_cap(), now=late)
    assert only_account(book, MIDNIGHT).open == 2

    book.settle("res1", 1, 1, MIDNIGHT)
    book.settle("res2", 1, 1, MIDNIGHT)

    assert list(book.accounts(MIDNIGHT)) == []
    assert not [key for key in book.state.values if key.startswith((b"a:", b"r:"))]


def test_a_reservation_that_nobody_settles_counts_as_spent_in_full(book):
    reserve(book, 1, a_cap(), wanted=wanted(10_000, 60_000), deadline=DEADLINE)
    over = DEADLINE + GRACE

    assert book.due(NOON) == over
    assert book.expire(over - timedelta(seconds=1)).reservations == []
    assert book.expire(over).reservations == ["res1"]
    assert book.expire(over).reservations == []
    assert (only_account(book, over).spent, only_account(book, over).reserved) == (60_000, 0)
    book.settle("res1", 1_000, 10, over)
    assert only_account(book, over).spent == 60_000
    assert book.due(over) is None


@pytest.mark.parametrize(
    ("scope", "one", "other"),
    [
        ("user", {"tenant": "a", "user": "b"}, {"tenant": "a,b", "user": ""}),
        ("user", {"tenant": "a", "user": "u"}, {"tenant": "b", "user": "u"}),
        ("user", {"user": None}, {"user": "null"}),
        ("user", {"user": None}, {"user": ""}),
        ("user", {"user": 'x","user","y'}, {"user": "x"}),
        ("user", {"user": "é"}, {"user": "e\u0301"}),
        ("user", {"user": "a\x00b"}, {"user": "a\\u0000b"}),
        (
            "conversation",
            {"tenant": "a", "conversation": "c"},
            {"tenant": "b", "conversation": "c"},
        ),
        ("task", {"task": "low"}, {"task": "general"}),
    ],
)
def test_keys_do_not_collide(book, scope, one, other):
    cap = a_cap(scope=[scope], dollars="0.01")

    assert isinstance(reserve(book, 1, cap, facts=facts(**one)), Reserved)
    assert isinstance(reserve(book, 2, cap, facts=facts(**other)), Reserved)
    assert isinstance(reserve(book, 3, cap, facts=facts(**one)), Full)


def test_caps_of_other_scopes_windows_and_units_do_not_share_an_account(book):
    same = facts(user="x", workflow="x")
    caps = (
        a_cap(scope=["workflow"]),
        a_cap(scope=["task"]),
        a_cap(scope=["task"], per="month"),
        a_cap(scope=["task"], zone="Europe/Berlin"),
        a_cap(scope=["task"], tokens=1_000),
    )
    for number, cap in enumerate(caps):
        assert isinstance(reserve(book, number, cap, facts=same), Reserved)

    assert [account.open for account in book.accounts(NOON)] == [1] * len(caps)


def test_tokens_are_capped_as_dollars_are(book):
    cap = a_cap(tokens=250)

    took = [reserve(book, number, cap) for number in range(3)]

    assert [(r.micros, r.tokens) for r in took[:2]] == [(None, 100), (None, 100)]
    assert took[2].sentence.startswith("cap daily: 0 tokens spent and 200 tokens reserved of 250")
    book.settle("res0", 999_999, 40, NOON)
    assert isinstance(reserve(book, 2, cap), Reserved)


def test_a_cap_per_request_is_for_all_calls_of_one_request(book):
    cap = a_cap(per="request", dollars="0.02")

    assert reserve(book, 1, cap, facts=facts("r")).micros == 10_000
    assert reserve(book, 2, cap, facts=facts("other")).micros == 10_000
    book.settle("res1", 9_999, 1, NOON)
    assert reserve(book, 3, cap, facts=facts("r")).micros == 10_000
    full = reserve(book, 4, cap, facts=facts("r"))
    assert (full.hold_until, full.may_free) == (None, False)
    assert "until" not in full.sentence
    book.expire(DEADLINE + GRACE)
    assert list(book.accounts(DEADLINE + GRACE)) == []


def test_a_premium_share_counts_requests_from_the_least_number_on(book):
    cap = a_cap(premium_share=0.25, least=4, scope=["workflow"], at_cap="cheaper")

    def ask(number: int, tier: Tier, **more: Any) -> Any:
        mine = facts(f"r{number}", tier=tier, workflow="w", **more)
        return reserve(book, number, cap, facts=mine)

    assert isinstance(ask(1, Tier.PREMIUM), Reserved)
    assert isinstance(ask(2, Tier.PREMIUM), Reserved)
    assert isinstance(ask(3, Tier.LOW), Reserved)
    full = ask(4, Tier.PREMIUM)  # the fourth: three of four would be too many
    assert (full.cap, full.at_cap) == ("daily", "cheaper")
    for number in range(4, 12):
        assert isinstance(ask(number, Tier.LOW), Reserved)
    # Of twelve requests three may: one that climbs counts once.
    assert isinstance(ask(12, Tier.PREMIUM, was_at=frozenset({Tier.LOW})), Full)
    assert isinstance(ask(13, Tier.PREMIUM), Reserved)
    assert (only_account(book).total, only_account(book).reserved) == (12, 3)
    book.settle("res13", 0, 0, NOON)  # it never asked premium
    assert (only_account(book).total, only_account(book).spent) == (12, 0)


def test_of_several_caps_without_room_the_strictest_decides(book):
    caps = [a_cap(at_cap, at_cap=at_cap, dollars="0.001") for at_cap in ("cheaper", "hold")]

    assert reserve(book, 1, *caps, a_cap("no", dollars="0.001")).cap == "no"
    assert reserve(book, 1, *caps).cap == "hold"


def test_a_refusal_waits_for_what_open_reservations_may_give_back(book):
    cap = a_cap(dollars="0.02")
    reserve(book, 1, cap)
    reserve(book, 2, cap)

    full = reserve(book, 3, cap, deadline=DEADLINE)

    assert (full.may_free, full.hold_until) == (True, DEADLINE)
    book.settle("res1", 10_000, 100, NOON)
    book.settle("res2", 10_000, 100, NOON)
    assert reserve(book, 3, cap, deadline=DEADLINE).hold_until is None


def test_a_hold_lasts_no_longer_than_its_cap_says(book):
    cap = a_cap(at_cap="hold", hold_for="5m", dollars="0.01")
    reserve(book, 1, cap)
    full = reserve(book, 2, cap)
    assert full.hold_until == NOON + timedelta(minutes=5)

    book.hold(full, b"two", NOON)
    (held,) = book.held(full.hold_until)

    assert held.envelope == b"two"
    again = reserve(book, 2, cap, now=full.hold_until, deadline=DEADLINE, held=held)
    assert again.hold_until is None


def grant(amount: int = 10_000, **fields: Any) -> Grant:
    ends = {"until": NOON + timedelta(hours=1), "at": NOON}
    others = {"id": "g1", "cap": "daily", "reason": "a launch", "who": "ann", "micros": amount}
    return Grant.model_validate({**others, **ends, **fields})


def test_a_grant_raises_one_key_until_it_ends_and_takes_nothing_back(book):
    cap = a_cap(scope=["user"], dollars="0.01")
    hers = facts(user="ann")
    for _ in range(2):  # the same one counts once
        book.grant(grant(key={"user": "ann", "tenant": "acme"}), NOON)

    assert isinstance(reserve(book, 1, cap, facts=facts(user="bob")), Reserved)
    assert isinstance(reserve(book, 2, cap, facts=facts(user="bob")), Full)
    assert reserve(book, 3, cap, facts=hers, wanted=wanted(10_000, 90_000)).micros == 20_000
    ended = NOON + timedelta(hours=1)
    account = next(one for one in book.accounts(ended) if one.key["user"] == "ann")
    assert (account.in_force, account.granted, account.overshoot) == (0, 10_000, 0)
    assert account.free == -10_000
    assert reserve(book, 4, cap, facts=hers, now=ended).may_free is True
    book.settle("res3", 20_000, 1, ended)
    assert reserve(book, 4, cap, facts=hers, now=ended).may_free is False


def test_a_grant_that_touches_a_window_counts_in_it_and_not_in_others(book):
    long = grant(until=MIDNIGHT + timedelta(hours=1))
    book.grant(long, NOON)
    cap = a_cap(dollars="0.01")

    for number, day in enumerate((NOON, MIDNIGHT, MIDNIGHT + timedelta(days=1))):
        took = reserve(book, number, cap, now=day, wanted=wanted(10_000, 90_000))
        assert took.micros == (20_000, 20_000, 10_000)[number]
        account = next(one for one in book.accounts(day) if one.end > day)
        assert account.granted == (10_000, 10_000, 0)[number]
    book.expire(MIDNIGHT + timedelta(days=40))
    assert not [key for key in book.state.values if key.startswith(b"g:")]


def test_a_confirmed_request_goes_over_the_cap_by_its_price_once(book):
    cap = a_cap(at_cap="ask", dollars="0.01")
    reserve(book, 1, cap)
    book.settle("res1", 10_000, 100, NOON)
    full = reserve(book, 2, cap, wanted=wanted(10_000, 30_000))
    assert (full.at_cap, full.hold_until) == ("ask", None)
    book.ask("r2", "acme", b"two", Confirmed(30_000, 300), DEADLINE)

    assert book.confirm("r2", "other", 30_000, NOON) is None
    assert book.confirm("r2", "acme", 29_999, NOON) is None
    assert book.confirm("r9", "acme", 30_000, NOON) is None
    assert book.confirm("r2", "acme", 30_000, DEADLINE) is None
    confirmed = book.confirm("r2", "acme", 30_000, NOON)
    assert confirmed == (b"two", Confirmed(30_000, 300))
    assert book.confirm("r2", "acme", 30_000, NOON) is None

    took = reserve(book, 2, cap, wanted=wanted(10_000, 30_000), confirmed=confirmed[1])
    assert took.micros == 30_000
    account = only_account(book)
    assert (account.confirmed, account.overshoot) == (30_000, 0)
    assert isinstance(reserve(book, 3, cap), Full)
    book.settle("res2", 12_000, 100, NOON)
    account = only_account(book)
    assert (account.confirmed, account.spent, account.free) == (12_000, 22_000, 0)


def test_what_was_confirmed_is_no_more_than_its_price_or_what_is_free(book):
    cap = a_cap(at_cap="ask", dollars="0.02")

    took = reserve(book, 1, cap, wanted=wanted(10_000, 30_000), confirmed=Confirmed(15_000, 1))

    assert (took.micros, only_account(book).confirmed) == (20_000, 0)


def test_a_cap_that_was_lowered_gives_out_nothing_more_and_was_not_passed(book):
    reserve(book, 1, a_cap(dollars="0.05"), wanted=wanted(40_000))
    lower = a_cap(dollars="0.02", at_cap="ask")

    assert reserve(book, 2, lower).may_free is True
    reserve(book, 2, lower, confirmed=Confirmed(10_000, 100))
    account = only_account(book)
    assert (account.limit, account.reserved, account.overshoot) == (20_000, 50_000, 0)


def test_a_confirmation_lifts_no_cap_that_does_not_ask(book):
    caps = a_cap("asks", at_cap="ask", dollars="0.001"), a_cap("ends", dollars="0.001")

    full = reserve(book, 1, *caps, confirmed=Confirmed(90_000, 900))

    assert full.cap == "ends"
    assert list(book.accounts(NOON)) == []


def test_what_nobody_confirms_ends_with_its_deadline(book):
    book.ask("r1", "acme", b"one", Confirmed(1, 1), DEADLINE)

    assert book.due(NOON) == DEADLINE
    assert book.expire(NOON).asked == []
    assert book.expire(DEADLINE).asked == [b"one"]
    assert book.expire(DEADLINE).asked == []
    assert book.due(DEADLINE) is None


def hold(book: Book, number: int, cap: NamedCap, **how: Any) -> None:
    full = reserve(book, number, cap, **how)
    assert isinstance(full, Full)
    assert full.hold_until is not None
    book.hold(full, b"%d" % number, how.get("now", NOON))


def go_on(book: Book, cap: NamedCap, lines=None, now: datetime = NOON, **how: Any) -> list[int]:
    """Try the held ones again as admission does; the numbers of those that went on."""
    went = []
    for held in book.held(now, lines):
        number = int(held.envelope)
        deadline = NOON + timedelta(hours=24)
        outcome = reserve(book, number, cap, now=now, held=held, deadline=deadline, **how)
        if isinstance(outcome, Full) and outcome.hold_until is not None:
            book.hold_on(held, outcome)
            continue
        book.release(held)
        went.append(number if isinstance(outcome, Reserved) else -number)
    return went


def test_what_is_given_back_lets_the_first_go_on_in_order(book):
    cap = a_cap(at_cap="hold", dollars="0.02")
    reserve(book, 1, cap, wanted=wanted(20_000))
    for number in (2, 3, 4):
        hold(book, number, cap)

    lines = book.settle("res1", 1_000, 10, NOON)

    assert book.due(NOON) == NOON
    assert go_on(book, cap, lines) == [2]
    assert go_on(book, cap, book.settle("res2", 1_000, 10, NOON)) == [3]
    assert go_on(book, cap, book.settle("res3", 1_000, 10, NOON)) == [4]
    assert list(book.held(NOON)) == []


def test_nobody_passes_those_who_wait_for_the_same_money(book):
    cap = a_cap(at_cap="hold", dollars="0.04")
    reserve(book, 1, cap, wanted=wanted(20_000))
    hold(book, 2, cap, wanted=wanted(30_000))

    full = reserve(book, 3, cap)  # 20,000 are free, but the second waits for them too

    assert full.sentence.endswith("; earlier requests wait for it")
    assert full.may_free is True


def test_who_stays_in_a_line_keeps_the_others_behind(book):
    cap = a_cap(at_cap="hold", dollars="0.02")
    reserve(book, 1, cap, wanted=wanted(20_000))
    hold(book, 2, cap)
    hold(book, 3, cap)

    lines = book.settle("res1", 0, 0, NOON)

    assert [held.envelope for held in book.held(NOON, lines)] == [b"2"]
    assert [held.envelope for held in book.held(NOON)] == [b"2"]


def test_who_moves_to_another_line_keeps_its_place(book):
    one, other = a_cap("one", at_cap="hold", dollars="0.01"), a_cap("two", at_cap="hold")
    reserve(book, 1, one)
    reserve(book, 9, other, wanted=wanted(100_000))
    hold(book, 2, one)
    hold(book, 3, other)
    hold(book, 4, one)
    full = reserve(book, 5, other)

    book.settle("res1", 0, 0, NOON)
    book.hold_on(next(book.held(NOON)), full)
    assert go_on(book, one) == [4]
    lines = book.settle("res9", 0, 0, NOON)

    assert go_on(book, other, lines) == [2, 3]
    assert not [key for key in book.state.values if key.startswith((b"l:", b"k:", b"h:"))]


def test_those_who_wait_for_the_next_window_let_others_use_up_this_one(book):
    cap = a_cap(at_cap="hold", dollars="0.03", hold_for="20h")
    day_long = NOON + timedelta(hours=20)
    reserve(book, 1, cap)
    book.settle("res1", 10_000, 100, NOON)
    hold(book, 2, cap, wanted=wanted(30_000), deadline=day_long)

    assert isinstance(reserve(book, 3, cap), Reserved)
    assert isinstance(reserve(book, 4, cap), Reserved)
    assert list(book.held(NOON)) == []
    assert go_on(book, cap, now=MIDNIGHT, wanted=wanted(30_000)) == [2]


def test_who_waits_only_for_open_reservations_ends_with_them(book):
    cap = a_cap(at_cap="review", dollars="0.01")
    reserve(book, 1, cap)
    hold(book, 2, cap)
    assert list(book.held(NOON)) == []

    lines = book.settle("res1", 10_000, 100, NOON)

    assert go_on(book, cap, lines) == [-2]


def test_a_grant_lets_those_go_on_who_wait(book):
    cap = a_cap(at_cap="hold", dollars="0.01", hold_for="20h")
    reserve(book, 1, cap)
    book.settle("res1", 10_000, 100, NOON)
    hold(book, 2, cap, deadline=NOON + timedelta(hours=24))

    assert go_on(book, cap, book.grant(grant(), NOON)) == [2]


def test_a_held_request_keeps_what_was_confirmed(book):
    cap = a_cap(at_cap="hold", dollars="0.01")
    reserve(book, 1, cap)
    book.hold(reserve(book, 2, cap), b"2", NOON, Confirmed(5, 6))

    book.settle("res1", 0, 0, NOON)

    assert [held.confirmed for held in book.held(NOON)] == [Confirmed(5, 6)]


def test_only_so_many_and_so_much_may_wait(book):
    cap = a_cap(at_cap="hold", dollars="0.01")
    reserve(book, 1, cap)
    hold(book, 2, cap)
    book.ask("r9", "acme", b"nine", Confirmed(1, 1), DEADLINE)

    assert book.can_keep(b"xx", most=3, most_bytes=7)
    assert not book.can_keep(b"xx", most=2, most_bytes=7)
    assert not book.can_keep(b"xxx", most=3, most_bytes=7)
    book.expire(DEADLINE)
    book.release(next(iter(book.held(DEADLINE))))
    assert book.can_keep(b"x", most=1, most_bytes=1)


def test_all_that_the_book_remembers_is_undone_with_its_state():
    state = StatePart({})
    cap = a_cap(at_cap="hold", dollars="0.01", hold_for="20h")
    reserve(Book(state), 1, cap)
    hold(Book(state), 2, cap)
    state.keep()
    before = dict(state.values)

    book = Book(state)
    book.settle("res1", 1, 1, NOON)
    go_on(book, cap)
    book.grant(grant(), NOON)
    book.ask("r9", "acme", b"9", Confirmed(1, 1), DEADLINE)
    book.expire(NOON + timedelta(days=2))
    state.undo()

    assert dict(state.values) == before


@pytest.mark.parametrize("at_cap", ["refuse", "hold"])
def test_a_burst_of_ten_times_the_cap_uses_it_up_before_anybody_is_refused(book, at_cap):
    cap, costs = a_cap(at_cap=at_cap, dollars="1", hold_for="10m"), 7_000
    ended: list[Full] = []

    def admit(number: int, held: Any = None) -> None:
        how = {"wanted": wanted(10_000, 60_000), "deadline": DEADLINE, "held": held}
        outcome = reserve(book, number, cap, **how)
        account = only_account(book)
        assert account.spent + account.reserved <= 1_000_000
        if isinstance(outcome, Reserved):
            running.append(number)
        elif outcome.hold_until is None:
            assert account.room < 10_000  # nothing that is open could make room for a call
            ended.append(outcome)
        elif held is None:
            book.hold(outcome, b"%d" % number, NOON)
            return
        if held is not None:
            book.release(held)

    running: list[int] = []
    for number in range(1_430):
        admit(number)
    while running:
        lines = book.settle(f"res{running.pop(len(running) // 2)}", costs, 100, NOON)
        for held in book.held(NOON, lines):
            admit(int(held.envelope), held)
    for held in book.held(NOON + timedelta(minutes=10)):
        book.release(held)

    account = only_account(book)
    assert (account.spent, account.reserved) == (994_000, 0)  # a call may take 10,000
    assert len(ended) == (1_288 if at_cap != "hold" else 0)
    assert not [key for key in book.state.values if key.startswith((b"h:", b"k:", b"l:", b"r:"))]
