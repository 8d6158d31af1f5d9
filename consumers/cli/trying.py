"""`tierline try`: one request, routed, called, judged and escalated, without a broker."""

from typing import TYPE_CHECKING, Annotated

import typer

from consumers.cli.common import FAILED, AsJson, print_json, print_table, read_settings, run
from consumers.cli.texts import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumers.cli.journey import Journey
    from consumers.providers.settings import ProviderSettings
    from consumers.rules import Rules
    from schemas.request import Request

__all__ = ["try_request"]


def try_request(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What the request says.")],
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="Say what kind of work it is; else it is classified."),
    ] = None,
    plan: Annotated[
        str | None, typer.Option(metavar="PLAN", help="Say what the customer's plan is.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Route, call, judge and escalate one request without a broker, and tell its journey.

    Without configured providers the simulated one answers, over real HTTP.
    """

    async def main() -> int:
        from consumers.cli.moments import rows_of
        from consumers.cli.policy import warn_of_unknown
        from consumers.cli.provided import provided
        from consumers.rules import released_rules
        from schemas.intake import read_request_object

        settings = read_settings(needs_kafka=False)
        rules = released_rules(settings)
        given = {"input": text, "task": task, "plan": plan}
        fields = {name: value for name, value in given.items() if value is not None}
        request = read_request_object(fields, {}, fallback_id="try-1")
        warn_of_unknown(rules.policy, task=task, plan=plan)
        async with provided(settings, rules.policy) as (providers, who):
            journey, answer = await _travel(request, rules, providers)
        rows, waiting = rows_of(journey.moments()), journey.unapproved
        if as_json:
            told = {"task": journey.task, "moments": rows, "cost_micros": journey.cost_micros}
            print_json({**told, "output": answer, "waits_for_approval": waiting})
        else:
            columns = ("after", "what", "tier", "words")
            title = f"{journey.task or 'no task'}, answered by {who}"
            print_table(rows, columns, title=title)
            if waiting is not None:
                say("This answer is published once a person has approved it:")
            if (shown := answer if waiting is None else waiting) is not None:
                print_json(shown)
        return FAILED if answer is None else 0

    run(main)


class _Alone:
    """A place in no pool."""

    async def wait(self, seconds: float, *, keeps_place: bool = False, paid: bool = False) -> None:
        """Wait."""
        import asyncio

        await asyncio.sleep(seconds)

    async def may_call(self, *, paid: bool = False) -> bool:
        """Nobody else has it."""
        return True


async def _travel(
    request: "Request", rules: "Rules", providers: "Mapping[str, ProviderSettings]"
) -> "tuple[Journey, Mapping[str, object] | None]":
    """The flow of the stages with function calls in place of topics."""
    import time

    import orjson

    from consumers import clock
    from consumers.cli.journey import Journey
    from consumers.cli.moments import Moment
    from consumers.providers import Providers
    from consumers.stages.work import Worker
    from router.attempt.next_step import Escalate
    from router.route.escalation import climb
    from router.route.routing import GiveUp, Route, route, route_fields
    from schemas.codec import dump, read_model
    from schemas.dead_letter import DeadLetter, Pointer
    from schemas.escalation import Assignment, Escalation, Origin, RouteTaken
    from schemas.result import Result
    from schemas.topics import Topics

    journey, began = Journey(request.id, task=request.task), clock.now()
    journey.accepted = Moment(began, "accepted", "", "from the command line")
    raw = orjson.dumps(request.model_dump(mode="json", exclude_none=True))
    decided: Route | GiveUp = route(request, rules.policy, began)
    escalation: Escalation | None = None
    async with Providers(providers) as caller:
        while isinstance(decided, Route):
            fields = route_fields(decided, rules.policy, clock.now())
            journey.routes.append(RouteTaken.model_validate(fields))
            journey.task = decided.task or journey.task
            assignment = Assignment(
                id=request.id,
                task=decided.task,
                origin=Origin(topic="try", partition=0, offset=0, appended_at=began),
                deadline=decided.deadline,
                attempts_left=escalation.attempts_left
                if escalation
                else rules.policy.limits.attempts,
                classification=escalation.classification if escalation else None,
                routes=list(journey.routes),
                attempts=list(journey.attempts.values()),
            )
            worker = Worker(decided.tier, rules.policy, rules.prompts, caller, Topics(), clock.now)
            started = time.monotonic()
            job = worker.prepare(assignment, request, raw)
            step = await worker.run(job, _Alone())
            journey.attempts.update({one.attempt_id: one for one in job.attempts})
            ended = worker.result(job, step, clock.now(), started)
            if ended is not None:
                result = read_model(Result, dump(ended))
                journey.results.append(result)
                return journey, result.router.output
            if isinstance(step, Escalate):
                escalation = worker.escalation_of(job, step)
                decided = climb(escalation, request, rules.policy, clock.now())
            elif isinstance(step, GiveUp):
                decided = step
    assert isinstance(decided, GiveUp)  # noqa: S101  the loop ends with nothing else
    letter = DeadLetter(
        request_id=request.id,
        task=journey.task,
        reason=decided.reason,
        detail=decided.detail,
        stage="try",
        source=Pointer(topic="try", partition=0, offset=0),
        failed_at=clock.now(),
        path=tuple(str(taken.tier) for taken in journey.routes),
    )
    journey.letters.append(("", letter))
    return journey, None
