"""The policy, to be read: who handles what, what each rule did, and where a text would go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Form, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from consumers.console.auth import visitor_of
from consumers.console.pages import Pages
from consumers.console.review_service import ReviewService
from consumers.console.routes import Routes
from consumers.readmodel.model import ReadModel
from consumers.readmodel.requests import Routed, routed_by
from router.policy.table import Policy
from router.route.explain import (
    explained,
    lead,
    rule_words,
    sections,
    table_rows,
    threshold_rows,
    unknown_names,
)
from schemas.errors import ContractError, TierlineError
from schemas.intake import read_request_object

__all__ = ["add_policy_routes"]

_SPAN, _MOST_EXAMPLES = timedelta(days=1), 3

#: What sends a request to a tier beside the rules and the task's own tier.
_NOT_BY_RULES = {
    "classify": "The request names no task that the policy has, so a cheap model says what it is.",
    "escalation": "An answer could not be defended, so the next tier of the task was asked.",
    "review": "A reviewer sent the request to a tier.",
}

_Name = Annotated[str, Field(max_length=64)]
#: A browser sends two characters for the end of a line, and counts one.
_Text = Annotated[str, Field(max_length=8_000)]


class Question(BaseModel):
    """A request that is only asked about."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[_Text, Field(description="What the customer says")]
    task: _Name = ""
    plan: _Name = ""
    blast_radius: Literal["", "low", "medium", "high"] = ""
    justification: Annotated[str, Field(max_length=500)] = ""
    retrieved: Annotated[_Text, Field(description="Documents beside it")] = ""
    history: Annotated[_Text, Field(description="What was said before")] = ""

    def request_fields(self) -> dict[str, Any]:
        """The request as a producer would send it."""
        named = {
            name: value
            for name in ("task", "plan", "blast_radius", "justification")
            if (value := getattr(self, name))
        }
        context = {name: getattr(self, name) for name in ("retrieved", "history")}
        return {"input": self.text, **named, "context": context}


class QuestionForm(Question):
    """The same, as the form sends it: with the form's token."""

    model_config = ConfigDict(extra="ignore")


class _Answer(NamedTuple):
    """Where a request would go, or why it cannot be routed."""

    facts: Mapping[str, Any]
    warnings: Sequence[str] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Work:
    """What rules have done lately, by the rule's name."""

    since: datetime
    by_rule: Mapping[str, Routed]
    #: Why that is not known; empty where it is.
    trouble: str = ""


def add_policy_routes(
    routes: Routes, reviews: ReviewService, model: ReadModel, pages: Pages
) -> None:
    """The page of the policy, and the question where a text would go."""

    async def work(request: Request) -> _Work:
        since, tenants = reviews.clock() - _SPAN, visitor_of(request).tenants
        try:
            await model.refresh()
            routed = await model.ask(
                lambda tables: routed_by(tables, since, tenants, _MOST_EXAMPLES)
            )
        except TierlineError as error:
            return _Work(since, {}, str(error))  # the policy itself can be read all the same
        return _Work(since, {one.rule: one for one in routed})

    async def policy_page(
        request: Request, question: Question | None = None, answer: _Answer | None = None
    ) -> Response:
        policy = reviews.policy
        return pages.page(
            "policy.html",
            visitor_of(request),
            policy=policy,
            lead=lead(policy),
            sections=list(sections(policy)),
            work=await work(request),
            otherwise=_NOT_BY_RULES,
            question=question or Question(text=""),
            answer=answer,
        )

    @routes.pages.get("/policy")
    async def read(request: Request) -> Response:
        return await policy_page(request)

    @routes.pages.post("/policy/where")
    async def ask_by_form(request: Request, question: Annotated[QuestionForm, Form()]) -> Response:
        answer = _answer(question, reviews.policy, reviews.clock())
        return await policy_page(request, question, answer)

    @routes.api.get("/policy", summary="The policy, and what each rule did in the last day")
    async def read_json(request: Request) -> dict[str, Any]:
        done, policy = await work(request), reviews.policy
        return {
            **{name: getattr(policy, name) for name in ("name", "version", "digest", "owner")},
            "release": reviews.policies.active.digest,
            "tasks": table_rows(policy),
            "rules": [{"name": rule.name, "is": rule_words(rule)} for rule in policy.rules],
            "thresholds": threshold_rows(policy),
            "policy": policy.content,
            "since": done.since,
            "routed": [
                {
                    "rule": routed.rule,
                    "requests": routed.requests,
                    "examples": [
                        {"request_id": key.id, "tenant": key.tenant} for key in routed.examples
                    ],
                }
                for routed in done.by_rule.values()
            ],
            "trouble": done.trouble or None,
        }

    @routes.api.post("/policy/where", summary="Where a request would go; nothing is sent")
    async def ask_by_body(question: Question) -> dict[str, Any]:
        answer = _answer(question, reviews.policy, reviews.clock())
        problem = {"problem": answer.problem} if answer.problem else {}
        return {**answer.facts, "warnings": answer.warnings, **problem}


def _answer(question: Question, policy: Policy, now: datetime) -> _Answer:
    """The decision of the route stage on a request that nobody has sent."""
    try:
        request = read_request_object(question.request_fields(), {})
    except ContractError as error:
        return _Answer({}, problem=error.detail)
    facts = explained(request, policy, now)
    return _Answer(facts, [*unknown_names(policy, task=request.task, plan=request.plan)])
