"""Worst cases: what a tier step may use at most, before any of its calls is rendered."""

from dataclasses import dataclass, field

from consumers.providers.usage import most
from router.attempt.pricing import most_micros
from router.attempt.question import Question, question_of, verification_of
from router.money.book import Wanted
from router.policy.models import Model
from router.prompts.chat_fields import OPENAI
from router.releases.bundle import Bundle
from schemas.base import Tier
from schemas.escalation import Assignment, RouteStep
from schemas.request import Request
from schemas.usage import Usage

__all__ = ["WorstCases"]

#: A request of no length.
_EMPTY = Request.model_validate({"id": "-", "input": "-"})
#: Bytes that a token of an answer takes where another model reads it: more are rare.
_BYTES_PER_TOKEN = 8
_MOST_KEPT = 1_000

#: A model, and the most that its call uses for a request of no length.
_Call = tuple[Model, Usage]
_Step = tuple[str, Tier, str | None, RouteStep]


@dataclass(frozen=True, slots=True)
class WorstCases:
    """By release, tier and task: the prompt's own size is found out once.

    They are estimates: before each call the worker looks whether the reservation covers that one.
    """

    _calls: dict[_Step, tuple[list[_Call], list[_Call]]] = field(default_factory=dict)

    def of(self, assignment: Assignment, size: int, bundle: Bundle, tier: Tier) -> Wanted:
        """What an assignment with a request of so many bytes may use in a tier."""
        task, step = assignment.task, assignment.route.step
        row = bundle.policy.tasks.get(task or "") if step == "answer" else None
        answers, readers = self._step((bundle.digest, tier, task, step), bundle)
        micros, tokens = _dearest(answers, size)
        # As many calls as an answer takes, and as many as may fail before it; one for a crash.
        samples = row.agreement.samples if row and row.agreement else 1
        failures = row.failure_limit - 1 if row else len(answers)
        calls = min(samples + failures, max(assignment.attempts_left, 1)) + 1
        once, all_of_it = (samples * micros, samples * tokens), (calls * micros, calls * tokens)
        if readers:
            longest = max((usage.output_tokens for _, usage in answers), default=0)
            answered = longest * _BYTES_PER_TOKEN
            reading = _dearest(readers, size + answered)
            once = once[0] + reading[0], once[1] + reading[1]
            all_of_it = all_of_it[0] + 2 * reading[0], all_of_it[1] + 2 * reading[1]
        if (need := assignment.need) is not None:
            once = need.micros, need.tokens
        return Wanted(once[0], max(all_of_it[0], once[0]), once[1], max(all_of_it[1], once[1]))

    def _step(self, which: _Step, bundle: Bundle) -> tuple[list[_Call], list[_Call]]:
        """The models that answer, and those that read an answer, with calls of no length."""
        if (known := self._calls.get(which)) is not None:
            return known
        if len(self._calls) >= _MOST_KEPT:
            self._calls.clear()
        (_, tier, task, step), policy = which, bundle.policy
        question = question_of(step, tier, task, _EMPTY, policy, bundle.prompts)
        names = policy.models_of(tier, task)
        answers = _calls_of(question, [policy.models[name] for name in names])
        readers: list[_Call] = []
        row = policy.tasks.get(task or "") if step == "answer" else None
        if row is not None and row.verify is not None:
            reading = verification_of(row.verify, {}, _EMPTY, bundle.prompts)
            names = policy.models_of(row.verify.tier)
            readers = _calls_of(reading, [policy.models[name] for name in names])
        self._calls[which] = answers, readers
        return answers, readers


def _calls_of(question: Question, models: list[Model]) -> list[_Call]:
    return [(model, most(question.body(_EMPTY, model, OPENAI)[0])) for model in models]


def _dearest(calls: list[_Call], size: int) -> tuple[int, int]:
    """Micro-dollars and tokens of the dearest call for a request of so many bytes."""
    sized = [
        (model, usage.model_copy(update={"input_tokens": usage.input_tokens + size}))
        for model, usage in calls
    ]
    return (
        max((most_micros(usage, model.price) for model, usage in sized), default=0),
        max((usage.total_tokens for _, usage in sized), default=0),
    )
