"""Worst cases: what a tier step may use at most, before any of its calls is rendered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from consumers.providers.usage import most
from router.attempt.pricing import most_micros
from router.attempt.question import Question, question_of, verification_of
from router.money.book import Wanted
from router.policy.models import Model
from router.prompts.chat_fields import OPENAI
from router.releases.bundle import Bundle
from schemas.base import Tier
from schemas.escalation import Assignment
from schemas.request import Request
from schemas.usage import Usage

__all__ = ["WorstCases"]

#: A request of no length.
_EMPTY = Request.model_validate({"id": "-", "input": "-"})
#: Bytes of an answer that another model reads: more are rare.
_ANSWER = 8_192
_MOST_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class WorstCases:
    """By release, step, tier and task: the size of the prompt itself is found out once.

    They are estimates: before each call the worker looks whether the reservation covers that one.
    """

    #: Each model with the most that a call to it uses for a request of no length.
    _calls: dict[Sequence[str | None], list[tuple[Model, Usage]]] = field(default_factory=dict)

    def of(self, assignment: Assignment, size: int, bundle: Bundle, tier: Tier) -> Wanted:
        """What an assignment with a request of so many bytes may use in a tier."""
        task, step, policy = assignment.task, assignment.route.step, bundle.policy
        row = policy.tasks.get(task or "") if step == "answer" else None

        def asked() -> Question:
            return question_of(step, tier, task, _EMPTY, policy, bundle.prompts)

        micros, tokens = self._dearest(step, tier, task, bundle, asked, size)
        # As many calls as an answer takes, and as many as may fail before it; one for a crash.
        samples = row.agreement.samples if row and row.agreement else 1
        failures = row.failure_limit - 1 if row else 1
        calls = min(samples + failures, max(assignment.attempts_left, 1)) + 1
        once, whole = (samples * micros, samples * tokens), (calls * micros, calls * tokens)
        if row is not None and (verify := row.verify) is not None:

            def read() -> Question:
                return verification_of(verify, {}, _EMPTY, bundle.prompts)

            reading = self._dearest(verify.prompt, verify.tier, None, bundle, read, size + _ANSWER)
            once = once[0] + reading[0], once[1] + reading[1]
            whole = whole[0] + 2 * reading[0], whole[1] + 2 * reading[1]
        if (need := assignment.need) is not None:
            once = need.micros, need.tokens
        return Wanted(once[0], max(whole[0], once[0]), once[1], max(whole[1], once[1]))

    def _dearest(
        self,
        step: str,
        tier: Tier,
        task: str | None,
        bundle: Bundle,
        question: Callable[[], Question],
        size: int,
    ) -> tuple[int, int]:
        """Micro-dollars and tokens of the dearest call of a step for so many bytes."""
        which = (bundle.digest, step, tier, task)
        if (calls := self._calls.get(which)) is None:
            if len(self._calls) >= _MOST_KEPT:
                self._calls.clear()
            policy, asked = bundle.policy, question()
            models = [policy.models[name] for name in policy.models_of(tier, task)]
            bodies = [(model, asked.body(_EMPTY, model, OPENAI)[0]) for model in models]
            calls = self._calls[which] = [(model, most(body)) for model, body in bodies]
        sized = [(model, usage + Usage(input_tokens=size)) for model, usage in calls]
        return (
            max((most_micros(usage, model.price) for model, usage in sized), default=0),
            max((usage.total_tokens for _, usage in sized), default=0),
        )
