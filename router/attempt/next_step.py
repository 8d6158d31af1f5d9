"""The next step: what follows an attempt inside a tier.

The worker's only decision, and the only place where retries are decided: call (again), answer,
escalate, or give up. The limits come from the envelope, so how often a request is tried depends on
nothing that a process remembers.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from router.attempt.agreement import agreeing, standing
from router.attempt.pauses import LONGEST_WAIT, waits_of
from router.policy.table import Policy, Task
from router.route.overflow import overflow_of
from router.route.routing import GiveUp
from schemas.admission import Need
from schemas.attempt import Attempt, Step
from schemas.base import Tier
from schemas.escalation import Assignment, Escalation, RouteTaken
from schemas.reasons import Reason

__all__ = [
    "Answer",
    "CallModel",
    "Escalate",
    "NextStep",
    "Refuse",
    "Wait",
    "answer_of",
    "crowded",
    "failed_enough",
    "next_step",
    "spent",
    "untried",
    "used_up",
]

_FIRST_WAIT = timedelta(milliseconds=500)

#: The model would fail this call each time.
_DETERMINISTIC = (Reason.PROVIDER_REJECTED, Reason.CONTEXT_OVERFLOW, Reason.UNREADABLE_REPLY)


@dataclass(frozen=True, slots=True)
class CallModel:
    """Call this model, after a wait that the caller may jitter downwards."""

    model: str
    wait: timedelta = timedelta(0)
    step: Step = "answer"


@dataclass(frozen=True, slots=True)
class Answer:
    """An attempt is the answer: the one that `answer_of` finds, else the last one, in doubt."""

    #: Why it is published in doubt, with the task's caveat; empty where it passed its checks.
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The model has refused, and the task's canned refusal is the result."""

    detail: str


@dataclass(frozen=True, slots=True)
class Escalate:
    """Hand the request back to route."""

    reason: Reason
    detail: str
    #: Why it pays to ask a dearer model, with the figures; empty where that is not asked.
    weighed: str = ""
    #: What its next reservation has to cover, where the present one does not cover a call.
    need: Need | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Every model that could be called is out; decide again in a moment."""


NextStep = CallModel | Answer | Refuse | Escalate | GiveUp | Wait
_NOTHING: Mapping[str, str] = {}


def next_step(
    assignment: Assignment,
    attempts: Sequence[Attempt],
    policy: Policy,
    now: datetime,
    *,
    retry_after: float | None = None,
    lacks: Mapping[str, str] = _NOTHING,
    narrow: Collection[str] = (),
    is_out: Callable[[str], bool] = lambda _: False,
) -> NextStep:
    """Decide what follows the attempts made under this assignment so far.

    A judged reply ends the tier's work: an accepted one is the answer, a rejected one escalates.
    Where the task wants several answers, or another model to verify one, those calls come first.
    Availability failures stay in the tier: one retry where that is allowed, then the tier's next
    model. A model that throttles is called again after growing pauses, as long as the deadline
    allows. Where no other model may stand in, a person has the request instead. Deadline beats
    budget, budget beats quality. `retry_after`: seconds left of the wait that the provider asked
    for at the last attempt. `lacks`: what a model cannot take of the request, by model. `narrow`:
    models whose window seems too small for it. `is_out`: whether a model must not be called now;
    that costs no attempt.
    """
    last = attempts[-1] if attempts else None
    task, route = policy.tasks.get(assignment.task or ""), assignment.route
    step = last.step if last is not None else route.step
    if last is not None and last.was_judged:
        following = _after_reply(route, assignment.task, attempts, last, task)
        if not isinstance(following, str):
            return following
        step = following
    if (over := used_up(assignment, attempts, policy, now)) is not None:
        return over
    ways = _ways(step, assignment, task, attempts, policy, is_seen=route.needs_person)
    # The models that may be called again when no other is left.
    waits = {} if ways.climbs_now else waits_of(step, assignment, attempts, now, retry_after)
    models = _candidates(step, assignment, route.tier, attempts, policy)
    failed = last if last is not None and not last.was_judged else None
    if not ways.falls_back:
        # The first that takes the request, and nobody in its place.
        models = [] if failed else _able(step, models, lacks, narrow)[:1] or models
    if failed is not None:
        if (stop := _failed_for_good(assignment, attempts, failed, policy, ways)) is not None:
            return stop
        wait = _FIRST_WAIT if retry_after is None else timedelta(seconds=retry_after)
        is_in_time = wait <= LONGEST_WAIT and now + wait < assignment.deadline
        others = _able(step, models, lacks, narrow)
        if is_in_time and _may_repeat(failed, attempts) and (others or failed.model not in waits):
            if not is_out(failed.model):
                return CallModel(failed.model, wait, step)
            waits.setdefault(failed.model, wait)
        models = _backups(failed, models, policy)

    able = _able(step, models, lacks, narrow)
    able += [name for name in waits if name not in able]
    if not able:
        unfit = [f"{name} does not take {lacks[name]}" for name in models]
        return _nobody_left(step, route.tier, last, ways, unfit)
    ready = next((name for name in able if not is_out(name)), None)
    if ready is not None:
        return CallModel(ready, waits.get(ready, timedelta(0)), step)
    detail = f"every model of {route.tier} is out"
    if ways.overflows or ways.climbs_now:
        reason = Reason.OVERFLOW if ways.overflows else Reason.PROVIDER_UNAVAILABLE
        return Escalate(reason, detail)
    return Wait()


@dataclass(frozen=True, slots=True)
class _Ways:
    """What is left to a request when a model cannot take it, beside asking that one again."""

    #: Another model of the tier may stand in.
    falls_back: bool
    #: It climbs in an outage, and its present step lets it.
    climbs: bool
    climbs_now: bool
    #: Another tier takes its overflow.
    overflows: bool


def _ways(
    step: Step,
    assignment: Assignment,
    task: Task | None,
    attempts: Sequence[Attempt],
    policy: Policy,
    *,
    is_seen: bool,
) -> _Ways:
    # Whoever reads an answer, or gives a second opinion of it, says nothing to the user.
    is_unanswered = step == "answer" and answer_of(attempts) is None
    may = task is None or task.may_fall_back(is_seen=is_seen)
    climbs = task is not None and task.on_outage == "next_tier" and may
    spills = is_unanswered and task is not None and task.overflow is not None
    return _Ways(
        falls_back=may or not is_unanswered,
        climbs=climbs,
        climbs_now=climbs and step == "answer",
        overflows=spills and overflow_of(assignment, attempts, policy) is not None,
    )


def crowded(assignment: Assignment, attempts: Sequence[Attempt], policy: Policy) -> Escalate | Wait:
    """What follows instead of a call when the task has as many calls running as it may."""
    if overflow_of(assignment, attempts, policy) is not None:
        return Escalate(Reason.OVERFLOW, f"all slots of {assignment.task} are taken")
    return Wait()


def answer_of(attempts: Sequence[Attempt]) -> Attempt | None:
    """The answer among an assignment's attempts: the first one that passed its checks."""
    return next((a for a in attempts if a.outcome == "accepted" and a.step != "verify"), None)


def _after_reply(
    route: RouteTaken,
    name: str | None,
    attempts: Sequence[Attempt],
    last: Attempt,
    task: Task | None,
) -> NextStep | Step:
    """What a judged reply leads to: the end of the tier's work, or the step of a further call."""
    answer = answer_of(attempts)
    if answer is None:
        return _rejected(last, task)
    if last.step == "verify":
        return _verified(route, name, last, task)
    if route.step == "answer" and task is not None:
        if task.agreement is not None:
            answers = [
                attempt for attempt in attempts if attempt.step == "answer" and attempt.was_judged
            ]
            state = standing(answers, task.agreement)
            if state == "open":
                return "answer"
            if state == "disagreed":
                count = agreeing(answers, task.agreement)
                detail = f"{count} of {len(answers)} answers say the same"
                return Escalate(Reason.MODELS_DISAGREE, detail)
        if task.verify is not None:
            return "verify"
    return _accepted(route, name, task)


def used_up(
    envelope: Assignment | Escalation, attempts: Sequence[Attempt], policy: Policy, now: datetime
) -> GiveUp | None:
    """Gives up when the request's time or its allowance is used up."""
    if now >= envelope.deadline:
        return GiveUp(Reason.DEADLINE_PASSED, f"the deadline was {envelope.deadline.isoformat()}")
    if spent(attempts) >= envelope.attempts_left:
        return GiveUp(Reason.ATTEMPTS_EXHAUSTED, f"{policy.limits.attempts} attempts were allowed")
    return None


def _rejected(last: Attempt, task: Task | None) -> NextStep:
    reason = last.reason or Reason.LOW_CONFIDENCE
    if reason is Reason.REFUSED and task is not None:
        if task.on_refusal == "review":
            return GiveUp(reason, last.detail)
        if task.on_refusal == "deliver":
            return Refuse(last.detail)
    return Escalate(reason, last.detail)


def _verified(
    route: RouteTaken, name: str | None, last: Attempt, task: Task | None
) -> NextStep | Step:
    if last.outcome == "accepted":
        return _accepted(route, name, task)
    if last.reason is not Reason.VERIFIER_REJECTED:
        return "verify"  # no usable verdict: it is the next verifier's turn
    return Escalate(Reason.VERIFIER_REJECTED, last.detail)


def _failed_for_good(
    assignment: Assignment,
    attempts: Sequence[Attempt],
    last: Attempt,
    policy: Policy,
    ways: _Ways,
) -> GiveUp | Escalate | None:
    """Gives up, or goes elsewhere, when a failed call must not be followed by another one."""
    name = assignment.task
    if name is None or name not in policy.tasks:
        return None
    if last.reason is Reason.OUTCOME_UNKNOWN and policy.tasks[name].unknown_outcome == "park":
        return GiveUp(Reason.OUTCOME_UNKNOWN, f"{last.model}: {last.detail}")
    stop = failed_enough([*assignment.own_attempts, *attempts], name, policy)
    if stop is None:
        return None
    detail = f"{last.model}: {last.detail}; {stop}"
    if ways.overflows:
        return Escalate(Reason.OVERFLOW, detail)
    return GiveUp(Reason.PROVIDER_UNAVAILABLE, detail)


def spent(attempts: Sequence[Attempt]) -> int:
    """How much of a request's allowance attempts use up: throttled ones use none."""
    return sum(1 for attempt in attempts if attempt.reason is not Reason.THROTTLED)


def failed_enough(attempts: Sequence[Attempt], task: str, policy: Policy) -> str | None:
    """The limit in words, once as many answers have failed as the task's row allows; else None."""
    failures = sum(
        1
        for attempt in attempts
        # A throttled call has not failed.
        if attempt.step != "classify"
        and attempt.outcome != "accepted"
        and attempt.reason is not Reason.THROTTLED
    )
    limit = policy.tasks[task].failure_limit
    return f"{failures} attempts failed and {limit} are the limit" if failures >= limit else None


def untried(
    tier: Tier, task: str | None, step: Step, attempts: Sequence[Attempt], policy: Policy
) -> list[str]:
    """The tier's models that have not been called in this step."""
    tried = {attempt.model for attempt in attempts if attempt.step == step}
    return [name for name in policy.models_of(tier, task) if name not in tried]


def _accepted(route: RouteTaken, name: str | None, task: Task | None) -> NextStep:
    if route.step == "classify":
        return Escalate(Reason.CLASSIFIED, "")
    if route.needs_person or (task is not None and task.approval != "none"):
        whose = "this answer" if route.needs_person else f"answers to {name}"
        words = f"the policy wants a person to approve {whose}"
        return GiveUp(Reason.APPROVAL_REQUIRED, words)

    return Answer()


def _may_repeat(last: Attempt, attempts: Sequence[Attempt]) -> bool:
    """Once per model and step: where the call did not run, failed on the way, or may be recalled.

    Answers that count in a vote are no retries.
    """
    failures = sum(
        1
        for attempt in attempts
        if attempt.model == last.model and attempt.step == last.step and not attempt.was_judged
    )
    return failures == 1 and last.reason not in _DETERMINISTIC


def _able(
    step: Step, models: Sequence[str], lacks: Mapping[str, str], narrow: Collection[str]
) -> list[str]:
    """The models that take the request. What we ask ourselves every model can take.

    Where all windows seem too small, the provider knows better: the size is an estimate.
    """
    able = [name for name in models if step != "answer" or name not in lacks]
    return [name for name in able if name not in narrow] or able


def _candidates(
    step: Step, assignment: Assignment, tier: Tier, attempts: Sequence[Attempt], policy: Policy
) -> Sequence[str]:
    """The models that may be called next, in order."""
    task = policy.tasks.get(assignment.task or "")
    answer = answer_of(attempts)
    if step == "verify" and task is not None and task.verify is not None:
        # Each tier's answer is another one, so only this tier's verifications count.
        used = {attempt.model for attempt in attempts if attempt.step == "verify"}
        used |= {answer.model} if answer else set()
        return [name for name in policy.models_of(task.verify.tier) if name not in used]
    if answer is not None and task is not None and task.agreement is not None:
        if task.agreement.of == "same":
            failed = any(a.model == answer.model and not a.was_judged for a in attempts)
            return [] if failed else [answer.model]
    asked = [*assignment.own_attempts, *attempts]
    return untried(tier, assignment.task, step, asked, policy)


def _backups(last: Attempt, models: Sequence[str], policy: Policy) -> Sequence[str]:
    """The models in the order in which they stand in for one that failed.

    Another provider's come first: one that fails often fails with all of its models. Where the
    input was too long, only models with a larger context remain.
    """
    if last.reason is Reason.CONTEXT_OVERFLOW and last.model in policy.models:
        room = policy.models[last.model].context_tokens
        models = [name for name in models if policy.models[name].context_tokens > room]
    return sorted(models, key=lambda name: policy.models[name].provider == last.provider)


def _nobody_left(
    step: Step, tier: Tier, last: Attempt | None, ways: _Ways, unfit: Sequence[str]
) -> NextStep:
    """What follows when no model is left to call in this tier; `unfit`: who lacks what, if any."""
    if last is None and unfit:
        return Escalate(Reason.NO_MODEL_TAKES_IT, unfit[0])
    if last is None:
        return GiveUp(Reason.NO_TIER_LEFT, f"every model of {tier} was tried before")
    if last.was_judged:
        reason = Reason.VERIFIER_REJECTED if step == "verify" else Reason.MODELS_DISAGREE
        return Escalate(reason, f"no model was left to {step} it")
    if ways.overflows and last.reason is not Reason.CONTEXT_OVERFLOW:
        return Escalate(Reason.OVERFLOW, f"{last.model}: {last.detail}")
    if ways.climbs or last.reason is Reason.CONTEXT_OVERFLOW:
        return Escalate(last.reason or Reason.PROVIDER_UNAVAILABLE, last.detail)
    if step == "classify":
        return Escalate(Reason.PROVIDER_UNAVAILABLE, last.detail)
    words = "" if ways.falls_back else "; no other model may stand in unseen"
    return GiveUp(Reason.PROVIDER_UNAVAILABLE, f"{last.model}: {last.detail}{words}")
