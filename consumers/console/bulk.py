"""Jobs: one decision on many cases, at a limited rate, with an outcome for each case.

A job is stored before it begins. The ids of its decisions are derived from the job and the case, so
a process that continues it after a crash decides nothing twice.
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
from router.review.decisions import (
    answers_of,
    hash_of_answers,
    most_price_at,
    price_at,
    refusal_of,
    wants_approval,
)
from schemas.base import Tier
from schemas.dead_letter import DeadLetter
from schemas.review import Action, Decision

__all__ = ["MOST_CASES", "Bulk", "BulkAction", "DryRun", "PerSecond"]

_log = structlog.get_logger(__name__)

BulkAction = Literal["approve", "retry", "requeue", "reject", "discard"]

#: The most cases of one job.
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
    #: How many cases it would skip, by the reason in words.
    skipped: Mapping[str, int]
    #: The cost of one call per case, in micro-dollars.
    cost_micros: int
    #: The cost where every request escalates as far as the policy allows.
    most_cost_micros: int
    #: How many of the cases a person has to approve, whatever the checks say.
    approvals: int
    sample: Sequence[Case]
    #: The hash of the answers that would be approved, by case.
    seen: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Bulk:
    """Starts jobs and works on them."""

    reviews: ReviewService
    #: The store lets one process at a time work on a job.
    runner: str = ""

    async def dry_run(
        self, case_filter: CaseFilter, action: BulkAction, tier: Tier | None, most: int
    ) -> DryRun:
        """What a job would do to the matching cases, the most urgent first."""
        skipped: Counter[str] = Counter()
        sample: list[Case] = []
        seen: dict[str, str] = {}
        fit = cost = most_cost = approvals = 0
        for place in await self._places(case_filter, min(most, MOST_CASES)):
            try:
                case, letter = await self._free(place)
                decision = _decision(case, letter, action, "dry-run", tier)
            except ImpossibleError as error:
                skipped[str(error)] += 1
                continue
            if (why := refusal_of(decision, letter, self.reviews.policy)) is not None:
                skipped[why] += 1
                continue
            fit, approvals = fit + 1, approvals + wants_approval(letter, self.reviews.policy)
            if action in ("retry", "requeue"):
                cost += price_at(letter, tier, self.reviews.policy)
                most_cost += most_price_at(letter, tier, self.reviews.policy)
            if action == "approve":
                seen[place] = hash_of_answers(letter)
            if len(sample) < _SAMPLE:
                sample.append(case)
        return DryRun(fit, skipped, cost, most_cost, approvals, sample, seen)

    async def start(
        self,
        who: str,
        case_filter: CaseFilter,
        action: BulkAction,
        *,
        tier: Tier | None = None,
        reason: str = "",
        most: int = MOST_CASES,
        per_second: float = 10.0,
        seen: Mapping[str, str] | None = None,
    ) -> Job:
        """Store a job; any console may work on it.

        An approval names the answers that a dry run has `seen`, and approves only those. Raises
        JobRunningError, and ImpossibleError for a discard without a reason or an approval without
        `seen`.
        """
        if action == "discard" and not reason.strip():
            words = "give a reason for discarding them"
            raise ImpossibleError(words)
        if action == "approve" and not seen:
            words = "seen: the value of a dry run was expected, which names the answers to approve"
            raise ImpossibleError(words)
        places = await self._places(case_filter, min(most, MOST_CASES))
        if action == "approve" and seen:
            places = [place for place in places if place in seen]
        options = {
            "action": action,
            "tier": tier,
            "reason": reason,
            "per_second": per_second,
            "seen": {place: seen[place] for place in places} if seen else {},
            "filter": {
                name: sorted(value) if name == "tenants" else value
                for name in CaseFilter.__slots__
                if (value := getattr(case_filter, name))
            },
        }
        job_id = f"job-{secrets.token_hex(6)}"
        job = Job(job_id, action, who, "running", self.reviews.clock(), None, options)
        await self.reviews.store.jobs.start(job, places)
        await self.reviews.note(who, "job", note=f"{job_id}: {action} on {len(places)} cases")
        return job

    async def run(self) -> None:
        """Until cancelled, work on all jobs: one case of each in turn, each at its own rate.

        So no job waits for another, however slow that one is.
        """
        runner = self.runner or secrets.token_hex(6)
        due: dict[str, datetime] = {}
        while True:
            with self._logging_failures():
                jobs = await self.reviews.store.jobs.take(runner, self.reviews.clock(), _LEASE)
                due = {job.job_id: due.get(job.job_id, self.reviews.clock()) for job in jobs}
                for job in jobs:
                    if due[job.job_id] > self.reviews.clock():
                        continue
                    with self._logging_failures():
                        await self._one_of(job)
                    due[job.job_id] = self.reviews.clock() + timedelta(
                        seconds=1 / job.wanted["per_second"]
                    )
            now = self.reviews.clock()
            rest = min((at - now for at in due.values()), default=_LOOK_AGAIN)
            await asyncio.sleep(max(min(rest, _LOOK_AGAIN).total_seconds(), 0))

    @contextlib.contextmanager
    def _logging_failures(self) -> Iterator[None]:
        """Log whatever fails, so that the console and every other job continue."""
        try:
            yield
        except Exception:  # noqa: BLE001  it is logged
            _log.exception("job interrupted; it continues where it was")

    async def _one_of(self, job: Job) -> None:
        """Work on a job's next case, or end the job when no case is left."""
        jobs = self.reviews.store.jobs
        for place in await jobs.waiting(job.job_id, limit=1):
            outcome, detail = await self._decide(job, place)
            await jobs.note(job.job_id, place, outcome, detail)
            return
        if await jobs.end(job.job_id, "done", self.reviews.clock()):
            await self.reviews.note(job.who, "job", note=f"{job.job_id}: done")

    async def _decide(self, job: Job, place: str) -> tuple[Outcome, str]:
        """Decide on one case of a job; return the outcome, and why in words."""
        reviews, options = self.reviews, job.wanted
        decision_id = f"{job.job_id}.{place}"[-200:]
        try:
            case = await reviews.store.claim(place, job.who, reviews.clock(), reviews.lease)
            record = await reviews.store.content(place)
            if isinstance(case, Held):
                return "skipped", f"{case.by} holds it"
            if record is None:
                return "skipped", "it is gone"
            tier = Tier(options["tier"]) if options.get("tier") else None
            rest = {"reason": options.get("reason", ""), "undo_seconds": 0.0}
            decision = _decision(case, record.letter, options["action"], decision_id, tier, **rest)
            seen = options.get("seen", {}).get(place)
            await reviews.decide(job.who, case.version, decision, seen=seen)
        except NotSentError as error:
            return "done", str(error)
        except (ImpossibleError, UnseenError) as error:
            await reviews.store.release(place, job.who, reviews.clock())
            return "skipped", str(error)
        except CaseError as error:
            # A process may have ended between this decision and noting its outcome.
            if error.case is None or error.case.decision_id != decision_id:
                return "skipped", str(error)
        return "done", ""

    async def _free(self, place: str) -> tuple[Case, DeadLetter]:
        """A case that nobody works on. Raises ImpossibleError for any other."""
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

    async def _places(self, case_filter: CaseFilter, most: int) -> list[str]:
        places: list[str] = []
        now = self.reviews.clock()
        while len(places) < most:
            after = places[-1] if places else None
            size = min(_PAGE, most - len(places))
            page = await self.reviews.store.cases(case_filter, now, size, after)
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
    """A decision of a job; an approval is about the last answer."""
    answers = answers_of(letter) if action == "approve" else []
    chosen = answers[-1].attempt_id if answers else None
    return decision_of(
        case, letter, action, decision_id=decision_id, attempt_id=chosen, tier=tier, **fields
    )
