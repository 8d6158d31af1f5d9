"""Data for tests: everything has a default, a test names only what it is about."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from aiokafka import TopicPartition

from consumers.policies import Policies
from consumers.records import Record
from consumers.rules import read_folder
from consumers.runtime.shell import LastResort, Shell
from consumers.stages.ports import CallModels, Slot
from consumers.stages.refusing import Refusals
from consumers.stages.work import Worker
from router.policy.load import load_policy
from router.policy.table import Policy
from router.prompts.rendering import Prompts
from router.releases.bundle import Bundle
from schemas.attempt import Attempt
from schemas.base import Tier
from schemas.codec import Outgoing
from schemas.escalation import Assignment, Escalation, Origin, RouteTaken
from schemas.intake import read_request_object
from schemas.reasons import Reason
from schemas.request import Request
from schemas.topics import Topics

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY_FILE = Path("deploy/policy/routing.yaml")
PROMPTS = Path("deploy/prompts")


@cache
def the_policy() -> Policy:
    """The policy that is shipped."""
    return load_policy(POLICY_FILE.read_text(encoding="utf-8"), str(POLICY_FILE))


def policy_with(**sections: Any) -> Policy:
    """The shipped policy with other fields in these rows of its sections."""
    policy = the_policy().model_dump()
    for section, rows in sections.items():
        if section == "rules":
            policy["rules"] = rows
            continue
        for name, fields in rows.items():
            if isinstance(fields, dict):
                policy[section][name] = {**policy[section].get(name, {}), **fields}
            else:
                policy[section][name] = fields
    return Policy.model_validate(policy)


def with_task(task: str = "support_answer", /, **fields: Any) -> Policy:
    """The shipped policy with other fields in a task's row."""
    return policy_with(tasks={task: fields})


@cache
def the_prompts() -> Prompts:
    """The prompts that are shipped."""
    return Prompts.load(read_folder(PROMPTS))


def policies_of(policy: Policy | None = None) -> Policies:
    """A policy, as shipped unless given, with the prompts that are shipped: those of files."""
    return Policies(Bundle(policy or the_policy(), the_prompts()))


def a_worker(
    tier: Tier,
    policies: Policies,
    calls: CallModels,
    now: Callable[[], datetime] = lambda: NOON,
    *,
    topics: Topics | None = None,
    **fields: Any,
) -> Worker:
    """A worker with nobody else's requests."""
    refusals = Refusals(policies, now)
    return Worker(tier, calls, topics or Topics(), now, refusals=refusals, **fields)


def a_request(**fields: Any) -> Request:
    """A plain support question of 60 characters with a number in it."""
    plain = {
        "id": "req-1",
        "task": "support_answer",
        "plan": "enterprise",
        "input": "How do I change the billing address of invoice 2291, please?",
    }
    given = {name: value for name, value in {**plain, **fields}.items() if value is not None}
    return read_request_object(given, {})


def an_attempt(tier: Tier = Tier.BALANCED, **fields: Any) -> Attempt:
    """A rejected attempt of the tier's first model."""
    no = fields.get("attempt_no", 1)
    plain = {
        "attempt_id": f"req-1.1.{no}",
        "attempt_no": no,
        "tier": tier,
        "model": the_policy().models_of(tier)[0],
        "provider": "simulated",
        "prompt_version": "support_answer@1+default_low@1",
        "policy_version": the_policy().version,
        "started_at": NOON,
        "duration_ms": 100.0,
        "outcome": "rejected",
        "reason": Reason.LOW_CONFIDENCE,
    }
    return Attempt.model_validate({**plain, **fields})


def a_route(tier: Tier = Tier.BALANCED, **fields: Any) -> RouteTaken:
    """The task's own route."""
    plain = {
        "tier": tier,
        "rule": "task support_answer",
        "reason": "customers read it as it is",
        "policy_version": the_policy().version,
        "routed_at": NOON,
    }
    return RouteTaken.model_validate({**plain, **fields})


def _envelope(**fields: Any) -> dict[str, Any]:
    return {
        "id": "req-1",
        "task": "support_answer",
        "origin": Origin(topic="llm.intake", partition=1, offset=7, appended_at=NOON),
        "deadline": NOON + timedelta(minutes=15),
        "attempts_left": 6,
        "routes": [a_route()],
        **fields,
    }


def an_assignment(**fields: Any) -> Assignment:
    """A request given to the balanced tier."""
    return Assignment.model_validate(_envelope(**fields))


def an_escalation(**fields: Any) -> Escalation:
    """The balanced tier's answer was rejected once."""
    plain = {"reason": Reason.LOW_CONFIDENCE, "attempts_left": 5, "attempts": [an_attempt()]}
    return Escalation.model_validate(_envelope(**{**plain, **fields}))


def a_record(value: bytes | None, **fields: Any) -> Any:
    """A Kafka record as the runtime hands it on."""
    plain = {
        "topic": "llm.intake",
        "partition": 1,
        "offset": 7,
        "timestamp": int(NOON.timestamp() * 1000),
        "key": b"key-1",
        "value": value,
        "headers": (),
    }
    return SimpleNamespace(**{**plain, **fields})


class Pointers:
    """A last resort that writes one record for each that it stands for: its reason is its key."""

    def failed(self, record: Record, reason: Reason, detail: str) -> Sequence[Outgoing]:
        return [Outgoing("llm.dead-letters", reason.encode(), detail.encode())]

    def poisonous(self, record: Record, deaths: int) -> Sequence[Outgoing]:
        return self.failed(record, Reason.POISONOUS_RECORD, str(deaths))

    def pointer(
        self, source: TopicPartition, offset: int, reason: Reason, detail: str
    ) -> Sequence[Outgoing]:
        return [Outgoing("llm.dead-letters", reason.encode(), detail.encode())]


class Routes(Protocol):
    """A route stage, or what wraps one."""

    @property
    def dead_letters(self) -> LastResort: ...

    def decide(self, record: Record) -> Sequence[Outgoing]: ...


def decided(router: Routes, record: Record) -> Sequence[Outgoing]:
    """What route makes of a record, as the runtime asks it."""
    return Shell(router.dead_letters).decide(router.decide, record)


async def handled(worker: Worker, record: Record, slot: Slot) -> Sequence[Outgoing]:
    """What a worker makes of a record, as the runtime asks it."""
    return await Shell(worker.dead_letters).handle(worker.handle(record, slot), record)


class Restless:
    """A record's place, in a partition that is ours, that nobody waits in."""

    async def wait(self, seconds: float, *, keeps_place: bool = False, paid: bool = False) -> None:
        """Fail the test."""
        raise AssertionError

    async def may_call(self, *, paid: bool = False) -> bool:
        """It is."""
        return True

    def is_ours(self) -> bool:
        """It stays so."""
        return True
