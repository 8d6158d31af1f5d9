"""Whatever comes, in whatever order: a book gives out no more than is allowed, nothing leaks."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.runtime.keyed_state import StatePart
from router.money.book import GRACE, Book, Confirmed, Full, Reserved, Wanted
from router.policy.caps import Cap, Facts, NamedCap
from schemas.base import Tier
from schemas.money import Grant

NOON = datetime(2026, 10, 24, 12, tzinfo=UTC)
WORDS = st.sampled_from(["a", "b", "a,b", '"a"', "é", "e\u0301", "", "null"])
AMOUNTS = st.integers(0, 40)


@st.composite
def a_cap(draw: Any) -> Cap:
    per = draw(st.sampled_from(["request", "hour", "day", "month"]))
    unit = draw(st.sampled_from(["dollars", "tokens", "premium_share"]))
    at_caps = ["cheaper", "ask", "review", "refuse", *(["hold"] if per != "request" else [])]
    fields: dict[str, Any] = {"tokens": draw(st.integers(1, 100))}
    if unit == "dollars":
        fields = {"dollars": f"{draw(st.integers(0, 100)) / 1_000_000:.6f}"}
    if unit == "premium_share" and per != "request":
        fields = {"premium_share": draw(st.floats(0, 1)), "least": draw(st.integers(1, 5))}
    scopes = st.lists(st.sampled_from(["tenant", "user", "task", "conversation"]), unique=True)
    more = {"scope": draw(scopes), "per": per, "at_cap": draw(st.sampled_from(at_caps))}
    return Cap.model_validate({**fields, **more, "zone": "Europe/Berlin", "because": "tests"})


FACTS = st.builds(
    Facts,
    tenant=st.sampled_from(["a", "b"]),
    plan=st.just("free"),
    tier=st.sampled_from(Tier),
    request=WORDS,
    user=st.none() | WORDS,
    task=WORDS,
    workflow=st.none(),
    conversation=WORDS,
    was_at=st.sampled_from([frozenset(), frozenset({Tier.LOW}), frozenset({Tier.PREMIUM})]),
)
WANTED = st.tuples(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS).map(
    lambda four: Wanted(four[0], four[0] + four[1], four[2], four[2] + four[3])
)
STEPS = st.one_of(
    st.tuples(
        st.just("reserve"), FACTS, WANTED, st.none() | st.builds(Confirmed, AMOUNTS, AMOUNTS)
    ),
    st.tuples(st.just("settle"), st.integers(0, 40), st.floats(0, 1)),
    st.tuples(st.just("grant"), st.integers(0, 2), FACTS, AMOUNTS, st.integers(1, 3_000)),
    st.tuples(st.just("pass"), st.integers(1, 40_000)),
    st.tuples(st.just("go_on"), st.booleans()),
)


class World:
    """A book, and beside it what each account should say, kept in the plainest way."""

    def __init__(self, caps: list[Cap]) -> None:
        self.caps = [NamedCap(f"cap{number}", cap) for number, cap in enumerate(caps)]
        self.state = StatePart({})
        self.now = NOON
        self.open: dict[str, Reserved] = {}
        self.waiting: dict[bytes, tuple[Facts, Wanted]] = {}
        self.count = 0

    @property
    def book(self) -> Book:
        return Book(self.state)

    def reserve(self, facts: Facts, wanted: Wanted, confirmed: Confirmed | None, **how: Any) -> Any:
        self.count += 1
        name = f"r{self.count}"
        caps = [named for named in self.caps if named.cap.touches(facts)]
        before = dict(self.state.values)
        times = self.now + timedelta(minutes=15), self.now
        outcome = self.book.reserve(caps, facts, wanted, name, *times, confirmed=confirmed, **how)
        if isinstance(outcome, Full):
            assert dict(self.state.values) == before  # nothing was touched
            return outcome
        most = wanted.step_micros, wanted.step_tokens
        for got, least, step in zip(
            (outcome.micros, outcome.tokens), (wanted.call_micros, wanted.call_tokens), most,
            strict=True,
        ):  # fmt: skip
            assert got is None or least <= got <= step
        self.open[name] = outcome
        return outcome

    def settle(self, name: str, share: float) -> None:
        took = self.open.pop(name)
        used = int((took.micros or 0) * share), int((took.tokens or 0) * share)
        self.book.settle(name, *used, self.now)
        settled = dict(self.state.values)
        assert self.book.settle(name, *used, self.now) == []
        assert dict(self.state.values) == settled

    def go_on(self, *, at_once: bool) -> None:
        for held in self.book.held(self.now):
            facts, wanted = self.waiting[held.envelope]
            outcome = self.reserve(facts, wanted, None, held=held)
            if isinstance(outcome, Full) and outcome.hold_until and not at_once:
                self.book.hold_on(held, outcome)
            else:
                self.book.release(held)
                del self.waiting[held.envelope]

    def step(self, what: str, *how: Any) -> None:
        if what == "reserve":
            outcome = self.reserve(*how)
            if isinstance(outcome, Full) and outcome.hold_until:
                envelope = f"{self.count}\n{how[0].user}".encode()
                self.waiting[envelope] = how[:2]
                self.book.hold(outcome, envelope, self.now)
        elif what == "settle" and self.open:
            names = list(self.open)
            self.settle(names[how[0] % len(names)], how[1])
        elif what == "grant":
            number, facts, amount, minutes = how
            named = self.caps[number % len(self.caps)]
            key = {scope: getattr(facts, scope) for scope in named.cap.kept_by}
            fields = {"id": f"g{self.count}", "cap": named.name, "key": key, "at": self.now}
            fields |= {"micros": amount, "tokens": amount, "reason": "tests", "who": "ann"}
            until = self.now + timedelta(minutes=minutes)
            self.book.grant(Grant.model_validate({**fields, "until": until}), self.now)
        elif what == "pass":
            self.now += timedelta(seconds=how[0])
            for name in self.book.expire(self.now).reservations:
                del self.open[name]
        elif what == "go_on":
            self.go_on(at_once=how[0])

    def check(self) -> None:
        accounts = list(self.book.accounts(self.now))
        assert len({account.place for account in accounts}) == len(accounts)
        for account in accounts:
            assert account.overshoot == 0
            assert min(account.spent, account.reserved, account.confirmed, account.open) >= 0
            assert account.open or account.reserved == 0
        assert sum(1 for key in self.state.values if key.startswith(b"r:")) == len(self.open)
        kept = [key for key in self.state.values if key.startswith((b"h:", b"k:"))]
        assert len(kept) == 2 * len(self.waiting)


@settings(max_examples=150, deadline=None)
@given(st.lists(a_cap(), min_size=1, max_size=3), st.lists(STEPS, max_size=40))
def test_no_more_is_given_out_than_is_allowed_and_nothing_leaks(caps, steps):
    world = World(caps)
    for step in steps:
        world.state.keep()
        before = dict(world.state.values)
        world.step(*step)
        world.check()
        changed = dict(world.state.values)
        # All of a step is undone with the state's changes: the book remembers nothing beside it.
        world.state.undo()
        assert dict(world.state.values) == before
        for key in before.keys() - changed.keys():
            world.state.delete(key)
        for key, value in changed.items():
            world.state.put(key, value)

    for name in list(world.open):
        world.settle(name, 0.5)
    world.now += timedelta(minutes=20) + GRACE
    assert list(world.book.expire(world.now).reservations) == []
    world.go_on(at_once=True)
    for name in list(world.open):
        world.settle(name, 0.5)
    world.check()
    assert all(account.reserved == 0 for account in world.book.accounts(world.now))
    # An account that nobody reserves in any more ends with its window.
    world.now += timedelta(days=40)
    assert list(world.book.accounts(world.now)) == []


@given(st.lists(st.tuples(WORDS | st.text(max_size=5), st.none() | WORDS | st.text(max_size=5))))
def test_each_key_has_an_account_of_its_own(keys):
    book, cap = Book(StatePart({})), NamedCap("c", Cap.model_validate(USERS))
    for number, (tenant, user) in enumerate(keys):
        facts = Facts(tenant, "free", Tier.LOW, "r", user)
        book.reserve([cap], facts, Wanted(1, 1, 1, 1), f"r{number}", NOON, NOON)

    found = {tuple(account.key.values()): account.open for account in book.accounts(NOON)}
    assert found == {key: keys.count(key) for key in keys}


USERS = {"scope": ["user"], "per": "day", "dollars": 1, "at_cap": "refuse", "because": "tests"}


def test_an_expired_reservation_is_gone_from_the_open_ones():
    world = World([Cap.model_validate({**USERS, "dollars": 0.00001})])
    world.step("reserve", Facts("a", "free", Tier.LOW, "r"), Wanted(5, 9, 1, 1), None)
    world.step("pass", int((timedelta(minutes=15) + GRACE).total_seconds()))

    world.check()
    assert world.open == {}
    assert [account.spent for account in world.book.accounts(world.now)] == [9]
