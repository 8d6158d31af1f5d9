"""The next step: what follows an attempt inside a tier.

The worker's one decision, and the only place where retries are decided: call (again), answer,
hand back, or give up. It reads the limits from the envelope, so that no memory of a process
decides how often a request is tried.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from router.agreement import agreeing, standing
from router.policy.table import Policy, Task
from router.routing import GiveUp
from schemas.attempt import Attempt, Step
from schemas.base import Tier
from schemas.escalation import Assignment
from schemas.reasons import Reason

__all__ = [
    "Answer",
    "CallModel",
    "Escalate",
    "NextStep",
    "Refuse",
    "Wait",
    "answer_of",
    "failed_enough",
    "next_step",
    "untried",
]

#: Longest wait before a retry that a worker sits out; anything longer is the backup's turn.
LONGEST_WAIT = timedelta(seconds=30)
_FIRST_WAIT = timedelta(milliseconds=500)

#: The model cannot do this call, however often it is asked.
_DETERMINISTIC = (Reason.PROVIDER_REJECTED, Reason.CONTEXT_OVERFLOW, Reason.UNREADABLE_REPLY)


@dataclass(frozen=True, slots=True)
class CallModel:
    """Call this model, after a wait that the caller may jitter downwards."""

    model: str
    wait: timedelta = timedelta(0)
    step: Step = "answer"


@dataclass(frozen=True, slots=True)
class Answer:
    """An attempt of this assignment is the answer: the one that `answer_of` finds."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The model's refusal is delivered, in the task's own words."""

    detail: str


@dataclass(frozen=True, slots=True)
class Escalate:
    """Hand the request back to route."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Every model that could be called is out; ask again in a moment."""


NextStep = CallModel | Answer | Refuse | Escalate | GiveUp | Wait


def next_step(
    assignment: Assignment,
    attempts: Sequence[Attempt],
    policy: Policy,
    now: datetime,
    *,
    retry_after: float | None = None,
    lacks: Callable[[str], str | None] = lambda _: None,
    is_out: Callable[[str], bool] = lambda _: False,
) -> NextStep:
    """Decide what follows the attempts made under this assignment so far.

    A judged reply ends the tier's work: accepted is an answer, rejected climbs. Where the task
    wants more than one answer, or another model to read it, those calls come first. Availability
    failures stay in the tier: one repetition where the task's rule allows it, then the tier's next
    model. Deadline beats budget, budget beats quality. `retry_after`: seconds the provider asked
    us to wait after the last attempt. `lacks`: what of the request a model cannot take, if any.
    `is_out`: whether a model is not to be called just now; that uses up no attempt.
    """
    last = attempts[-1] if attempts else None
    task = policy.tasks.get(assignment.task or "")
    step = last.step if last is not None else assignment.route.step
    if last is not None and last.was_judged:
        following = _after_reply(assignment, attempts, last, task)
        if not isinstance(following, str):
            return following
        step = following
    if (over := _over(assignment, attempts, policy, now)) is not None:
        return over
    again, wait = "", timedelta(0)
    if last is not None and not last.was_judged:
        if (stop := _failed_for_good(assignment, attempts, last, policy)) is not None:
            return stop
        wait = timedelta(seconds=retry_after) if retry_after is not None else _FIRST_WAIT
        is_in_time = wait <= LONGEST_WAIT and now + wait < assignment.deadline
        may_repeat = _may_repeat(last, attempts)
        if is_in_time and may_repeat and not is_out(last.model):
            return CallModel(last.model, wait, step)
        if is_in_time and (may_repeat or last.reason is Reason.THROTTLED):
            again = last.model  # when nobody else is left to ask

    models = _candidates(step, assignment, attempts, policy)
    if last is not None and not last.was_judged:
        models = _backups(last, models, policy)
    # Classifying and reading ask questions of our own, which any model can take.
    able = [name for name in models if step != "answer" or lacks(name) is None]
    able += [again] if again else []
    if models and not able and last is None:
        return Escalate(Reason.NO_MODEL_TAKES_IT, f"{models[0]} does not take {lacks(models[0])}")
    if not able:
        return _nobody_left(step, assignment, last, task)
    ready = next((name for name in able if not is_out(name)), None)
    if ready is not None:
        return CallModel(ready, wait if ready == again else timedelta(0), step)
    may_climb = task is not None and task.on_outage == "next_tier" and step == "answer"
    detail = f"every model of {assignment.route.tier} is out"
    return Escalate(Reason.PROVIDER_UNAVAILABLE, detail) if may_climb else Wait()


def answer_of(attempts: Sequence[Attempt]) -> Attempt | None:
    """The answer among an assignment's attempts: the first one that passed its checks."""
    return next((a for a in attempts if a.outcome == "accepted" and a.step != "verify"), None)


def _after_reply(
    assignment: Assignment, attempts: Sequence[Attempt], last: Attempt, task: Task | None
) -> NextStep | Step:
    """What a judged reply leads to: an end of the tier's work, or the step of a further call."""
    answer = answer_of(attempts)
    if answer is None:
        return _rejected(last, task)
    if last.step == "verify":
        return _verified(assignment, last, task)
    if assignment.route.step == "answer" and task is not None:
        if task.agreement is not None:
            answers = [one for one in attempts if one.step == "answer" and one.was_judged]
            state = standing(answers, task.agreement)
            if state == "open":
                return "answer"
            if state == "disagreed":
                count = agreeing(answers, task.agreement)
                detail = f"{count} of {len(answers)} answers say the same"
                return Escalate(Reason.MODELS_DISAGREE, detail)
        if task.verify is not None:
            return "verify"
    return _accepted(assignment, task)


def _over(
    assignment: Assignment, attempts: Sequence[Attempt], policy: Policy, now: datetime
) -> GiveUp | None:
    """The end, when the request's time or its allowance is used up."""
    if now >= assignment.deadline:
        return GiveUp(Reason.DEADLINE_PASSED, f"the deadline was {assignment.deadline.isoformat()}")
    if len(attempts) >= assignment.attempts_left:
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


def _verified(assignment: Assignment, last: Attempt, task: Task | None) -> NextStep | Step:
    if last.outcome == "accepted":
        return _accepted(assignment, task)
    if last.reason is not Reason.VERIFIER_REJECTED:
        return "verify"  # a verdict that nobody can use is none: the next verifier reads
    return Escalate(Reason.VERIFIER_REJECTED, last.detail)


def _failed_for_good(
    assignment: Assignment, attempts: Sequence[Attempt], last: Attempt, policy: Policy
) -> GiveUp | None:
    """The end, when a failed call must not be followed by another one."""
    name = assignment.task
    if name is None or name not in policy.tasks:
        return None
    if last.reason is Reason.OUTCOME_UNKNOWN and policy.tasks[name].unknown_outcome == "park":
        return GiveUp(Reason.OUTCOME_UNKNOWN, f"{last.model}: {last.detail}")
    mine = [a for a in assignment.attempts if a.generation == assignment.generation]
    stop = failed_enough([*mine, *attempts], name, policy)
    if stop is None:
        return None
    return GiveUp(Reason.PROVIDER_UNAVAILABLE, f"{last.model}: {last.detail}; {stop}")


def failed_enough(attempts: Sequence[Attempt], task: str, policy: Policy) -> str | None:
    """Words, once as many answers have failed as the task's row allows."""
    failures = sum(
        1
        for one in attempts
        # Who was told to come again later has not failed.
        if one.step != "classify"
        and one.outcome != "accepted"
        and one.reason is not Reason.THROTTLED
    )
    limit = policy.tasks[task].failure_limit
    return f"{failures} attempts failed and {limit} are the limit" if failures >= limit else None


def untried(
    tier: Tier, task: str | None, step: Step, attempts: Sequence[Attempt], policy: Policy
) -> list[str]:
    """The tier's models that have not been asked in this step."""
    tried = {attempt.model for attempt in attempts if attempt.step == step}
    return [name for name in policy.models_of(tier, task) if name not in tried]


def _accepted(assignment: Assignment, task: Task | None) -> NextStep:
    if assignment.route.step == "classify":
        return Escalate(Reason.CLASSIFIED, "")
    if task is not None and task.approval == "person":
        words = f"the policy wants a person to approve answers to {assignment.task}"
        return GiveUp(Reason.APPROVAL_REQUIRED, words)

    return Answer()


def _may_repeat(last: Attempt, attempts: Sequence[Attempt]) -> bool:
    """Once per model and step: where the call did not run, failed on the way, or may be recalled.

    Answers that count in a vote are no repetitions.
    """
    failures = sum(
        1
        for one in attempts
        if one.model == last.model and one.step == last.step and not one.was_judged
    )
    return failures == 1 and last.reason not in _DETERMINISTIC


def _candidates(
    step: Step, assignment: Assignment, attempts: Sequence[Attempt], policy: Policy
) -> Sequence[str]:
    """The models that may be called next, in order."""
    task = policy.tasks.get(assignment.task or "")
    answer = answer_of(attempts)
    if step == "verify" and task is not None and task.verify is not None:
        # Who reads a new answer reads it for the first time, so only this tier's readings count.
        used = {one.model for one in attempts if one.step == "verify"}
        used |= {answer.model} if answer else set()
        return [name for name in policy.models_of(task.verify.tier) if name not in used]
    if answer is not None and task is not None and task.agreement is not None:
        if task.agreement.of == "same":
            failed = any(a.model == answer.model and not a.was_judged for a in attempts)
            return [] if failed else [answer.model]
    current = assignment.route
    mine = [a for a in assignment.attempts if a.generation == assignment.generation]
    return untried(current.tier, assignment.task, step, [*mine, *attempts], policy)


def _backups(last: Attempt, models: Sequence[str], policy: Policy) -> Sequence[str]:
    """The models in the order in which they stand in for one that failed.

    Another provider's come first: what ails one model of a provider often ails them all. Where the
    input was too long, only models that read more.
    """
    if last.reason is Reason.CONTEXT_OVERFLOW and last.model in policy.models:
        room = policy.models[last.model].context_tokens
        models = [name for name in models if policy.models[name].context_tokens > room]
    return sorted(models, key=lambda name: policy.models[name].provider == last.provider)


def _nobody_left(
    step: Step, assignment: Assignment, last: Attempt | None, task: Task | None
) -> NextStep:
    """What follows when no model is left to call in this tier."""
    if last is None:
        return GiveUp(
            Reason.NO_TIER_LEFT, f"every model of {assignment.route.tier} was tried before"
        )
    if last.was_judged:
        reason = Reason.VERIFIER_REJECTED if step == "verify" else Reason.MODELS_DISAGREE
        return Escalate(reason, f"no model was left to {step} it")
    if last.reason is Reason.CONTEXT_OVERFLOW or (task and task.on_outage == "next_tier"):
        return Escalate(last.reason or Reason.PROVIDER_UNAVAILABLE, last.detail)
    if step == "classify":
        return Escalate(Reason.PROVIDER_UNAVAILABLE, last.detail)
    return GiveUp(Reason.PROVIDER_UNAVAILABLE, f"{last.model}: {last.detail}")
