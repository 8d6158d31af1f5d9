"""ROUTE: reads intake and escalations, decides, and writes assignments or dead letters."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import structlog

from consumers import clock
from consumers.admissions import admission_of
from consumers.policies import Policies
from consumers.records import Record, appended_at, record_ref
from consumers.runtime.executor import SyncExecutor
from consumers.runtime.shell import Shell
from consumers.runtime.spec import StageSpec
from consumers.runtime.stage import Stage
from consumers.stages.contract import Process, StageKind
from consumers.stages.dead_letters import DeadLetters, key_of
from consumers.stages.interim_results import interim_results
from consumers.stages.refusing import awaited
from consumers.stages.repeats import Repeats
from consumers.telemetry.observer import Observer
from router.attempt.answering import composed_result
from router.attempt.escalation import climb
from router.attempt.fallback import canned_output, default_text, falls_back
from router.intake.admission import Admission, read_again
from router.intake.repeats import Repeat
from router.judge.judging import output_contract
from router.limits.forecast import Forecast
from router.policy.caps import domain_of
from router.policy.table import Policy
from router.releases.bundle import Bundle
from router.route.capping import caps_touching
from router.route.overflow import may_overflow, overflowed
from router.route.requeue import release_in_words
from router.route.routing import GiveUp, Route, route, route_fields, within_limits
from schemas.admission import Confirmation, marked_as, partition_of_domain
from schemas.base import Tier
from schemas.codec import Outgoing, close_envelope, dump, dump_envelope, passed_on, read_envelope
from schemas.errors import ContractError
from schemas.escalation import Assignment, Escalation, RouteTaken
from schemas.reasons import Reason
from schemas.request import Request
from schemas.tenancy import RequestKey
from schemas.topics import Topics

__all__ = ["KIND", "JudgeRepeats", "Router"]

SPEC = StageSpec(
    "route",
    reads=("llm.intake", "llm.escalations"),
    writes=(
        *(f"llm.tier.{tier}" for tier in Tier),
        *("llm.admission", "llm.results", "llm.dead-letters"),
    ),
    watches=tuple(f"work.{tier}" for tier in Tier),
)
STAGE = SPEC.name

_log = structlog.get_logger(__name__)


class JudgeRepeats(Protocol):
    """Remembers the ids of the intake partitions."""

    def judge(self, record: Record, request: Request) -> Repeat:
        """Whether a readable record repeats an earlier one of its partition."""


@dataclass(frozen=True, slots=True)
class Router:
    """The route stage's decision for one record; the runtime writes what it returns."""

    policies: Policies
    topics: Topics
    clock: Callable[[], datetime]
    #: None where no ids are remembered: then every record is a request of its own.
    repeats: JudgeRepeats | None = None
    observer: Observer = field(default_factory=Observer)
    #: None where the tiers' backlogs are not known: then every deadline counts as reachable.
    forecast: Forecast | None = None
    admission: Admission = field(default_factory=Admission)
    #: How many partitions each topic has.
    partitions: Callable[[], int] = lambda: 1

    def decide(self, record: Record) -> Sequence[Outgoing]:
        """What a record leads to: one assignment or one dead letter.

        A repeat leads to nothing: the earlier record of the request has ended, or will. Raises
        ContractError where the record is no request, and NotYetError while the release of its
        request is not here.
        """
        now = self.clock()
        if record.topic == self.topics.escalations:
            return self._escalated(record, now)
        return self._accepted(record, now)

    @property
    def dead_letters(self) -> DeadLetters:
        """How the stage gives up on records."""
        return DeadLetters(
            STAGE,
            self.topics,
            self.clock,
            self.observer,
            envelopes={self.topics.escalations: Escalation},
            admission=self.admission,
        )

    def _accepted(self, record: Record, now: datetime) -> Sequence[Outgoing]:
        accepted_at = appended_at(record, now)
        try:
            request, is_unproven = self.admission.admit(
                record.topic,
                record.value,
                record.headers,
                self.policies.active.policy,
                at=accepted_at,
                fallback_id=record_ref(record),
            )
        except ContractError as error:
            if error.reason is Reason.MISSING_FIELD:  # a confirmation has no input
                written = record.topic, record.value, record.headers
                if (agreed := self.admission.confirmation(*written, at=accepted_at)) is not None:
                    return self._confirmed(agreed, record)
            raise
        self.observer.received(request.id, 1, request.task)
        bundle = self.policies.for_request(request)
        repeat = self.repeats.judge(record, request) if self.repeats else Repeat.NEW
        if repeat is Repeat.SAME:
            self.observer.repeated()
            _log.info("repeat", partition=record.partition, offset=record.offset, id=request.id)
            return ()
        if repeat is Repeat.OTHER_BODY:
            reused = GiveUp(Reason.ID_REUSED, "the body differs from the first one under this id")
            return [self._gave_up(record, request, bundle, reused, is_unproven=is_unproven)]
        first = route(request, bundle.policy, now, accepted_at=accepted_at)
        decided = self._in_time(first, request, bundle.policy, now)
        if isinstance(decided, Route):
            taken = decided
        elif decided.route is not None:
            taken = decided.route
        else:
            return [self._gave_up(record, request, bundle, decided, is_unproven=is_unproven)]

        # The fields of an Assignment, written by hand: this runs for every request, and building
        # and dumping the models takes longer than routing. A test reads them back.
        fields = {
            "id": request.id,
            "tenant": request.tenant,
            "generation": 1,
            "task": taken.task,
            "origin": {
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "appended_at": accepted_at,
            },
            "deadline": taken.deadline,
            "attempts_left": bundle.policy.limits.attempts,
            "routes": [route_fields(taken, bundle.digest, now)],
            "attempts": (),
        }
        if request.plan is not None:
            fields["plan"] = request.plan
        if is_unproven:
            fields["is_unproven"] = True
        if isinstance(decided, GiveUp):
            envelope = Escalation.model_validate_json(dump({**fields, "reason": decided.reason}))
            raw = record.value or b""
            return self._to_person(envelope, raw, request, record, bundle, decided, now)
        self.observer.routed(decided)
        value = close_envelope(dump(fields), record.value or b"")
        key = record.key or key_of(request)
        return [self._sent(decided, request, bundle.policy, key, value, record)]

    def _sent(
        self,
        decided: Route,
        request: Request,
        policy: Policy,
        key: bytes | None,
        value: bytes,
        record: Record,
    ) -> Outgoing:
        """An assignment on its way to its tier: to admission first where a cap touches it."""
        passed = passed_on(record.headers)
        if not policy.caps or not caps_touching(request, policy, decided.task, decided.tier):
            return Outgoing(self.topics.tier(decided.tier), key, value, passed)
        partition = partition_of_domain(domain_of(policy, request.tenant), self.partitions())
        passed.append(marked_as("assignment"))
        return Outgoing(self.topics.admission, key, value, passed, partition)

    def _confirmed(self, agreed: Confirmation, record: Record) -> Sequence[Outgoing]:
        """A confirmation goes wherever the request may wait: releases may differ in domains."""
        self.observer.received(agreed.request_id, 1, None)
        domains, count = ("", agreed.tenant), self.partitions()
        key = RequestKey(agreed.tenant, agreed.request_id).text.encode()
        value, passed = dump(agreed.model_dump()), passed_on(record.headers)
        headers = [*passed, marked_as("confirmation")]
        return [
            Outgoing(self.topics.admission, key, value, headers, partition)
            for partition in sorted({partition_of_domain(domain, count) for domain in domains})
        ]

    def _escalated(self, record: Record, now: datetime) -> Sequence[Outgoing]:
        escalation, raw = read_envelope(Escalation, record.value)
        escalation, bundle = self._released(escalation, appended_at(record, now), now)
        policy = bundle.policy
        escalation = within_limits(escalation, policy, now)
        request = read_again(raw, record.headers, escalation, fallback_id=escalation.id)
        self.observer.received(escalation.id, escalation.generation, escalation.task)
        decided = climb(escalation, request, policy, now)
        spills = may_overflow(escalation.routes, escalation.own_attempts)
        decided = self._in_time(decided, request, policy, now, may_overflow=spills)
        if isinstance(decided, GiveUp):
            if (taken := decided.route) is not None:
                fields = route_fields(taken, bundle.digest, now)
                routes = [*escalation.routes, RouteTaken.model_validate(fields)]
                update = {"task": taken.task, "routes": routes}
                escalation = escalation.model_copy(update=update)
            return self._to_person(escalation, raw, request, record, bundle, decided, now)

        self.observer.routed(decided)
        assignment = Assignment(
            id=escalation.id,
            tenant=request.tenant,
            plan=request.plan,
            is_unproven=escalation.is_unproven,
            is_seen=escalation.is_seen,
            generation=escalation.generation,
            task=decided.task,
            origin=escalation.origin,
            deadline=decided.deadline,
            attempts_left=escalation.attempts_left,
            classification=escalation.classification,
            routes=[
                *escalation.routes,
                RouteTaken.model_validate(route_fields(decided, bundle.digest, now)),
            ],
            attempts=escalation.attempts,
            admissions=escalation.admissions,
            need=escalation.need if decided.rule == "admission" else None,
        )
        value = dump_envelope(assignment, raw)
        return [self._sent(decided, request, policy, record.key, value, record)]

    def _released(
        self, escalation: Escalation, since: datetime, now: datetime
    ) -> tuple[Escalation, Bundle]:
        """The release that an escalated request has; where nobody has it any more, the active one.

        So has a request that a person sent through again. Raises NotYetError.
        """
        if not escalation.routes:
            return escalation, self.policies.active
        taken, times = escalation.routes[-1], (escalation.deadline, since, now)
        is_anew = escalation.replaced_policy is not None
        known = self.policies.of(taken, now)
        bundle = known if is_anew else awaited(self.policies, taken, *times)
        if bundle is not None:
            return escalation, bundle
        if not is_anew:
            gone = {"replaced_policy": release_in_words(taken)}
            escalation = escalation.model_copy(update=gone)
        return escalation, self.policies.active

    def _in_time(
        self,
        decided: Route | GiveUp,
        request: Request,
        policy: Policy,
        now: datetime,
        *,
        may_overflow: bool = True,
    ) -> Route | GiveUp:
        if self.forecast is None or isinstance(decided, GiveUp):
            return decided
        judged = self.forecast.judged(decided, now)
        other = overflowed(decided, request, policy) if may_overflow else None
        if isinstance(judged, Route) or other is None:
            return judged
        return self.forecast.judged(other, now)

    def _to_person(
        self,
        escalation: Escalation,
        raw: bytes,
        request: Request,
        record: Record,
        bundle: Bundle,
        decided: GiveUp,
        now: datetime,
    ) -> Sequence[Outgoing]:
        """A dead letter of a request that has a route, or the safe default where its task wants it.

        Beside a dead letter, what its task publishes while a person has it.
        """
        row = bundle.policy.tasks.get(escalation.task or "")
        if escalation.routes and falls_back(row, decided):
            return [self._safe_default(bundle, escalation, request, record, now)]
        self.observer.gave_up(STAGE, decided.reason, escalation.task)
        letter = self.dead_letters.of_envelope(
            escalation, raw, record, decided.reason, decided.detail, tenant=request.tenant
        )
        interim = interim_results(
            escalation, request, (), record, bundle.policy, bundle.prompts, self.topics, now
        )
        return [each._replace(key=each.key or key_of(request)) for each in (letter, *interim)]

    def _safe_default(
        self,
        bundle: Bundle,
        escalation: Escalation,
        request: Request,
        record: Record,
        now: datetime,
    ) -> Outgoing:
        """The task's safe default, where the task wants it instead of a person."""
        text = default_text(escalation.task or "", escalation.own_attempts, bundle.prompts)
        contract = output_contract(request, bundle.policy, escalation.task, "answer")
        output = canned_output(text, contract.schema)
        fields = composed_result(escalation, request, (), "safe_default", text, output, now=now)
        tier, latency = escalation.routes[-1].tier, fields["router"]["latency"]
        self.observer.answered(escalation.task, tier, escalation.id, latency)
        return Outgoing(self.topics.results, record.key, dump(fields), passed_on(record.headers))

    def _gave_up(
        self,
        record: Record,
        request: Request,
        bundle: Bundle,
        decided: GiveUp,
        *,
        is_unproven: bool,
    ) -> Outgoing:
        # A task that the policy does not know would become a time series of its own.
        task = request.task if request.task in bundle.policy.tasks else None
        self.observer.gave_up(STAGE, decided.reason, task)
        return self.dead_letters.of_record(
            record,
            decided.reason,
            decided.detail,
            request=request,
            is_unproven=is_unproven,
            policy_version=bundle.policy.version,
            policy_digest=bundle.digest,
        )


@contextlib.asynccontextmanager
async def _open(process: Process) -> AsyncIterator[Stage]:
    settings, policies, clients = process.settings, process.policies, process.clients
    guard, admission = process.guard(STAGE), admission_of(settings)

    def partitions() -> int:
        return stage.partition_count()

    repeats = Repeats(clients.named(STAGE), settings.repeats, policies, admission, guard)
    router = Router(
        policies,
        settings.kafka.topics,
        clock.now,
        repeats,
        process.telemetry.observer,
        await process.forecast(),
        admission,
        partitions,
    )
    shell = Shell(router.dead_letters)
    executor = SyncExecutor(router.decide, shell, guard, process.telemetry.tracing)
    stage = Stage(
        SPEC,
        clients,
        executor,
        shell,
        guard,
        prepare=repeats.prepare,
        moves=lambda: executor.looks,
        drain_for=process.drain_for,
    )
    yield stage


KIND = StageKind(SPEC, _open, role="route")
