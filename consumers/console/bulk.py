"""Bulk work: one decision on many cases, slowly enough, and told case by case.

A job lies in the store before it begins. Each of its decisions has an id of its own that does not
change, so whoever goes on after a crash decides nothing twice.
"""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import structlog
from pydantic import Field

from consumers.console.errors import (
    CaseError,
    ImpossibleError,
    NotSentError,
    UnknownCaseError,
    UnseenError,
)
from consumers.console.jobs import Job, Outcome
from consumers.console.queries import CaseFilter
from consumers.console.review_service import ReviewService, decision_of
from consumers.console.store import Held
from consumers.console.tables import Case
from router.review.decisions import answers_of, hash_of_answers, price_at, refusal_of
from schemas.base import Tier
from schemas.dead_letter import DeadLetter
from schemas.review import Action, Decision

__all__ = ["MOST_CASES", "Bulk", "BulkAction", "DryRun", "PerSecond"]

_log = structlog.get_logger(__name__)

BulkAction = Literal["approve", "retry", "requeue", "reject", "discard"]

#: As many cases as one job may take on.
MOST_CASES = 5000
#: Cases per second; 5,000 of them take two days at the slowest.
_SLOWEST, _FASTEST = 0.03, 200.0
PerSecond = Annotated[float, Field(ge=_SLOWEST, le=_FASTEST, allow_inf_nan=False)]
_SAMPLE = 5
_LEASE = timedelta(seconds=30)
_LOOK_AGAIN = timedelta(seconds=0.5)
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
    #: The answers that would be approved, as a hash by case.
    seen: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Bulk:
    """Starts jobs and works on them."""

    reviews: ReviewService
    #: The store lets one process at a time work on a job.
    runner: str = ""

    async def dry_run(
        self, wanted: CaseFilter, action: BulkAction, tier: Tier | None, most: int
    ) -> DryRun:
        """What would be done to the cases that fit, the most urgent first."""
        skipped: Counter[str] = Counter()
        sample: list[Case] = []
        seen: dict[str, str] = {}
        fit = cost = 0
        for place in await self._places(wanted, min(most, MOST_CASES)):
            try:
                case, letter = await self._free(place)
                decision = _decision(case, letter, action, "dry-run", tier)
            except ImpossibleError as error:
                skipped[str(error)] += 1
                continue
            if (why := refusal_of(decision, letter, self.reviews.policy)) is not None:
                skipped[why] += 1
                continue
            fit, cost = fit + 1, cost + self._price(letter, action, tier)
            if action == "approve":
                seen[place] = hash_of_answers(letter)
            if len(sample) < _SAMPLE:
                sample.append(case)
        return DryRun(fit, skipped, cost, sample, seen)

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
        seen: Mapping[str, str] | None = None,
    ) -> Job:
        """Write a job down; whichever console is free works on it.

        Who approves has `seen` a dry run's answers, and approves those alone. Raises
        JobRunningError, and ImpossibleError for a discard without a reason or an approval of
        what was not seen.
        """
        if action == "discard" and not reason.strip():
            words = "say why they are discarded"
            raise ImpossibleError(words)
        if action == "approve" and not seen:
            words = "seen: the answers to approve were expected, as a dry run has them"
            raise ImpossibleError(words)
        places = await self._places(wanted, min(most, MOST_CASES))
        if action == "approve" and seen:
            places = [place for place in places if place in seen]
        asked = {
            "action": action,
            "tier": tier,
            "reason": reason,
            "per_second": per_second,
            "seen": {place: seen[place] for place in places} if seen else {},
            "filter": {
                k: sorted(v) if k == "tenants" else v
                for k in CaseFilter.__slots__
                if (v := getattr(wanted, k))
            },
        }
        job_id = f"job-{secrets.token_hex(6)}"
        now = self.reviews.clock()
        job = await self.reviews.store.jobs.start(job_id, action, who, asked, places, now)
        await self.reviews.note(who, "job", note=f"{job_id}: {action} on {len(places)} cases")
        return job

    async def run(self) -> None:
        """Until cancelled, work on all jobs: a case of each in turn, each at its own speed.

        So no job waits for another, however slow that one is.
        """
        runner = self.runner or secrets.token_hex(6)
        due: dict[str, datetime] = {}
        while True:
            with self._going_on():
                jobs = await self.reviews.store.jobs.take(runner, self.reviews.clock(), _LEASE)
                due = {job.job_id: due.get(job.job_id, self.reviews.clock()) for job in jobs}
                for job in jobs:
                    if due[job.job_id] > self.reviews.clock():
                        continue
                    with self._going_on():
                        await self._one_of(job)
                    due[job.job_id] = self.reviews.clock() + _pause(job)
            now = self.reviews.clock()
            rest = min((at - now for at in due.values()), default=_LOOK_AGAIN)
            await asyncio.sleep(max(min(rest, _LOOK_AGAIN).total_seconds(), 0))

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """Log whatever fails: the console goes on, and so does every other job."""
        try:
            yield
        except Exception:  # noqa: BLE001  whatever it is, it is logged
            _log.exception("job stopped; it goes on where it was")

    async def _one_of(self, job: Job) -> None:
        """Work on a job's next case; end it when nothing is left. None is left of one cancelled."""
        jobs = self.reviews.store.jobs
        for place in await jobs.waiting(job.job_id, limit=1):
            outcome, detail = await self._decide(job, place)
            await jobs.note(job.job_id, place, outcome, detail)
            return
        if await jobs.end(job.job_id, "done", self.reviews.clock()):
            await self.reviews.note(job.who, "job", note=f"{job.job_id}: done")

    async def _decide(self, job: Job, place: str) -> tuple[Outcome, str]:
        """One case of a job: what became of it, and why in words."""
        reviews, wanted = self.reviews, job.wanted
        decision_id = f"{job.job_id}.{place}"[-200:]
        try:
            case = await reviews.store.claim(place, job.who, reviews.clock(), reviews.lease)
            record = await reviews.store.content(place)
            if isinstance(case, Held):
                return "skipped", f"{case.by} holds it"
            if record is None:
                return "skipped", "it is gone"
            tier = Tier(wanted["tier"]) if wanted.get("tier") else None
            rest = {"reason": wanted.get("reason", ""), "undo_seconds": 0.0}
            decision = _decision(case, record.letter, wanted["action"], decision_id, tier, **rest)
            seen = wanted.get("seen", {}).get(place)
            await reviews.decide(job.who, case.version, decision, seen=seen)
        except NotSentError as error:
            return "done", str(error)
        except (ImpossibleError, UnseenError) as error:
            await reviews.store.release(place, job.who, reviews.clock())
            return "skipped", str(error)
        except CaseError as error:
            # Whoever worked on the job before may have ended between the decision and its note.
            if error.case is None or error.case.decision_id != decision_id:
                return "skipped", str(error)
        return "done", ""

    async def _free(self, place: str) -> tuple[Case, DeadLetter]:
        """A case that nobody works on. Raises ImpossibleError, which says why it is none."""
        try:
            case, record = await self.reviews.case(place)
        except UnknownCaseError:
            words = "it is gone"
            raise ImpossibleError(words) from None
        if case.state != "open":
            words = f"it is {case.state}"
            raise ImpossibleError(words)
        if case.held_by is not None:
            words = f"{case.held_by} holds it"
            raise ImpossibleError(words)
        return case, record.letter

    def _price(self, letter: DeadLetter, action: BulkAction, tier: Tier | None) -> int:
        if action not in ("retry", "requeue"):
            return 0
        policy = self.reviews.policy
        row = policy.tasks.get(letter.task or "")
        first = row.tier if row else next(iter(policy.tiers))
        return price_at(letter, tier or first, policy)

    async def _places(self, wanted: CaseFilter, most: int) -> list[str]:
        places: list[str] = []
        now = self.reviews.clock()
        while len(places) < most:
            after = places[-1] if places else None
            size = min(_PAGE, most - len(places))
            page = await self.reviews.store.cases(wanted, now, size, after)
            places += [case.place for case in page]
            if len(page) < size:
                break
        return places


def _decision(
    case: Case,
    letter: DeadLetter,
    action: Action,
    decision_id: str,
    tier: Tier | None,
    **fields: Any,
) -> Decision:
    """One of a job's decisions: the last answer is what an approval is about."""
    answers = answers_of(letter) if action == "approve" else []
    chosen = answers[-1].attempt_id if answers else None
    return decision_of(
        case, letter, action, decision_id=decision_id, attempt_id=chosen, tier=tier, **fields
    )


def _pause(job: Job) -> timedelta:
    """Between two cases; a speed that was written down before there were bounds is within them."""
    speed = float(job.wanted["per_second"])
    return timedelta(seconds=1 / min(max(speed, _SLOWEST), _FASTEST))
