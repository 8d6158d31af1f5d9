"""A stage as somebody might add one, all of it: every answer is noted as accepted."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from consumers import clock
from consumers.records import Record, told_at
from consumers.runtime.executor import SyncExecutor
from consumers.runtime.shell import Shell
from consumers.runtime.spec import StageSpec
from consumers.runtime.stage import Stage
from consumers.stages.contract import Process, StageKind
from consumers.stages.dead_letters import DeadLetters
from schemas.codec import Outgoing, dump, read_model
from schemas.feedback import Feedback
from schemas.result import Result
from schemas.topics import Topics

__all__ = ["KIND"]

SPEC = StageSpec("accepting", reads=("llm.results",), writes=("llm.feedback", "llm.dead-letters"))


@dataclass(frozen=True)
class Accepting:
    """Decides for one result; the runtime commits what it returns."""

    topics: Topics

    def decide(self, record: Record) -> Sequence[Outgoing]:
        """One feedback for a final answer. Raises ContractError."""
        result = read_model(Result, record.value)
        if not result.router.final:
            return ()
        feedback = Feedback(
            request_id=result.id,
            tenant=result.router.tenant,
            kind="accepted",
            at=told_at(record),
        )
        fields = feedback.model_dump(mode="json", exclude_none=True)
        return [Outgoing(self.topics.feedback, record.key, dump(fields))]


@contextlib.asynccontextmanager
async def _open(process: Process) -> AsyncIterator[Stage]:
    topics, guard = process.settings.kafka.topics, process.guard(SPEC.name)
    shell = Shell(DeadLetters(SPEC.name, topics, clock.now, process.telemetry.observer))
    decide = Accepting(topics).decide
    executor = SyncExecutor(decide, shell, guard, process.telemetry.tracing)
    yield Stage(SPEC, process.clients, executor, shell, guard, drain_for=process.drain_for)


KIND = StageKind(SPEC, _open, role="accepting")
