"""The admit stage's decisions over a partition's state, without a broker."""

import ast
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumers.cli.trying import _travel
from consumers.journeys.journey import Journey
from consumers.records import Record
from consumers.runtime.keyed_state import StatePart
from consumers.runtime.shell import Shell
from consumers.stages.admit import Admit
from consumers.stages.admitting import Kept
from consumers.stages.route import Router
from consumers.stages.worst_cases import WorstCases
from router.money.book import GRACE, Book
from router.policy.table import Policy
from router.releases.bundle import Bundle
from router.reply.reply import CallFailure, Reply
from schemas.admission import Confirmation, Settlement, Tick, kind_of, marked_as
from schemas.attempt import LedgerEntry
from schemas.base import Tier
from schemas.codec import (
    Outgoing,
    dump,
    dump_envelope,
    read_dead_letter,
    read_envelope,
    read_model,
)
from schemas.escalation import Assignment, Escalation, RouteTaken
from schemas.reasons import Reason
from schemas.result import Result
from schemas.topics import Topics
from tests.builders import (
    NOON,
    Restless,
    a_record,
    a_route,
    a_worker,
    an_assignment,
    decided,
    handled,
    policies_of,
    policy_with,
    the_prompts,
)
from tests.unit.consumers.stages.test_work import Answers

pytestmark = pytest.mark.anyio

TOPICS = Topics()
_TASK = "classification"
_MINE = (("x-team", b"a"), ("traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"))
_INPUT = "Which product is this about: the P-200 printer is out of ink"


def _capped(
    at_cap: str, calls: float = 1.2, policy: Policy | None = None, **cap: Any
) -> tuple[Policy, int]:
    """A policy with a cap of so many worst calls for a label, and one such call's micro-dollars."""
    bundle = Bundle(policy or policy_with(), the_prompts())
    assignment = an_assignment(task=_TASK, routes=[_low()])
    worst = WorstCases().of(assignment, 150, bundle, Tier.LOW).call_micros
    dollars = Decimal(int(calls * worst)) / 1_000_000
    row = {"per": "day", "dollars": dollars, "at_cap": at_cap, "because": "a test", **cap}
    return policy_with(caps={"small": row}), worst


def _low() -> RouteTaken:
    return a_route(Tier.LOW)


class Desk:
    """Route and one partition of admission, in whose memory records lie."""

    def __init__(self, policy: Policy) -> None:
        self.now = NOON
        self.policies = policies_of(policy)
        self.router = Router(self.policies, TOPICS, lambda: self.now, partitions=lambda: 3)
        self.admit = Admit(self.policies, TOPICS, lambda: self.now)
        self.state = StatePart({})
        self.offset = 0

    def send(self, request_id: str, **fields: Any) -> list[Outgoing]:
        """What follows from a request at admission."""
        body = {"id": request_id, "task": _TASK, "input": _INPUT, **fields}
        record = a_record(orjson.dumps(body), key=request_id.encode(), headers=_MINE)
        [out] = decided(self.router, record)
        assert out.topic == TOPICS.admission
        assert kind_of(out.headers) == "assignment"
        return self.take(out, headers=[*out.headers, _MINE[1]])

    def take(self, out: Outgoing, headers: Sequence[tuple[str, bytes]] = ()) -> list[Outgoing]:
        self.offset += 1
        record = a_record(
            out.value, topic=TOPICS.admission, partition=2, offset=self.offset, key=out.key,
            headers=headers or out.headers,
        )  # fmt: skip
        return self.decide(record)

    def decide(self, record: Record) -> list[Outgoing]:
        shell = Shell(self.admit.dead_letters)
        led_to = shell.decide(lambda record: self.admit.decide(record, self.state), record)
        self.state.keep()
        return list(led_to)

    def settle(self, assigned: Outgoing, micros: int) -> list[Outgoing]:
        assignment, _ = read_envelope(Assignment, assigned.value)
        assert assignment.reservation is not None
        settlement = Settlement(
            reservation=assignment.reservation.id, request_id=assignment.id,
            micros=micros, tokens=10, calls=1, at=self.now,
        )  # fmt: skip
        return self.tell("settlement", settlement.model_dump())

    def tell(self, kind: Any, fields: Mapping[str, Any]) -> list[Outgoing]:
        return self.take(Outgoing(TOPICS.admission, b"k", dump(fields), [marked_as(kind)]))

    def tick(self, until: datetime | None = None) -> list[Outgoing]:
        due = until or Book(self.state).due(self.now)
        assert due is not None
        self.now = max(self.now, due)
        return self.tell("tick", Tick(at=self.now).model_dump())

    def confirm(self, request_id: str, micros: int, tenant: str = "default") -> list[Outgoing]:
        agreed = Confirmation(
            request_id=request_id, tenant=tenant, price_micros=micros, at=self.now
        )
        return self.tell("confirmation", agreed.model_dump())

    @property
    def reserved(self) -> int:
        return sum(account.reserved for account in Book(self.state).accounts(self.now))

    @property
    def spent(self) -> int:
        return sum(account.spent for account in Book(self.state).accounts(self.now))


def _assigned(out: Outgoing) -> Assignment:
    assert out.topic.startswith("llm.tier.")
    return read_envelope(Assignment, out.value)[0]


def test_what_fits_goes_to_its_tier_with_money_set_aside() -> None:
    desk = Desk(_capped("refuse")[0])
    [out] = desk.send("r-1")

    assignment = _assigned(out)
    assert (out.topic, out.partition, out.key) == ("llm.tier.low", 1, b"r-1")
    assert out.headers == [_MINE[0]]
    assert assignment.reservation is not None
    assert (assignment.reservation.id, assignment.reservation.partition) == ("2-1", 2)
    assert assignment.reservation.micros == desk.reserved > 0
    [taken] = assignment.admissions or []
    assert (taken.what, taken.code) == ("reserved", None)


def test_a_route_that_no_cap_touches_goes_as_ever() -> None:
    policy, _ = _capped("refuse", where={"task": ["triage"]})
    router = Router(policies_of(policy), TOPICS, lambda: NOON)
    [out] = decided(router, a_record(orjson.dumps({"id": "r-1", "task": _TASK, "input": _INPUT})))

    assert (out.topic, out.partition, out.headers) == ("llm.tier.low", None, [])
    assert b"reservation" not in (out.value or b"")


def test_who_is_held_goes_on_in_order_as_money_comes_back() -> None:
    desk = Desk(_capped("hold")[0])
    [first] = desk.send("r-1")
    assert [desk.send(f"r-{number}") for number in (2, 3)] == [[], []]

    desk.now += timedelta(seconds=3)
    [second] = desk.settle(first, 1)
    assert _assigned(second).id == "r-2"
    assert (second.partition, second.has_trace) == (1, True)
    assert _MINE[1] in second.headers
    [taken] = _assigned(second).admissions or []
    assert taken.what == "held"
    assert "after 3.0 s: cap small" in taken.words
    assert desk.settle(first, 1) == [], "settled twice"
    [third] = desk.settle(second, 1)
    assert _assigned(third).id == "r-3"
    assert desk.settle(third, 1) == []
    assert (desk.spent, desk.reserved) == (3, 0)


def test_who_comes_while_others_wait_waits_behind_them() -> None:
    policy, worst = _capped("hold", calls=2.5)
    desk = Desk(policy)
    [first] = desk.send("r-1")
    assert desk.send("r-2") == []
    # A request that needs less may not overtake one that has waited for long.
    assert desk.send("r-3", input="x") == []
    assert [_assigned(out).id for out in desk.settle(first, worst)][:1] == ["r-2"]


def test_nobody_is_held_past_the_deadline() -> None:
    desk = Desk(_capped("hold")[0])
    desk.send("r-1")
    deadline = (NOON + timedelta(seconds=20)).isoformat()
    assert desk.send("r-2", deadline=deadline) == []
    assert desk.tick() == []
    [letter] = desk.tick(NOON + timedelta(seconds=20))

    assert desk.now == NOON + timedelta(seconds=20)
    found = read_dead_letter(letter.headers)
    assert (found.reason, found.request_id, letter.partition) == (Reason.BUDGET, "r-2", 1)
    assert found.detail.startswith("cap small: ")
    assert letter.has_trace


def test_a_reservation_that_nobody_settles_counts_in_full() -> None:
    desk = Desk(_capped("hold", hold_for="1h", per="month")[0])
    [first] = desk.send("r-1")
    reserved = desk.reserved
    assert desk.tick(_assigned(first).deadline + GRACE + timedelta(seconds=1)) == []

    assert (desk.spent, desk.reserved) == (reserved, 0)


def test_a_refusal_is_in_our_words_and_names_the_cap() -> None:
    desk = Desk(_capped("refuse", hold_for="1ms")[0])
    [first] = desk.send("r-1")
    desk.settle(first, _assigned(first).reservation.micros or 0)  # type: ignore[union-attr]
    [out] = desk.send("r-2")

    result = read_model(Result, out.value)
    info = result.router
    assert (out.topic, out.partition) == (TOPICS.results, 1)
    assert (info.final, info.kind, info.code) == (True, "refusal", Reason.BUDGET)
    assert (info.budget or "").startswith("cap small: $0.00")
    assert [(hop.kind, hop.what, hop.code) for hop in info.hops][-1] == (
        "admission", "given_up", Reason.BUDGET,
    )  # fmt: skip


def test_a_cap_that_wants_a_person_makes_a_case_with_its_reason() -> None:
    desk = Desk(_capped("review", hold_for="1ms")[0])
    [first] = desk.send("r-1")
    desk.settle(first, desk.reserved)
    [letter] = desk.send("r-2")

    found = read_dead_letter(letter.headers)
    assert (found.reason, [*found.path]) == (Reason.BUDGET, ["low"])
    assert "spent" in found.detail
    assert letter.partition == 1


def test_too_dear_a_tier_is_left_for_a_cheaper_one_that_the_task_names() -> None:
    policy, _ = _capped("cheaper", calls=0.1, where={"tier": ["balanced"]})
    rows = {"support_answer": {"overflow": "low"}}
    policy = policy_with(caps={"small": policy.caps["small"].model_dump()}, tasks=rows)
    desk = Desk(policy)
    [out] = desk.send("r-1", task="support_answer")

    assignment = _assigned(out)
    assert (out.topic, assignment.reservation) == ("llm.tier.low", None)
    assert (assignment.route.tier, assignment.route.rule) == (Tier.LOW, "budget")
    assert assignment.route.moved_by == [Reason.BUDGET]
    assert "low instead of balanced: cap small" in assignment.route.reason
    [letter] = desk.send("r-2", task="general")
    assert read_dead_letter(letter.headers).reason is Reason.BUDGET, "its task names no other"


def test_a_price_is_asked_for_and_confirmed_once() -> None:
    desk = Desk(_capped("ask", calls=0.5)[0])
    [out] = desk.send("r-1")
    asked = read_model(Result, out.value)
    assert (asked.status, asked.router.kind) == ("needs_confirmation", "needs_confirmation")
    assert (asked.router.final, asked.router.code) == (False, Reason.BUDGET)
    assert asked.router.price is not None
    price = asked.router.price.micros
    assert price > 0

    assert desk.confirm("r-1", price - 1) == [], "a forged price"
    assert desk.confirm("r-1", price, tenant="acme") == [], "another tenant's"
    assert desk.confirm("r-2", price) == [], "another request's"
    [on] = desk.confirm("r-1", price)
    assignment = _assigned(on)
    assert (assignment.id, on.partition, on.has_trace) == ("r-1", 1, True)
    assert [taken.what for taken in assignment.admissions or ()] == ["confirmed"]
    assert assignment.reservation is not None
    assert desk.confirm("r-1", price) == [], "a second time"
    assert desk.settle(on, 7) == []
    assert (desk.spent, desk.reserved) == (7, 0)


def test_what_nobody_confirms_is_refused_at_its_deadline() -> None:
    desk = Desk(_capped("ask", calls=0.5)[0])
    desk.send("r-1")
    [out] = desk.tick()

    info = read_model(Result, out.value).router
    assert (info.final, info.kind, info.code) == (True, "refusal", Reason.NOT_CONFIRMED)
    assert desk.confirm("r-1", 1) == []


def test_a_record_that_is_none_of_admissions_is_a_dead_letter() -> None:
    desk = Desk(_capped("hold")[0])
    for kind in ("settlement", "confirmation", "grant", "assignment", "nonsense"):
        [letter] = desk.tell(kind, {"nothing": kind})
        assert letter.topic == TOPICS.dead_letters


def test_what_waits_is_read_back_as_it_came() -> None:
    record = a_record(b'{"a":"\n"}\n{}', headers=[("x", b"\xff\n"), *_MINE], key=b"\xfe")
    kept = Kept.read(Kept.of(record).written("cap small: full"))

    assert (kept.value, kept.key, list(kept.headers)) == (record.value, b"\xfe", record.headers)
    assert kept.why == "cap small: full"
    assert Kept.read(Kept.of(a_record(b"{}", key=None)).written("w")).key is None


def test_explain_says_which_cap_a_request_waits_for_and_what_became_of_it() -> None:
    desk, journey = Desk(_capped("hold")[0]), Journey("r-2")
    [first] = desk.send("r-1")
    body = orjson.dumps({"id": "r-2", "task": _TASK, "input": _INPUT})
    [out] = decided(desk.router, a_record(body))
    assert desk.take(out) == []
    at = {"topic": TOPICS.admission, "headers": out.headers}
    journey.read(a_record(out.value, partition=2, **at), TOPICS)
    state = {"topic": "llm.state.admit", "partition": 2}
    for key, value in desk.state.values.items():
        journey.read(a_record(value, key=key, **state), TOPICS)

    assert "routed to low" in (words := journey.open_state(NOON) or "")
    assert "under a cap: cap small: $0.00 spent and $" in words
    waits = [key for key in desk.state.values if key.startswith(b"h:")]
    [second] = desk.settle(first, 1)
    for key in waits:
        journey.read(a_record(None, key=key, **state), TOPICS)
    later = {"timestamp": int(NOON.timestamp() * 1000) + 5, "topic": second.topic}
    journey.read(a_record(second.value, **later), TOPICS)
    assert "under a cap" not in (journey.open_state(NOON) or "")
    assert [m.what for m in journey.moments() if "cap small" in m.words] == ["admission"]


_ANSWER = '{"label": "printer", "confidence": 0.99}'


async def _worked(
    desk: Desk, assigned: Outgoing, text: str = _ANSWER, calls: Any = None
) -> list[Outgoing]:
    tier = Tier(assigned.topic.rpartition(".")[2])
    worker = a_worker(tier, desk.policies, calls or Answers(text, {}), lambda: desk.now)
    record = a_record(assigned.value, topic=assigned.topic)
    return list(await handled(worker, record, Restless()))


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        pytest.param(_ANSWER, "llm.results", id="an answer"),
        pytest.param("no object", "llm.escalations", id="an escalation"),
    ],
)
async def test_every_end_settles_what_its_calls_have_cost(text: str, topic: str) -> None:
    desk = Desk(_capped("hold", calls=9)[0])
    [assigned] = desk.send("r-1")
    line, end, settlement = await _worked(desk, assigned, text)

    cost = read_model(LedgerEntry, line.value).attempt.cost_micros
    assert (end.topic, settlement.topic, settlement.partition) == (topic, TOPICS.admission, 2)
    settled = read_model(Settlement, settlement.value)
    assert (settled.reservation, settled.micros, settled.calls) == ("2-1", cost, 1)
    desk.take(settlement)
    assert (desk.spent, desk.reserved) == (cost, 0)


async def test_a_dead_letter_settles_too_whoever_writes_it() -> None:
    desk = Desk(_capped("hold", calls=9)[0])
    [assigned] = desk.send("r-1")
    worker = a_worker(Tier.LOW, desk.policies, Answers("", {}), lambda: desk.now)
    record = a_record(assigned.value, topic=assigned.topic)
    for led_to in (
        worker.dead_letters.failed(record, Reason.INTERNAL_ERROR, "broken"),
        worker.dead_letters.poisonous(record, 2),
    ):
        _, settlement = led_to
        settled = read_model(Settlement, settlement.value)
        assert (settled.micros, settled.is_estimated) == (desk.reserved, True)


class _Failing(Answers):
    """A provider whose first call fails after it was sent."""

    def __init__(self) -> None:
        super().__init__(_ANSWER, {})
        self.asked: list[str] = []

    async def call(self, provider: str, body: dict[str, Any], **named: Any) -> Reply | CallFailure:
        self.asked.append(str(body["model"]))
        if len(self.asked) == 1:
            return CallFailure(Reason.PROVIDER_REJECTED, "no")
        return await super().call(provider, body, **named)


async def test_no_call_is_made_beyond_what_is_reserved_and_the_work_goes_on_with_more() -> None:
    """Handed back in the middle, the tier's work goes on where it was, in the same tier."""
    desk = Desk(_capped("hold", calls=9)[0])
    [assigned] = desk.send("r-1")
    assignment, raw = read_envelope(Assignment, assigned.value)
    assert assignment.reservation is not None
    # As if admission had set aside too little for a second call.
    calls = _Failing()
    first = WorstCases().of(assignment, len(raw), desk.policies.active, Tier.LOW).call_micros
    little = assignment.reservation.model_copy(update={"micros": int(first * 0.99)})
    short = assigned._replace(
        value=dump_envelope(assignment.model_copy(update={"reservation": little}), raw)
    )
    *_, back, settlement = await _worked(desk, short, calls=calls)

    escalation, _ = read_envelope(Escalation, back.value)
    assert (back.topic, escalation.reason) == (TOPICS.escalations, Reason.RESERVATION_USED)
    assert escalation.need is not None
    assert (escalation.need.resumes, len(escalation.attempts)) == (len(calls.asked),) * 2
    desk.take(settlement)
    [again] = decided(desk.router, a_record(back.value, topic=TOPICS.escalations))
    [more] = desk.take(again)
    second = _assigned(more)
    assert second.route.tier is Tier.LOW
    assert second.route.code is Reason.RESERVATION_USED
    assert second.reservation is not None
    assert (second.reservation.micros or 0) >= escalation.need.micros
    *lines, result, last = await _worked(desk, more, calls=calls)
    info = read_model(Result, result.value).router
    assert (info.kind, info.attempts) == ("answer", len(calls.asked))
    assert len(set(calls.asked)) == len(calls.asked)
    assert len(lines) == read_model(Settlement, last.value).calls
    assert [hop.kind for hop in info.hops].count("admission") == 2


async def test_an_assignment_under_a_cap_without_a_reservation_is_not_worked_on() -> None:
    """Whoever writes to a tier's topic: no call passes admission by."""
    desk = Desk(_capped("hold", calls=9)[0])
    raw = orjson.dumps({"id": "req-1", "task": _TASK, "input": _INPUT})
    value = dump_envelope(an_assignment(task=_TASK, routes=[_low()]), raw)
    calls = _Failing()
    [back] = await _worked(desk, Outgoing(TOPICS.tier(Tier.LOW), b"k", value), calls=calls)

    assert read_envelope(Escalation, back.value)[0].reason is Reason.RESERVATION_USED
    assert calls.asked == []


async def test_trying_a_request_passes_admission() -> None:
    policy, _ = _capped("refuse", calls=0.5)
    bundle = Bundle(policy, the_prompts())
    body = orjson.dumps({"id": "try-1", "task": _TASK, "input": _INPUT})
    journey = await _travel(body, bundle, {})

    assert journey.published is not None
    assert journey.published.router.code is Reason.BUDGET


def _record(**fields: Any) -> Any:
    return a_record(orjson.dumps(fields))


def test_a_confirmation_on_intake_goes_to_admission() -> None:
    desk = Desk(_capped("ask")[0])
    outs = decided(desk.router, _record(confirm="r-1", price_micros=7, tenant="acme"))

    assert {out.topic for out in outs} == {TOPICS.admission}
    assert {kind_of(out.headers) for out in outs} == {"confirmation"}
    agreed = read_model(Confirmation, outs[0].value)
    assert (agreed.request_id, agreed.tenant, agreed.price_micros) == ("r-1", "acme", 7)
    [letter] = decided(desk.router, _record(confirm="r-1", price_micros="7"))
    assert read_dead_letter(letter.headers).reason is Reason.INVALID_FIELD


#: Who asks a provider, and why that is no way past admission.
_CALL_SITES = {
    "consumers/stages/attempts.py": "asks TierRun.uncovered before each call",
    "consumers/stages/counted_calls.py": "counts the calls of the one above",
    "consumers/cli/provider.py": "`provider test`: one call that an operator asks for",
    "consumers/cli/prompts.py": "`prompts test --send`: calls that an operator asks for",
    "consumers/cli/replay_call.py": "`replay-call --send`: one call that an operator asks for",
}


def test_there_is_no_other_call_site() -> None:
    """A call to a provider names its attempt: whoever makes one is known here."""
    sites = {
        path.as_posix()
        for package in ("consumers", "router")
        for path in Path(package).rglob("*.py")
        if "attempt_id=" in (text := path.read_text("utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "call"
        and "attempt_id" in {keyword.arg for keyword in node.keywords}
    }
    assert sites == _CALL_SITES.keys()
    source = Path("consumers/stages/attempts.py").read_text("utf-8")
    assert source.index("tier_run.uncovered(call, body)") < source.index("self.gate.admit(")
    assert source.count("self.providers.call(") == source.count("self._attempt(") == 1
