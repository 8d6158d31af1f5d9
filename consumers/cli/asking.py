"""What a model is asked, put together outside of the flow: for tests of prompts and replays."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from consumers.rules import Rules
from consumers.stages.tier_run import Question, question_of
from router.checks import Asked
from router.judge.judging import VERIFICATION_CHECKS, judge, verification_contract
from router.judge.reply import Reply
from schemas.base import Tier
from schemas.codec import dump
from schemas.escalation import Assignment, Origin, RouteStep, RouteTaken
from schemas.request import Request
from schemas.verdict import Verdict

__all__ = ["judged", "question_for", "reading_for"]


def question_for(
    rules: Rules, request: Request, task: str | None, step: RouteStep, tier: Tier, now: datetime
) -> Question:
    """What a step asks at a tier. Raises ContractError for a format of no use."""
    taken = RouteTaken(
        tier=tier,
        step=step,
        rule="asked",
        reason="asked outside of the flow",
        policy_version=rules.policy.version,
        routed_at=now,
    )
    assignment = Assignment(
        id=request.id or "asked",
        task=task,
        origin=Origin(topic="asked", partition=0, offset=0, appended_at=now),
        deadline=now + timedelta(minutes=15),
        attempts_left=1,
        routes=[taken],
    )
    return question_of(assignment, request, rules.policy, rules.prompts)


def reading_for(
    rules: Rules,
    request: Request,
    prompt: str,
    tier: Tier,
    answer: Mapping[str, Any],
    accept: float,
) -> Question:
    """What a model is asked that reads an answer."""
    contract, said = verification_contract(), dump(dict(answer)).decode()
    rendered = rules.prompts.render_verification(prompt, tier, request, contract, said)
    return Question("verify", tier, contract, rendered, accept, VERIFICATION_CHECKS)


def judged(question: Question, request: Request, reply: Reply) -> Verdict:
    """The verdict on a reply to a question."""
    return judge(reply, question.contract, question.accept, question.checks, Asked(request))
