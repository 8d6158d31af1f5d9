"""What a step asks a model, and how its reply is judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from router.policy.table import Model, Policy, Verify
from router.prompts.chat_fields import ChatFields
from router.prompts.rendering import Prompts, Rendered, chat_body
from router.reply.reply import Reply
from router.request.request_schemas import check_schemas
from router.route.ladders import plan_of
from schemas.attempt import Step
from schemas.base import Tier
from schemas.codec import dump
from schemas.escalation import RouteStep
from schemas.request import Request
from schemas.verdict import Verdict

__all__ = ["Question", "question_of", "verification_of"]


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


def question_of(
    step: RouteStep,
    tier: Tier,
    task: str | None,
    request: Request,
    policy: Policy,
    prompts: Prompts,
) -> Question:
    """What a route's own step asks. Raises ContractError for schemas and formats of no use."""
    # Schemas that cannot be used are found before anything is paid.
    check_schemas(request)
    # What the task's row says is about its answers.
    task = None if step == "classify" else task
    contract = output_contract(request, policy, task, step)
    triggers = policy.triggers if step == "classify" else None
    name = "classify" if step == "classify" else task or ""
    row = policy.tasks.get(task or "")
    plan = None if step == "classify" else plan_of(request, policy)
    limits = [bound.max_output_tokens for bound in (row, plan) if bound is not None]
    return Question(
        step=step,
        tier=tier,
        contract=contract,
        rendered=prompts.render(name, tier, request, contract, triggers=triggers),
        accept=policy.accept_at(tier, task),
        checks=row.checks if row else DEFAULT_CHECKS,
        most_tokens=min(filter(None, limits), default=None),
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
