"""The job: one assignment on its way through a tier, and what its steps ask of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from router.attempt.model_quirks import adapt_body
from router.checks import DEFAULT_CHECKS, Asked, NamedCheck
from router.judge.judging import (
    VERIFICATION_CHECKS,
    OutputContract,
    judge,
    output_contract,
    verification_contract,
)
from router.reply.reply import Reply
from router.policy.table import Model, Policy, Verify
from router.prompts.chat_fields import ChatFields
from router.prompts.rendering import Prompts, Rendered, chat_body
from schemas.attempt import Attempt, Step
from schemas.base import Tier
from schemas.codec import dump
from schemas.escalation import Assignment, RouteStep
from schemas.request import Request
from schemas.tenancy import RequestKey
from schemas.verdict import Verdict

__all__ = ["Question", "TierRun", "question_of", "verification_of"]


@dataclass(frozen=True, slots=True)
class Question:
    """What one step asks a model, and what a reply must be like."""

    step: Step
    tier: Tier
    contract: OutputContract
    rendered: Rendered
    accept: float
    checks: Sequence[NamedCheck]
    #: None: as many tokens as the model writes.
    most_tokens: int | None = None

    def body(
        self, request: Request, model: Model, fields: ChatFields
    ) -> tuple[dict[str, Any], list[str]]:
        """The chat body that asks this model, and what of the producer's is left out of it.

        `fields` are those that the model's provider is sent.
        """
        most = min(self.most_tokens or model.max_output_tokens, model.max_output_tokens)
        body, left_out = chat_body(self.rendered, request, model.id, most, fields)
        if self.contract.confidence_from == "token_probability":
            body["logprobs"] = True
        left_out += [name for name in model.drops if name in body]
        return adapt_body(body, model, stable=self.rendered.stable), left_out

    def judged(self, reply: Reply, asked: Asked) -> Verdict:
        """The verdict on a reply; `asked` has what the checks need of the request."""
        return judge(reply, self.contract, self.accept, self.checks, asked)


@dataclass(slots=True)
class TierRun:
    """One assignment on its way through the tier."""

    assignment: Assignment
    request: Request
    raw: bytes
    question: Question
    #: What the checks need of the request, worked out once and only where one asks.
    asked: Asked = field(init=False)
    #: What the request is called where only one text fits, as towards a provider.
    name: str = field(init=False)
    #: Topic and partition where the assignment was read.
    source: tuple[str, int] = ("", 0)
    attempts: list[Attempt] = field(default_factory=list)
    #: How many of these are in the ledger already.
    booked: int = 0
    #: The reply of the answer, once there is one.
    reply: Reply | None = None
    #: What of the producer's chat body was left out of the answer's call, by path.
    left_out: Sequence[str] = ()
    #: What a model that reads the answer is asked, once there is an answer to read.
    verification: Question | None = None
    retry_after: float | None = None
    #: Seconds spent waiting for models, and for the partition to be ours for certain.
    waited: float = 0.0

    def __post_init__(self) -> None:
        self.asked = Asked(self.request)
        self.name = RequestKey(self.request.tenant, self.assignment.id).text

    @property
    def has_paid(self) -> bool:
        """True when a call was paid that whoever takes the request over would pay again."""
        return any(attempt.cost_micros for attempt in self.attempts)

    @property
    def next_attempt(self) -> tuple[int, str]:
        """The next attempt's number over the whole request, and its id."""
        no = len(self.assignment.attempts) + len(self.attempts) + 1
        return no, f"{self.name}.{self.assignment.generation}.{no}"


def question_of(
    step: RouteStep,
    tier: Tier,
    task: str | None,
    request: Request,
    policy: Policy,
    prompts: Prompts,
) -> Question:
    """What a route's own step asks. Raises ContractError for a format of no use."""
    contract = output_contract(request, policy, task, step)
    triggers = policy.triggers if step == "classify" else None
    name = "classify" if step == "classify" else task or ""
    row = policy.tasks.get(task or "")
    return Question(
        step=step,
        tier=tier,
        contract=contract,
        rendered=prompts.render(name, tier, request, contract, triggers=triggers),
        accept=policy.accept_at(tier, task),
        checks=row.checks if row else DEFAULT_CHECKS,
        most_tokens=row.max_output_tokens if row else None,
    )


def verification_of(
    verify: Verify, answer: Mapping[str, Any], request: Request, prompts: Prompts
) -> Question:
    """What a model is asked that reads an answer: may it be published?"""
    contract, text = verification_contract(), dump(dict(answer)).decode()
    return Question(
        step="verify",
        tier=verify.tier,
        contract=contract,
        rendered=prompts.render_verification(verify.prompt, verify.tier, request, contract, text),
        accept=verify.accept,
        checks=VERIFICATION_CHECKS,
    )
