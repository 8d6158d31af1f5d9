"""`tierline try`: one request through all stages, in memory and without a broker."""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import orjson
from typer import Argument, Option

from consumers import clock
from consumers.cli.common import FAILED, OK, AsJson, asynchronous, read_settings
from consumers.cli.policy import warn_of_unknown
from consumers.cli.provided import provided
from consumers.cli.terminal import print_json, print_table
from consumers.journeys.journey import Journey
from consumers.journeys.moments import COLUMNS, rows_of
from consumers.policies import Policies
from consumers.providers.client import Providers
from consumers.providers.settings import ProviderSettings
from consumers.rules import released_rules
from consumers.runtime.keyed_state import StatePart
from consumers.runtime.shell import Shell
from consumers.stages.admit import Admit
from consumers.stages.refusing import Refusals
from consumers.stages.route import Router
from consumers.stages.work import Worker
from consumers.texts import say
from router.releases.bundle import Bundle
from schemas.codec import Headers, Outgoing
from schemas.intake import read_request_object
from schemas.topics import Topics

__all__ = ["try_request"]

_ID = "try-1"


@asynchronous
async def try_request(
    text: Annotated[str, Argument(metavar="TEXT", help="The text of the request.")],
    task: Annotated[str | None, Option(metavar="TASK", help="Set its task.")] = None,
    plan: Annotated[str | None, Option(metavar="PLAN", help="Set the plan.")] = None,
    as_json: AsJson = False,
) -> int:
    """Route, call, judge and escalate one request without a broker, and show its journey.

    Without a task, a model classifies it first. Without configured providers the simulated one
    answers, over real HTTP.
    """
    settings = read_settings(needs_kafka=False)
    rules = released_rules(settings)
    given = {"id": _ID, "input": text, "task": task, "plan": plan}
    fields = {name: value for name, value in given.items() if value is not None}
    read_request_object(fields, {})
    warn_of_unknown(rules.policy, task=task, plan=plan)
    async with provided(settings, rules.policy) as (providers, who):
        journey = await _travel(orjson.dumps(fields), rules, providers)
    rows, waiting = rows_of(journey.moments()), journey.unapproved
    answer = journey.published and journey.published.router.output
    if as_json:
        document = {"task": journey.task, "moments": rows, "cost_micros": journey.cost_micros}
        print_json({**document, "output": answer, "waits_for_approval": waiting})
    else:
        print_table(rows, COLUMNS, title=f"{journey.task or 'no task'}, answered by {who}")
        if waiting is not None:
            say("This answer is published once a person has approved it:")
        if (shown := answer if waiting is None else waiting) is not None:
            print_json(shown)
    return FAILED if answer is None else OK


@dataclass(slots=True)
class _Record:
    """A record in memory."""

    topic: str
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int = 0


class _Alone:
    """The slot of a pool with no other work: it may always call, and keeps its partition."""

    async def wait(self, seconds: float, *, keeps_place: bool = False, paid: bool = False) -> None:
        await asyncio.sleep(seconds)

    async def may_call(self, *, paid: bool = False) -> bool:
        return True

    def is_ours(self) -> bool:
        return True


async def _travel(
    value: bytes, rules: Bundle, providers: Mapping[str, ProviderSettings]
) -> Journey:
    """Pass a request through the stages: each record is handed to the stage that reads it."""
    policies, topics = Policies(rules), Topics()
    journey, ends = Journey(_ID), Counter[str]()
    router, refusals = Router(policies, topics, clock.now), Refusals(policies, clock.now)
    admit, accounts = Admit(policies, topics, clock.now), StatePart({})
    routing, admitting = Shell(router.dead_letters), Shell(admit.dead_letters)
    written = deque([Outgoing(topics.intake, None, value)])
    async with Providers(providers) as caller:
        workers = {
            topics.tier(tier): Worker(tier, caller, topics, clock.now, refusals=refusals)
            for tier in rules.policy.tiers
        }
        while written:
            topic, key, body, headers, *_ = written.popleft()
            now_ms = int(clock.now().timestamp() * 1000)
            record = _Record(topic, ends[topic], now_ms, key, body, headers)
            ends[topic] += 1
            journey.read(record, topics)
            if topic in (topics.intake, topics.escalations):
                written += routing.decide(router.decide, record)
            elif topic == topics.admission:
                written += admitting.decide(partial(admit.decide, state=accounts), record)
            elif (worker := workers.get(topic)) is not None:
                working = Shell(worker.dead_letters)
                written += await working.handle(worker.handle(record, _Alone()), record)
    # These places exist in no topic.
    if journey.accepted is not None:
        journey.accepted = replace(journey.accepted, words="from the command line")
    journey.letters = [("", letter) for _, letter in journey.letters]
    return journey
