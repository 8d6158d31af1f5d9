"""Bulk work: one decision on many cases, slowly enough, and told case by case.

A job lies in the store before it begins. Each of its decisions has an id of its own that does not
change, so whoever goes on after a crash decides nothing twice.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import structlog

from consumers.console.deciding import Desk, ImpossibleError, NotSentError, decision_of
from consumers.console.errors import CaseError
from consumers.console.jobs import Job, Outcome
from consumers.console.rows import Case, CaseFilter
from consumers.console.store import Held
from router.review import answers_of, price_at, refusal_of
from schemas.base import Tier
from schemas.review import Action

__all__ = ["MOST_CASES", "Bulk", "BulkAction", "DryRun"]

_log = structlog.get_logger(__name__)

BulkAction = Literal["approve", "retry", "requeue", "reject", "discard"]

#: As many cases as one job may take on.
MOST_CASES = 5000
_SAMPLE = 5
_LEASE = timedelta(seconds=30)
_LOOK_AGAIN_SECONDS = 0.5
_PAGE = 500


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a job would do, without doing it."""

    cases: int
    #: Cases it would leave alone, by why.
    skipped: Mapping[str, int]
    #: What the calls would cost, at about one call per case, in micro-dollars.
    cost_micros: int
    sample: Sequence[Case]


@dataclass(frozen=True, slots=True)
class Bulk:
    """Starts jobs and works on them."""

    desk: Desk
    #: The store lets one process at a time work on a job.
    runner: str = ""

    async def dry_run(
        self, wanted: CaseFilter, action: BulkAction, tier: Tier | None, most: int
    ) -> DryRun:
        """What would be done to the cases that fit, the most urgent first."""
        skipped: Counter[str] = Counter()
        sample: list[Case] = []
        fit = cost = 0
        for place in await self._places(wanted, min(most, MOST_CASES)):
            why, case, price = await self._prospect(place, action, tier)
            if why is not None:
                skipped[why] += 1
                continue
            fit, cost = fit + 1, cost + price
            if case is not None and len(sample) < _SAMPLE:
                sample.append(case)
        return DryRun(fit, skipped, cost, sample)

    async def start(
        self,
        who: str,
        wanted: CaseFilter,
        action: BulkAction,
        *,
        tier: Tier | None = None,
        reason: str = "",
        most: int = MOST_CASES,
        per_second: float = 10.0,
    ) -> Job:
        """Write a job down; whichever console is free works on it.

        Raises JobRunningError, and ImpossibleError for a discard without a reason.
        """
        if action == "discard" and not reason.strip():
            words = "say why they are discarded"
            raise ImpossibleError(words)
        places = await self._places(wanted, min(most, MOST_CASES))
        asked = {
            "action": action,
            "tier": tier,
            "reason": reason,
            "per_second": per_second,
            "filter": {
                k: sorted(v) if k == "tenants" else v
                for k in CaseFilter.__slots__
                if (v := getattr(wanted, k))
            },
        }
        job_id = f"job-{secrets.token_hex(6)}"
        now = self.desk.clock()
        job = await self.desk.store.jobs.start(job_id, action, who, asked, places, now)
        await self.desk.note(who, "job", note=f"{job_id}: {action} on {len(places)} cases")
        return job

    async def run(self) -> None:
        """Work on whatever job there is, for ever."""
        runner = self.runner or secrets.token_hex(6)
        while True:
            try:
                job = await self.desk.store.jobs.take(runner, self.desk.clock(), _LEASE)
                if job is not None:
                    await self._some_of(job, runner)
                    continue
            except Exception:  # noqa: BLE001  whatever it is, the console goes on
                _log.exception("job stopped; it goes on where it was")
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _some_of(self, job: Job, runner: str) -> None:
        """Work on a job for a while, at its speed; end it when nothing is left."""
        jobs, clock = self.desk.store.jobs, self.desk.clock
        waiting = await jobs.waiting(job.job_id)
        if not waiting:
            if await jobs.end(job.job_id, "done", clock()):
                await self.desk.note(job.who, "job", note=f"{job.job_id}: done")
            return
        for place in waiting:
            if not await jobs.waiting(job.job_id, limit=1):
                return  # cancelled
            if await jobs.take(runner, clock(), _LEASE) is None:
                return
            outcome, detail = await self._decide(job, place)
            await jobs.note(job.job_id, place, outcome, detail)
            await asyncio.sleep(1 / float(job.wanted["per_second"]))

    async def _decide(self, job: Job, place: str) -> tuple[Outcome, str]:
        """One case of a job: what became of it, and why in words."""
        desk, wanted = self.desk, job.wanted
        decision_id = f"{job.job_id}.{place}"[-200:]
        try:
            case = await desk.store.claim(place, job.who, desk.clock(), desk.lease)
            found = await desk.store.content(place)
            if isinstance(case, Held):
                return "skipped", f"{case.by} holds it"
            if found is None:
                return "skipped", "it is gone"
            action: Action = wanted["action"]
            answers = answers_of(found.letter)
            decision = decision_of(
                case,
                found.letter,
                action,
                decision_id=decision_id,
                attempt_id=answers[-1].attempt_id if action == "approve" and answers else None,
                tier=Tier(wanted["tier"]) if wanted.get("tier") else None,
                reason=wanted.get("reason", ""),
                undo_seconds=0.0,
            )
            await desk.decide(job.who, case.version, decision)
        except NotSentError as error:
            return "done", str(error)
        except ImpossibleError as error:
            await desk.store.release(place, job.who, desk.clock())
            return "skipped", str(error)
        except CaseError as error:
            # Whoever worked on the job before may have ended between the decision and its note.
            if error.case is None or error.case.decision_id != decision_id:
                return "skipped", str(error)
        return "done", ""

    async def _prospect(
        self, place: str, action: BulkAction, tier: Tier | None
    ) -> tuple[str | None, Case | None, int]:
        """Why a case would be left alone; else the case and what it would cost."""
        desk = self.desk
        case, found = await desk.store.case(place, desk.clock()), await desk.store.content(place)
        if case is None or found is None:
            return "it is gone", None, 0
        if case.state != "open":
            return f"it is {case.state}", case, 0
        if case.held_by is not None:
            return f"{case.held_by} holds it", case, 0
        answers = answers_of(found.letter)
        decision = decision_of(
            case,
            found.letter,
            action,
            decision_id="dry-run",
            attempt_id=answers[-1].attempt_id if action == "approve" and answers else None,
            tier=tier,
        )
        why = refusal_of(decision, found.letter, desk.policy)
        price = 0
        if why is None and action in ("retry", "requeue"):
            row = desk.policy.tasks.get(found.letter.task or "")
            first = row.tier if row else next(iter(desk.policy.tiers))
            price = price_at(found.letter, tier or first, desk.policy)
        return why, case, price

    async def _places(self, wanted: CaseFilter, most: int) -> list[str]:
        places: list[str] = []
        now = self.desk.clock()
        while len(places) < most:
            after = places[-1] if places else None
            size = min(_PAGE, most - len(places))
            found = await self.desk.store.cases(wanted, now, size, after)
            places += [case.place for case in found]
            if len(found) < size:
                break
        return places
