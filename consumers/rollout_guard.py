"""The guard of a rollout: judges its arms, takes the candidate on, or takes all requests back."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from consumers import clock
from consumers.policies import Policies
from consumers.policy_log import ActRefusedError, Draft, PolicyLog, read_log, write_act
from consumers.readmodel.arms import Compared, Marks, Slice, arms_of, marks_before
from consumers.readmodel.model import ReadModel
from consumers.runtime.clients import KAFKA_IS_AWAY
from consumers.settings import Settings
from router.policy.table import Policy
from router.releases.canary import STEPS, Comparison, Step, Verdict, compared, judged, mismatch
from schemas.errors import TierlineError

__all__ = ["RolloutGuard"]

_log = structlog.get_logger(__name__)

_EACH_SECONDS = 30.0


@dataclass(slots=True)
class RolloutGuard:
    """Judges the rollout that there is."""

    settings: Settings
    policy: Policy
    model: ReadModel
    #: What it takes to go on from each share.
    least: Sequence[Step] = STEPS
    #: What was usual before a rollout, and what was read of it since, by the act that started it.
    _looks: dict[int, tuple[Marks | None, list[Slice]]] = field(default_factory=dict)

    async def run(self, policies: Policies) -> None:
        """Do what follows for each candidate until cancelled; what keeps it from that is logged."""
        trouble = ""
        while True:
            await asyncio.sleep(_EACH_SECONDS)
            try:
                if policies.facts()["candidate"] is not None:
                    await self.act(clock.now())
                trouble = ""
            except (TierlineError, *KAFKA_IS_AWAY) as error:
                words = str(error) or type(error).__name__
                if words != trouble:
                    trouble = words
                    _log.warning("rollout not judged", why=trouble)

    async def act(self, now: datetime) -> Verdict | None:
        """Judge the rollout, and write the act that follows; None where there is no rollout.

        Raises TierlineError for whatever keeps it from that.
        """
        log = await read_log(self.settings, self.policy.name)
        judgement, candidate = await self.judge(log, now), log.standing.candidate
        if judgement is None or candidate is None:
            return None
        verdict, release = judgement[0], candidate.release
        if verdict.what == "wait":
            return verdict
        is_over = verdict.what == "stop"
        fields = {
            "what": "stop" if is_over else "step",
            "who": "guard",
            "why": verdict.words,
            "version": release.version,
            "digest": release.digest,
            "seal": release.seal,
            **({} if is_over else {"share": verdict.share}),
        }

        def draft(newest: PolicyLog) -> Draft:
            if newest.standing.candidate != candidate:
                msg = "somebody else has moved the candidate in the meantime"
                raise ActRefusedError(msg)
            return Draft(fields)

        await write_act(self.settings, self.policy.name, draft)
        _log.warning("rollout moved", what=verdict.what, why=verdict.words)
        return verdict

    async def judge(self, log: PolicyLog, now: datetime) -> tuple[Verdict, list[Comparison]] | None:
        """What is to be done with the candidate, and the figures; None where there is none."""
        active, candidate = log.standing.active, log.standing.candidate
        if active is None or candidate is None:
            return None
        start = candidate.act
        steps = [
            (logged.act.share or 0.0, logged.at)
            for logged in log.acts
            if logged.refusal is None and logged.act.number >= start.number
            if logged.act.what in ("start", "step")
        ]
        what = Compared(active.digest, candidate.release.digest, steps, start, self.policy)
        await self.model.refresh()
        if start.number not in self._looks:
            before = await self.model.ask(lambda tables: marks_before(tables, what))
            self._looks = {start.number: (before, [])}
        marks, known = self._looks[start.number]
        arms = await self.model.ask(lambda tables: arms_of(tables, what, marks, now, known))
        verdict = judged(arms, candidate.since, candidate.steps, now, self.least)
        return verdict, [mismatch(arms), *compared(arms)]
