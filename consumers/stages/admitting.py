"""Admitting: what becomes of one request that a cap touches, now or after it has waited."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from consumers.policies import Policies
from consumers.records import Record, appended_at
from consumers.stages.dead_letters import DeadLetters
from consumers.stages.interim_results import interim_results
from consumers.stages.refusing import awaited
from consumers.stages.worst_cases import WorstCases
from consumers.telemetry.observer import Observer
from router.attempt.answering import ComposedKind, composed_result
from router.attempt.fallback import canned_output
from router.intake.admission import read_again
from router.judge.judging import output_contract
from router.money.book import Book, Confirmed, Full, Held, Reserved, Wanted
from router.policy.caps import caps_of, dollars_text
from router.policy.table import Policy
from router.releases.bundle import Bundle
from router.route.capping import cheaper_tiers, facts_of, lowered
from router.route.requeue import handed_back
from router.route.routing import GiveUp, within_limits
from schemas.admission import AdmissionTaken, Reservation
from schemas.base import Tier
from schemas.codec import (
    TRACE_HEADERS,
    Headers,
    Outgoing,
    dump,
    dump_envelope,
    passed_on,
    read_envelope,
)
from schemas.escalation import Assignment
from schemas.reasons import Reason
from schemas.request import Request
from schemas.topics import Topics

__all__ = ["STAGE", "Admitting", "Kept"]

STAGE = "admit"

#: Requests that wait in a partition at most, and the bytes of their records.
_MOST_KEPT, _MOST_KEPT_BYTES = 10_000, 64 << 20
_REFUSAL = "We cannot take this request at the moment: the budget for it is used up."
_ASKED = (
    "This request costs up to {price}, which is more than its budget has left. It goes on once "
    "somebody confirms that price."
)


@dataclass(slots=True)
class Kept:
    """A record that is decided about: the one at hand, or one that has waited in the state."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    #: Why it began to wait; empty for the record at hand.
    why: str = ""
    #: The price that somebody has agreed to.
    confirmed: Confirmed | None = None
    #: How it waits for money; None: it does not.
    held: Held | None = None
    #: Set once it has been decided that it waits on.
    waits_on: bool = False

    @staticmethod
    def of(record: Record) -> "Kept":
        place = record.topic, record.partition, record.offset, record.timestamp
        return Kept(*place, record.key, record.value, record.headers)

    @staticmethod
    def read(written: bytes) -> "Kept":
        """As `written` wrote it."""
        head, _, value = written.partition(b"\n")
        fields = orjson.loads(head)
        key, headers = fields.pop("key"), fields.pop("headers")
        return Kept(
            **fields,
            key=None if key is None else key.encode("latin-1"),
            value=value,
            headers=[(name, text.encode("latin-1")) for name, text in headers],
        )

    def written(self, why: str) -> bytes:
        """A line that says what it is and why it waits, and then its value."""
        fields: dict[str, Any] = {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "timestamp": self.timestamp,
            "key": None if self.key is None else self.key.decode("latin-1"),
            "headers": [[name, (value or b"").decode("latin-1")] for name, value in self.headers],
            "why": why,
        }
        return dump(fields) + b"\n" + (self.value or b"")

    def carries(self, led_to: Sequence[Outgoing], partition: int | None = None) -> list[Outgoing]:
        """What it leads to, in its request's partition, and with its own trace where it waited."""
        trace: list[tuple[str, bytes]] = []
        if self.why:
            trace = [field for field in self.headers if field[0].lower() in TRACE_HEADERS]
        return [
            each._replace(
                headers=[*each.headers, *trace], partition=partition, has_trace=bool(trace)
            )
            for each in led_to
        ]


@dataclass(frozen=True, slots=True)
class _Case:
    """A request that is decided about."""

    kept: Kept
    assignment: Assignment
    raw: bytes
    request: Request
    bundle: Bundle
    now: datetime

    @property
    def policy(self) -> Policy:
        return self.bundle.policy

    def noted(self, update: Mapping[str, Any], **taken: Any) -> Assignment:
        """The assignment with what admission did."""
        taken |= {"at": self.now}
        former = self.assignment.admissions or ()
        admissions = [*former, AdmissionTaken.model_validate(taken)]
        return self.assignment.model_copy(update={**update, "admissions": admissions})


@dataclass(frozen=True, slots=True)
class Admitting:
    """Reserves what a request may use, or does as the cap says that leaves no room for it."""

    policies: Policies
    topics: Topics
    clock: Callable[[], datetime]
    observer: Observer = field(default_factory=Observer)
    worst_cases: WorstCases = field(default_factory=WorstCases)

    @property
    def dead_letters(self) -> DeadLetters:
        """How the stage gives up on records."""
        envelopes = {self.topics.admission: Assignment}
        return DeadLetters(STAGE, self.topics, self.clock, self.observer, envelopes=envelopes)

    def admitted(self, kept: Kept, book: Book, now: datetime) -> Sequence[Outgoing]:
        """What becomes of an assignment. Raises ContractError, and NotYetError."""
        assignment, raw = read_envelope(Assignment, kept.value)
        times = assignment.deadline, appended_at(kept, now), now
        if (bundle := awaited(self.policies, assignment.route, *times)) is None:
            back = dump_envelope(handed_back(assignment), raw)
            return self._sent(kept, assignment, self.topics.escalations, back)
        assignment = within_limits(assignment, bundle.policy, now)
        request = read_again(raw, kept.headers, assignment, fallback_id=assignment.id)
        case = _Case(kept, assignment, raw, request, bundle, now)
        if not kept.why:
            self.observer.received(assignment.id, assignment.generation, assignment.task)
        if now >= assignment.deadline and kept.held is None:
            words = f"the deadline was {assignment.deadline.isoformat()}"
            return self._to_person(case, GiveUp(Reason.DEADLINE_PASSED, words))
        return self._decided(case, book)

    def unconfirmed(self, kept: Kept, now: datetime) -> Sequence[Outgoing]:
        """What becomes of a request whose price nobody has confirmed. Raises ContractError."""
        assignment, raw = read_envelope(Assignment, kept.value)
        bundle = self.policies.of(assignment.route, now) or self.policies.active
        request = read_again(raw, kept.headers, assignment, fallback_id=assignment.id)
        case = _Case(kept, assignment, raw, request, bundle, now)
        return self._refused(case, Reason.NOT_CONFIRMED, kept.why)

    def _decided(self, case: _Case, book: Book) -> Sequence[Outgoing]:
        own = case.assignment.route.tier
        outcome = self._reserved(case, book, own)
        if not isinstance(outcome, Full):
            return self._on(case, outcome, own, "")
        if outcome.at_cap == "cheaper":
            for tier in cheaper_tiers(case.assignment, case.request, case.policy):
                other = self._reserved(case, book, tier)
                if not isinstance(other, Full):
                    return self._on(case, other, tier, outcome.sentence)
        if outcome.hold_until is not None:
            return self._held(case, book, outcome)
        if outcome.at_cap == "ask":
            return self._asked(case, book, outcome)
        if outcome.at_cap == "refuse":
            return self._refused(case, Reason.BUDGET, outcome.sentence)
        return self._to_person(case, GiveUp(Reason.BUDGET, outcome.sentence))

    def _reserved(self, case: _Case, book: Book, tier: Tier) -> Reserved | Full | None:
        """None where no cap touches the request in that tier."""
        assignment, kept = case.assignment, case.kept
        facts = facts_of(case.request, case.policy, assignment.task, tier, assignment.own_attempts)
        caps = caps_of(case.policy, facts)
        if not caps:
            return None
        wanted, place = self._wanted(case, tier), f"{kept.partition}-{kept.offset}"
        times = assignment.deadline, case.now
        return book.reserve(
            caps, facts, wanted, place, *times, held=kept.held, confirmed=kept.confirmed
        )

    def _wanted(self, case: _Case, tier: Tier) -> Wanted:
        return self.worst_cases.of(case.assignment, len(case.raw), case.bundle, tier)

    def _on(
        self, case: _Case, reserved: Reserved | None, tier: Tier, why: str
    ) -> Sequence[Outgoing]:
        """On to its tier, or to a cheaper one because of a cap (`why`)."""
        assignment, kept = case.assignment, case.kept
        update: dict[str, Any] = {"reservation": None}
        words = "no cap touches it there"
        if reserved is not None:
            update["reservation"] = Reservation(**reserved._asdict(), partition=kept.partition)
            amounts = [] if reserved.micros is None else [dollars_text(reserved.micros)]
            amounts += [] if reserved.tokens is None else [f"{reserved.tokens:,} tokens"]
            words = f"{' and '.join(amounts) or 'a place'} set aside"
        what = "cheaper" if why else "reserved"
        if why:
            words = f"{words} in {tier}: {why}"
            routes = [*assignment.routes[:-1], lowered(assignment.route, tier, why)]
            update |= {"routes": routes, "need": None}
        elif kept.confirmed is not None:
            what, words = "confirmed", f"{words}; its price was confirmed: {kept.why}"
        elif kept.held is not None:
            seconds = (case.now - kept.held.since).total_seconds()
            what, words = "held", f"{words} after {seconds:.1f} s: {kept.why}"
        code, micros = None if what == "reserved" else Reason.BUDGET, reserved and reserved.micros
        noted = case.noted(update, what=what, tier=tier, words=words, code=code, micros=micros)
        value = dump_envelope(noted, case.raw)
        return self._sent(kept, assignment, self.topics.tier(tier), value)

    def _held(self, case: _Case, book: Book, full: Full) -> Sequence[Outgoing]:
        kept = case.kept
        if kept.held is not None:
            kept.waits_on = True
            book.hold_on(kept.held, full)
            return ()
        written = kept.written(full.sentence)
        if not book.can_keep(written, _MOST_KEPT, _MOST_KEPT_BYTES):
            return self._refused(case, Reason.TOO_MANY_HELD, full.sentence)
        book.hold(full, written, case.now, kept.confirmed)
        return ()

    def _asked(self, case: _Case, book: Book, full: Full) -> Sequence[Outgoing]:
        """It waits for somebody who agrees to its price."""
        assignment, wanted = case.assignment, self._wanted(case, case.assignment.route.tier)
        written = case.kept.written(full.sentence)
        if not book.can_keep(written, _MOST_KEPT, _MOST_KEPT_BYTES):
            return self._refused(case, Reason.TOO_MANY_HELD, full.sentence)
        name, tenant = case.request.key.text, case.request.tenant
        price = Confirmed(wanted.step_micros, wanted.step_tokens)
        book.ask(name, tenant, written, price, assignment.deadline)
        asked: dict[str, Any] = {"micros": price.micros, "until": assignment.deadline}
        cheaper = cheaper_tiers(assignment, case.request, case.policy)
        if cheaper:
            asked["cheaper"] = cheaper[0]
            asked["cheaper_micros"] = self._wanted(case, cheaper[0]).step_micros
        text = _ASKED.format(price=dollars_text(price.micros))
        fields = self._composed(
            *(case, "needs_confirmation", text, "asked", Reason.BUDGET, full.sentence),
            price.micros,
        )
        fields["status"] = "needs_confirmation"
        fields["router"] |= {"final": False, "price": asked}
        return self._sent(case.kept, assignment, self.topics.results, dump(fields))

    def _refused(self, case: _Case, reason: Reason, why: str) -> Sequence[Outgoing]:
        """Our own words are the result."""
        assignment = case.assignment
        text = case.bundle.prompts.text(assignment.task or "", "refusal") or _REFUSAL
        fields = self._composed(case, "refusal", text, "given_up", reason, why)
        tier, latency = assignment.route.tier, fields["router"]["latency"]
        self.observer.answered(assignment.task, tier, assignment.id, latency)
        return self._sent(case.kept, assignment, self.topics.results, dump(fields))

    def _composed(
        self,
        case: _Case,
        kind: ComposedKind,
        text: str,
        what: str,
        reason: Reason,
        why: str,
        micros: int | None = None,
    ) -> dict[str, Any]:
        """The fields of a result in our own words, with the cap that made us say them."""
        tier, task = case.assignment.route.tier, case.assignment.task
        contract = output_contract(case.request, case.policy, task, "answer")
        output = canned_output(text, contract.schema)
        noted = case.noted({}, what=what, tier=tier, words=why, code=reason, micros=micros)
        fields = composed_result(noted, case.request, (), kind, text, output, now=case.now)
        fields["router"] |= {"budget": why, "code": reason}
        return fields

    def _to_person(self, case: _Case, gave_up: GiveUp) -> Sequence[Outgoing]:
        assignment, kept = case.assignment, case.kept
        self.observer.gave_up(STAGE, gave_up.reason, assignment.task, assignment.route.tier)
        letter = self.dead_letters.of_envelope(
            *(assignment, case.raw, kept, gave_up.reason, gave_up.detail),
            tenant=case.request.tenant,
        )
        prompts, policy = case.bundle.prompts, case.policy
        interim = interim_results(
            *(assignment, case.request, (), kept, policy, prompts, self.topics, case.now)
        )
        return kept.carries([letter, *interim], assignment.origin.partition)

    def _sent(
        self, kept: Kept, assignment: Assignment, topic: str, value: bytes
    ) -> Sequence[Outgoing]:
        outgoing = Outgoing(topic, kept.key, value, passed_on(kept.headers))
        return kept.carries([outgoing], assignment.origin.partition)
