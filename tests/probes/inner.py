"""Forged records on the topics between the stages, on each of which somebody may write.

Each field of each contract in turn holds what no stage of ours writes. A probe gets through when it
raises where a stage, the console's fold or a command reads it, when it ends as a fault of ours, or
when what follows from it cannot be read or written.
"""

import copy
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import product
from typing import Any

import orjson

from consumers.console.queue import Queue
from consumers.console.store import CaseFilter, open_store
from consumers.journeys.journey import Journey
from consumers.journeys.moments import rows_of
from consumers.journeys.waterfall import waterfall
from consumers.policies import Policies
from consumers.readmodel.queries import failures, figures_by, figures_over_time
from consumers.records import why_not_taken
from consumers.rules import load_rules
from consumers.runtime.clients import Clients
from consumers.runtime.processes import Processes
from consumers.runtime.shell import NotYetError, fits
from consumers.runtime.status import pass_on
from consumers.settings import KafkaSettings, Settings
from consumers.stages.review import Reviewing
from consumers.stages.route import Router
from router.attempt.answering import ledger_lines
from router.prompts.chat_fields import OPENAI, ChatFields
from router.reply.reply import CallFailure, Reply
from router.review.standing import Decisions
from schemas.attempt import LedgerEntry
from schemas.base import Tier
from schemas.codec import Outgoing, read_dead_letter, read_envelope, read_model
from schemas.errors import ContractError
from schemas.escalation import Assignment, Classification, Escalation
from schemas.feedback import Feedback
from schemas.reasons import Reason
from schemas.result import Result
from schemas.review import AuditLine
from schemas.status import ModelStatus, StageStatus, Status
from schemas.topics import Topics
from schemas.usage import Usage
from tests.builders import (
    NOON,
    Restless,
    a_record,
    a_request,
    a_route,
    a_worker,
    an_assignment,
    an_attempt,
    an_escalation,
    decided,
    handled,
)
from tests.probes.report import ProbeClass, Report
from tests.tables import tables, take_in
from tests.unit.consumers.console.world import a_decision, a_letter_record, a_line_record, place

__all__ = ["CLASS", "Forged", "forged_records"]

TOPICS = Topics()
RULES = load_rules(Settings())
REQUEST = b'{"id":"req-1","task":"extraction","plan":"enterprise","input":"Order 7 by Jane"}'
_HOLE = "@@hole@@"

#: As they stand in JSON text, since no writer of ours would write them.
_NUMBERS = (
    "-1", "0", "1000000000", "9223372036854775807", "9223372036854775808", "-9223372036854775809",
    "18446744073709551615", "18446744073709551616", "9" * 400, "9" * 5000, "1e308", "1e999",
    "-1e999", "NaN", "Infinity", "-0.0", "0.5", "true", '"7"',
)  # fmt: skip
_TIMES = (
    '"0001-01-01T00:00:00Z"', '"0001-01-01T00:00:00+14:00"', '"9999-12-31T23:59:59Z"',
    '"9999-12-31T23:59:59-14:00"', '"1969-12-31T23:59:59Z"', '"2999-12-31T23:59:59Z"',
    '"2026-02-30T00:00:00Z"', '"2026-01-01T00:00:00"', '"+275760-09-13T00:00:00Z"', '"now"', '""',
    "1767225600", "1e18",
)  # fmt: skip
_TEXTS = (
    '""', '"\\u0000"', '"\\ud800"', '"\\udfff\\ud800"', '"\\u202e\\u001b[31m[/foo]"', "7",
    f'"{"9" * 5000}"',
)  # fmt: skip
_SHAPES = (
    "null",
    "[]",
    "{}",
    "[[]]",
    "[" * 150 + "]" * 150,
    "[" * 9000,
    '{"a":' * 150 + "1" + "}" * 150,
)
_HUGE_LIST = f"[{','.join('0' for _ in range(100_000))}]"


@dataclass(frozen=True, slots=True)
class Forged:
    """One record: what is wrong with it, and where it would lie."""

    name: str
    topic: str
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = int(NOON.timestamp() * 1000)

    def record(self, offset: int = 7) -> Any:
        """As the client library hands it out."""
        fields = {"topic": self.topic, "offset": offset, "headers": self.headers}
        return a_record(self.value, **fields, timestamp=self.timestamp)


def _fields(model: Any) -> dict[str, Any]:
    return dict(orjson.loads(orjson.dumps(model.model_dump(mode="json", exclude_none=True))))


def _routed(**fields: Any) -> dict[str, Any]:
    return {
        "task": "extraction",
        "routes": [a_route(Tier.LOW)],
        "classification": {"task": "extraction", "ambiguity": 0.5, "complexity": 3},
        **fields,
    }


@cache
def _attempt() -> dict[str, Any]:
    check = {"check": "format", "passed": False, "reason": "low_confidence", "detail": "0.4"}
    changes = [{"field": "name", "before": "a", "after": "b"}]
    verdict = {"outcome": "rejected", "checks": [check], "confidence": 0.4, "output": {"name": "n"}}
    more = {"verdict": verdict, "changes": changes, "reply": "{}", "http_status": 200}
    odd = {"served_model": "m", "oddities": ["usage_zero"], "finish_reason": "stop", "detail": "d"}
    return {**_fields(an_attempt(Tier.LOW)), **more, **odd}


def _samples() -> Mapping[str, Mapping[str, Any]]:
    """A whole record of each topic, every field of it with a value."""
    envelope = _routed(attempts_left=5)
    envelope["classification"] = Classification.model_validate(envelope["classification"])
    escalation = an_escalation(**envelope, tier=Tier.BALANCED, detail="d")
    line = orjson.loads(a_line_record(0, decision=a_decision(0, reason="why")).value)
    decision = {**line["decision"], "output": {"name": "n"}, "attempt_id": "req-1.1.1"}
    decision |= {"tier": "low", "deadline": "2026-03-01T13:00:00Z", "seconds_spent": 3.0}
    line |= {"decision": decision, "undoes": "d-9", "letter": decision["letter"], "note": "n"}
    stage = StageStatus(
        stage="route", partitions=1, lag=1, oldest_age_seconds=1.0, in_flight=1, free=1
    )
    model = ModelStatus(model="m", provider="p", breaker="open", wait_seconds=1.0)
    status = Status(
        process="p-1", started_at=NOON, at=NOON, reasons=["r"], stages=[stage], models=[model]
    )
    job = an_assignment(**_routed())
    [ledger] = ledger_lines(job, a_request(), [an_attempt(Tier.LOW)])
    ledger["attempt"] = _attempt()
    feedback = Feedback(request_id="req-1", kind="edited", at=NOON, correction={"name": "n"})
    return {
        TOPICS.escalations: {**_fields(escalation), "attempts": [_attempt()]},
        TOPICS.tier(Tier.LOW): {**_fields(an_assignment(**envelope)), "attempts": [_attempt()]},
        TOPICS.review: line,
        TOPICS.attempts: orjson.loads(orjson.dumps(ledger)),
        TOPICS.results: orjson.loads(_a_result()),
        TOPICS.feedback: _fields(feedback),
        TOPICS.status: _fields(status),
    }


def _a_result() -> bytes:
    router = {
        "final": True, "kind": "answer", "resolves": place(0), "review": "edit", "generation": 2,
        "task": "extraction", "tier": "low", "model": "m", "path": ["low"], "rule": "r",
        "reason": "r", "policy_version": "1", "prompt_version": "1", "cost_micros": 7,
        "usage": _fields(Usage(input_tokens=1)), "confidence": 0.5, "attempts": 1,
        "checks": [{"check": "format", "passed": True}], "output": {"name": "n"},
        "hops": [{"kind": "route", "tier": "low", "what": "r", "why": "w", "duration_ms": 1.0}],
        "latency": dict.fromkeys(("intake_ms", "queue_ms", "model_ms", "own_ms", "total_ms"), 1.0),
        "changes": [{"field": "name"}],
    }  # fmt: skip
    response = {"status_code": 200, "request_id": "req-1.1.1", "body": {"a": 1}}
    fields = {"id": "req-1", "custom_id": "c", "response": response, "router": router}
    return orjson.dumps(fields)


def _holes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every place in a record, with what stands there."""
    if path:
        yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value[:1])
    for step, inner in items:
        # Attempts are the same everywhere: dead letters and ledger lines try all of their fields.
        if isinstance(inner, (dict, list)) and path[-1:] != ("attempts",):
            yield from _holes(inner, (*path, step))
        else:
            yield (*path, step), inner


def _hostile(value: Any) -> Sequence[str]:
    if isinstance(value, str):
        is_time = value[:2] == "20" and value.endswith("Z")
        return (*(_TIMES if is_time else _TEXTS), *_SHAPES[:4], "1e999")
    if isinstance(value, (int, float)):
        return (*_NUMBERS, *_SHAPES)
    return (*_SHAPES, _HUGE_LIST, '"x"', "9" * 30)


def _with(sample: Mapping[str, Any], path: Sequence[Any], text: str, *, raw: bytes | None) -> bytes:
    forged = copy.deepcopy(dict(sample))
    at: Any = forged
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = _HOLE
    written = orjson.dumps(forged).replace(f'"{_HOLE}"'.encode(), text.encode())
    return written if raw is None else _closed(written, raw)


def _closed(fields: bytes, raw: bytes) -> bytes:
    return b'%b,"request_bytes":%d,"request":%b}' % (fields[:-1], len(raw), raw)


def forged_records() -> Iterator[Forged]:
    """All of them."""
    for topic, known in _samples().items():
        raw = REQUEST if topic in (TOPICS.escalations, TOPICS.tier(Tier.LOW)) else None
        # Fields that nobody knows travel on as they are.
        sample = {**known, "unknown": 1}
        for path, value in _holes(sample):
            where = ".".join(map(str, path))
            for text in _hostile(value):
                forged = _with(sample, path, text, raw=raw)
                yield Forged(f"{topic} {where} = {text[:24]}", topic, forged)
        for path in [path for path, value in _holes(sample) if isinstance(value, str)][::4]:
            forged = _with(sample, path, f'"{"x" * 300_000}"', raw=raw)
            yield Forged(f"{topic} {path} = 300,000 characters", topic, forged)
        for at in (-(2**63), -1, 0, 2**62, 2**63 - 1):
            whole = orjson.dumps(sample) if raw is None else _closed(orjson.dumps(sample), raw)
            yield Forged(f"{topic} timestamp = {at}", topic, whole, timestamp=at)
        for name, value in (
            ("null", None),
            ("empty", b""),
            ("bytes", b"\xff\xfe"),
            ("list", b"[]"),
        ):
            yield Forged(f"{topic} value = {name}", topic, value)
    yield from _forged_envelopes()
    yield from _forged_letters()


def _forged_envelopes() -> Iterator[Forged]:
    """What is wrong with an envelope as a whole."""
    for topic in (TOPICS.escalations, TOPICS.tier(Tier.LOW)):
        sample = dict(_samples()[topic])
        [taken] = sample["routes"]
        many = {**sample, "attempts": [_attempt()] * 6_000}
        wholes: dict[str, dict[str, Any]] = {
            "6,000 attempts": many,
            "100,000 attempts": {**sample, "attempts": [{}] * 100_000},
            "another request's id": {**sample, "id": "req-2"},
            "another request's attempts": {
                **sample, "attempts": [{**_attempt(), "attempt_id": "req-9.9.9"}] * 3
            },
            "attempts of a later generation": {
                **sample, "attempts": [{**_attempt(), "generation": 9}]
            },
            "a tier that is another's": {**sample, "routes": [{**taken, "tier": "premium"}]},
            "an unknown task": {**sample, "task": "no_such_task"},
            "no task": {key: field for key, field in sample.items() if key != "task"},
            "a step of another stage": {**sample, "routes": [{**taken, "step": "verify"}]},
            "a step before": {**sample, "routes": [{**taken, "step": "classify"}]},
            "an unknown model": {**sample, "attempts": [{**_attempt(), "model": "no-such-model"}]},
            "a call under way": {**sample, "attempts": [{**_attempt(), "outcome": "started"}]},
            "no routes": {**sample, "routes": []},
            "a requeue without routes": {**sample, "routes": [], "reason": "requeued"},
        }  # fmt: skip
        for name, fields in wholes.items():
            yield Forged(f"{topic}: {name}", topic, _closed(orjson.dumps(fields), REQUEST))
        head = orjson.dumps(sample)[:-1]
        for name, tail in {
            "text that is none": b',"request_is_text":true,"request_bytes":2,"request":{}}',
            "a number as text": b',"request_is_text":true,"request_bytes":1,"request":7}',
            "bytes that are not there": b',"request_bytes":1000000000000,"request":{}}',
            "fewer bytes": b',"request_bytes":1,"request":{}}',
            "a request that is none": b',"request_bytes":2,"request":[]}',
            "no request": b"}",
        }.items():
            yield Forged(f"{topic}: {name}", topic, head + tail)


def _forged_letters() -> Iterator[Forged]:
    whole = a_letter_record().headers
    values = [text.strip('"').encode() for text in (*_NUMBERS, *_TIMES, *_TEXTS, *_SHAPES)]
    values += [b"\xff\xfe", "\u0663".encode(), b"1_000", b" 7 ", b"no_such_reason"]
    for number, (name, _) in enumerate(whole):
        if not name.startswith("tierline-"):
            continue
        for value in values:
            forged = [*whole[:number], (name, value), *whole[number + 1 :]]
            named = f"{TOPICS.dead_letters} {name} = {value[:24]!r}"
            yield Forged(named, TOPICS.dead_letters, b"{}", forged)
        gone = [*whole[:number], *whole[number + 1 :]]
        yield Forged(f"{TOPICS.dead_letters} without {name}", TOPICS.dead_letters, b"{}", gone)
    attempt = orjson.dumps(_attempt())
    others = [one for one in whole if one[0] != "tierline-attempts"]
    for path, value in _holes(_attempt()):
        for text in _hostile(value):
            told = b"[%b]" % _with(_attempt(), path, text, raw=None)
            named = f"{TOPICS.dead_letters} attempt {path} = {text[:24]}"
            yield Forged(named, TOPICS.dead_letters, b"{}", [*others, ("tierline-attempts", told)])
    for name, told in (("many", b"[%b]" % b",".join([attempt] * 6_000)), ("null", b"null")):
        named = f"{TOPICS.dead_letters}: {name} attempts"
        yield Forged(named, TOPICS.dead_letters, b"{}", [*others, ("tierline-attempts", told)])


class _Calls:
    """A provider that counts its calls: the first of a request fails, the second answers."""

    def __init__(self) -> None:
        self.count = 0
        self.longest = timedelta(0)

    def chat_fields(self, provider: str) -> ChatFields:
        return OPENAI

    async def call(
        self,
        provider: str,
        body: dict[str, Any],
        *,
        attempt_id: str,
        request_id: str,
        timeout: timedelta,  # noqa: ASYNC109
        may_leave: Callable[[], bool],
        idempotency_key: str = "",
    ) -> Reply | CallFailure:
        self.count += 1
        self.longest = max(self.longest, timeout)
        if self.count == 1:
            return CallFailure(Reason.PROVIDER_ERROR, "HTTP 500", http_status=500)
        text = '{"name":"Jane","order_number":"7","date":null,"total":null,"confidence":0.99}'
        return Reply(text, "stop", Usage(input_tokens=10, output_tokens=10), {})


class _Patient(Restless):
    """A place whose clock goes on when somebody waits: for a retry, or for a release."""

    now = NOON

    async def wait(self, seconds: float, *, keeps_place: bool = False, paid: bool = False) -> None:
        self.now += timedelta(seconds=seconds)


def _led_to(made: Sequence[Outgoing]) -> str | None:
    """What is wrong with what a record led to; None where it is as it should be."""
    if not made:
        return "it led to nothing"
    for one in made:
        if not fits(one):
            return f"{one.topic} does not take what followed"
        if one.topic == TOPICS.results:
            read_model(Result, one.value)
        elif one.topic == TOPICS.attempts:
            read_model(LedgerEntry, one.value)
        elif one.topic == TOPICS.escalations:
            read_envelope(Escalation, one.value)
        elif one.topic == TOPICS.dead_letters:
            letter = read_dead_letter(one.headers)
            if letter.reason is Reason.INTERNAL_ERROR:
                return f"a fault of ours: {letter.detail}"
        else:
            read_envelope(Assignment, one.value)
    return None


async def _through_work(record: Any) -> str | None:
    calls, slot = _Calls(), _Patient()
    worker = a_worker(Tier.LOW, Policies(RULES), calls, lambda: slot.now)
    wrong = _led_to(list(await handled(worker, record, slot)))
    if slot.now - NOON > RULES.policy.longest_deadline + timedelta(minutes=1):
        return f"it waited for {slot.now - NOON}"
    if calls.count > RULES.policy.limits.attempts:
        return f"{calls.count} calls"
    if calls.longest > RULES.policy.limits.call_timeout:
        return f"a call of {calls.longest}"
    return wrong


def _through_review(record: Any) -> str | None:
    """As the stage reads decisions, and carries out the one that it finds."""
    reviewing = Reviewing(Clients(KafkaSettings()), Policies(RULES), lambda: NOON)
    decisions = Decisions()
    try:
        line = read_model(AuditLine, record.value)
        decisions.note(record.offset, record.timestamp / 1000, line)
        if line.decision is None:
            return None
        decisions.stands(line.decision, record.offset)
        refused = reviewing._refused(line.decision, record, "why")
        read_model(AuditLine, refused.value)
        found = a_letter_record(0, REQUEST, request_id=line.decision.request_id)
        letter = read_dead_letter(found.headers)
        made = reviewing._carry_out(line.decision, record, found, letter, RULES)
    except ContractError:
        return None
    return _led_to([one for one in made if one.topic != TOPICS.feedback]) if made else None


#: What the read model is made from.
_KEPT = (TOPICS.attempts, TOPICS.results, TOPICS.feedback, TOPICS.dead_letters, TOPICS.review)


def _through_reader(record: Any) -> str | None:
    """As commands read it: whatever the record, they say why and go on."""
    journey, processes = Journey("req-1"), Processes()
    why_not_taken(lambda found: journey.read(found, TOPICS), record)
    if record.topic == TOPICS.status:
        why_not_taken(lambda found: pass_on(found, processes), record)
    elif record.topic in _KEPT:
        with tables() as kept:
            take_in(kept, [record])
            figures_by(kept, ["task", "tier"], RULES.policy, NOON - timedelta(days=1))
            day = NOON - timedelta(days=1), NOON
            figures_over_time(kept, RULES.policy, *day, timedelta(hours=1))
            failures(kept, "low", NOON - timedelta(days=2), 10)
    rows_of(journey.moments())
    waterfall(journey, TOPICS)
    str(journey.cost_micros)
    for rows in (processes.process_rows, processes.topic_rows, processes.model_rows):
        rows(NOON)
    return None


@asynccontextmanager
async def _a_queue() -> AsyncIterator[Queue]:
    with tempfile.TemporaryDirectory() as folder:
        async with open_store(f"sqlite:///{folder}/cases.db") as store:
            clients = Clients(KafkaSettings())
            yield Queue(store, clients, Policies(RULES), TOPICS, lambda: NOON)


async def _fold(queue: Queue, records: Sequence[Any]) -> str | None:
    try:
        async with queue.database.writing() as connection:
            await connection.run_sync(queue._take_possible, records)
        await queue.store.cases(CaseFilter(state=None), NOON)
    except Exception as error:  # noqa: BLE001  whatever it is, it got out
        return f"the console: {error!r:.200}"
    return None


async def _at_odd_times(queue: Queue, offset: int, at: int, followed_by: str) -> str | None:
    """What somebody else's record says of an open case, whenever that claims to be from."""
    request_id, decision = f"req-{offset}", a_decision(offset, f"odd-{offset}")
    router = {"final": True, "resolves": place(offset)}
    if followed_by == "a later generation":
        router = {"final": True, "generation": 2}
    record = a_record(
        orjson.dumps({"id": request_id, "router": router}), topic=TOPICS.results, timestamp=at
    )
    if followed_by == "a decision":
        record = a_line_record(offset, decision=decision)
        record.timestamp = at
    wrong = await _fold(queue, [a_letter_record(offset)]) or await _fold(queue, [record])
    if wrong is not None:
        return wrong
    try:
        case = await queue.store.case(place(offset), NOON)
    except Exception as error:  # noqa: BLE001  whatever it is, it got out
        return f"the case: {error!r:.200}"
    return "it changed nothing" if case is None or case.state == "open" else None


def _through_route(record: Any) -> str | None:
    """A release that nobody has is waited for, but no longer than a request may take."""
    now = NOON
    router = Router(Policies(RULES), TOPICS, lambda: now)
    while now <= NOON + RULES.policy.longest_deadline + timedelta(minutes=1):
        try:
            return _led_to(decided(router, record))
        except NotYetError:
            now += timedelta(minutes=1)
    return f"it waited until {now}"


async def _try(forged: Forged, queue: Queue) -> str | None:
    record = forged.record()
    try:
        wrong = _through_reader(record)
        if wrong is None and forged.topic == TOPICS.escalations:
            wrong = _through_route(record)
        elif wrong is None and forged.topic == TOPICS.tier(Tier.LOW):
            wrong = await _through_work(record)
        elif wrong is None and forged.topic == TOPICS.review:
            wrong = _through_review(record)
    except Exception as error:  # noqa: BLE001  whatever it is, it got out
        return f"{error!r:.200}"
    return wrong


_FOLLOWED_BY = ("what resolves it", "a later generation", "a decision")
_FOLDED = (TOPICS.dead_letters, TOPICS.review, TOPICS.results)


async def run(report: Report, _bootstrap: str) -> None:
    """Try each, and fold those that the console reads, innocent ones among them."""
    async with _a_queue() as queue:
        batches: dict[str, list[Forged]] = {topic: [] for topic in _FOLDED}
        for forged in forged_records():
            report.note(forged.name, through=await _try(forged, queue))
            if forged.topic in batches:
                batches[forged.topic].append(forged)
        for topic, batch in batches.items():
            await _fold_all(report, queue, topic, batch)
        odd = product((-(2**62), -1, 2**53, 2**62, 2**63 - 1), _FOLLOWED_BY)
        for number, (at, followed_by) in enumerate(odd):
            wrong = await _at_odd_times(queue, 900_000 + number, at, followed_by)
            report.note(f"a case followed by {followed_by} of {at}", through=wrong)
        letters = {case.letter.offset for case in await _cases(queue)}
        report.check("cases behind forged ones", is_blocked={1, 500_000} <= letters)


async def _fold_all(report: Report, queue: Queue, topic: str, batch: Sequence[Forged]) -> None:
    """In batches, as the console reads them; the innocent are the first and the last."""
    records = [forged.record(100 + number) for number, forged in enumerate(batch)]
    if topic == TOPICS.dead_letters:
        records = [a_letter_record(1), *records, a_letter_record(500_000)]
    for at in range(0, len(records), 200):
        part = records[at : at + 200]
        if await _fold(queue, part) is not None:
            for record in part:
                report.note(f"{topic} folded", through=await _fold(queue, [record]))


async def _cases(queue: Queue) -> Sequence[Any]:
    return await queue.store.cases(CaseFilter(state=None), NOON, limit=10_000)


CLASS = ProbeClass("inner", 400, run)
