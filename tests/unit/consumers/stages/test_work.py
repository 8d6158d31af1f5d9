"""One assignment through a worker, without a broker: what is written whatever goes wrong."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest

from consumers.policies import Policies
from consumers.providers.client import Providers
from consumers.providers.settings import ProviderSettings
from consumers.rules import load_rules
from consumers.settings import Settings
from consumers.stages.ports import CallModels, Slot
from consumers.stages.route import Router
from consumers.telemetry.observer import Observer
from router.policy.table import Policy
from router.prompts.chat_fields import OPENAI, ChatFields
from router.releases.bundle import Bundle
from router.reply.reply import CallFailure, Reply
from router.route.requeue import requeued
from schemas.attempt import Attempt, LedgerEntry
from schemas.base import Tier
from schemas.codec import Outgoing, dump_envelope, read_dead_letter, read_envelope, read_model
from schemas.escalation import Assignment, Escalation
from schemas.reasons import Reason
from schemas.result import Result
from schemas.topics import Topics
from schemas.usage import Usage
from tests.builders import (
    NOON,
    Restless,
    a_record,
    a_worker,
    decided,
    handled,
    policy_with,
    with_task,
)
from tests.unit.router.test_requeue import a_letter

pytestmark = pytest.mark.anyio

TOPICS = Topics()
RULES = load_rules(Settings())


class Answers:
    """A provider that always gives the same text."""

    def __init__(self, text: str, body: dict[str, Any]) -> None:
        self.text, self.body = text, body

    def chat_fields(self, provider: str) -> ChatFields:
        return OPENAI

    async def call(
        self,
        provider: str,
        body: dict[str, Any],
        *,
        attempt_id: str,
        request_id: str,
        timeout: timedelta,  # noqa: ASYNC109
        may_leave: Callable[[], bool] = lambda: True,
        idempotency_key: str = "",
    ) -> Reply | CallFailure:
        return Reply(self.text, "stop", Usage(input_tokens=10, output_tokens=10), self.body)


async def _work(
    text: str,
    *,
    request_id: str = "r-1",
    body: dict[str, Any] | None = None,
    place: Slot | None = None,
    asked: Mapping[str, Any] | str = "Order 7",
    answers: CallModels | None = None,
    observer: Observer | None = None,
    policy: Policy = RULES.policy,
    **fields: Any,
) -> list[Outgoing]:
    request = {"id": request_id, "task": "extraction", "plan": "enterprise", "input": asked}
    policies = Policies(Bundle(policy, RULES.prompts))
    router = Router(policies, TOPICS, lambda: NOON)
    [assigned] = decided(router, a_record(orjson.dumps({**request, **fields})))
    tier, calls = Tier(assigned.topic.rpartition(".")[2]), answers or Answers(text, body or {})
    worker = a_worker(tier, policies, calls, observer=observer or Observer())

    record = a_record(assigned.value, topic=assigned.topic)
    return list(await handled(worker, record, place or Restless()))


class Asked(Answers):
    """A provider that keeps what it was asked."""

    def __init__(self, output: Mapping[str, Any]) -> None:
        super().__init__(orjson.dumps(output).decode(), {})
        self.bodies: list[dict[str, Any]] = []

    async def call(self, provider: str, body: dict[str, Any], **named: Any) -> Reply | CallFailure:
        self.bodies.append(body)
        return await super().call(provider, body, **named)


async def test_a_long_history_is_rendered_short_and_travels_whole() -> None:
    """The bytes stay the producer's; the result says what the model did not see."""
    answers = Asked({"answer": "Order 7 is on its way.", "confidence": 0.9, "next_action": "none"})
    history = "".join(f"line {no} of what was said.\n" for no in range(2_000))
    told: dict[str, Any] = {"task": "support_answer", "plan": "free"}
    told["context"] = {"history": history}
    _, published = await _work("", answers=answers, **told)
    _, escalated = await _work("no object", **told)

    [body] = answers.bodies
    prompt = "".join(message["content"] for message in body["messages"])
    assert "line 1999 of" in prompt
    assert "line 1 of" not in prompt
    info = read_model(Result, published.value).router
    assert info.trimmed is not None
    assert info.trimmed["history"] > 10_000
    assert "tokens of history are left out" in info.reason
    escalation, raw = read_envelope(Escalation, escalated.value)
    assert orjson.loads(raw)["context"]["history"] == history
    assert escalation.routes[-1].trim is not None


@pytest.mark.parametrize(
    ("task", "plan", "most"),
    [
        pytest.param({}, {}, 1024, id="as the model's row says"),
        pytest.param({"max_output_tokens": 300}, {}, 300, id="by the task"),
        pytest.param({}, {"max_output_tokens": 200}, 200, id="by the plan"),
        pytest.param({"max_output_tokens": 300}, {"max_output_tokens": 200}, 200, id="by both"),
        pytest.param({"max_output_tokens": 90}, {"max_output_tokens": 200}, 90, id="by the less"),
    ],
)
async def test_the_output_is_bounded_by_task_and_plan(
    task: dict[str, Any], plan: dict[str, Any], most: int
) -> None:
    answers = Asked({"name": "n", "order_number": "7", "date": None, "confidence": 0.99})
    policy = policy_with(tasks={"extraction": task}, plans={"enterprise": plan})

    await _work("", answers=answers, policy=policy)

    assert [body["max_tokens"] for body in answers.bodies] == [most]


def _worth(dollars: str, premium: float = 0.97) -> Policy:
    right = {"balanced": 0.9, "premium": premium, "source": "a test of ours"}
    return policy_with(tasks={"support_answer": {"worth": Decimal(dollars), "right": right}})


async def test_an_answer_not_worth_a_dearer_model_goes_out_with_a_caveat() -> None:
    output = {"answer": "Under settings.", "confidence": 0.6, "next_action": "none"}
    answers, policy = Asked(output), _worth("0.00001")
    _, published = await _work("", answers=answers, policy=policy, task="support_answer")

    result = read_model(Result, published.value)
    assert (result.router.kind, result.router.output["answer"]) == ("answer", "Under settings.")
    assert result.router.confidence == 0.6
    assert "may not be right" in (result.router.caveat or "")
    assert "an answer with a caveat costs least" in (result.router.weighed or "")
    assert not all(check.passed for check in result.router.checks)


async def test_what_is_worth_a_dearer_model_climbs_with_the_figures() -> None:
    output = {"answer": "Under settings.", "confidence": 0.6, "next_action": "none"}
    _, escalated = await _work("", answers=Asked(output), policy=_worth("1"), task="support_answer")

    escalation, _ = read_envelope(Escalation, escalated.value)
    assert escalation.reason is Reason.LOW_CONFIDENCE
    assert "a dearer model costs least" in (escalation.weighed or "")


async def test_an_unclear_request_is_asked_back() -> None:
    output = {"answer": "Perhaps.", "confidence": 0.2, "next_action": "none"}
    _, published = await _work(
        "",
        answers=Asked(output),
        policy=_worth("2", premium=0.5),
        task="support_answer",
        ambiguity=0.9,
    )

    info = read_model(Result, published.value).router
    assert (info.kind, info.output["next_action"]) == ("clarification", "ask_user")
    assert info.output["answer"].startswith("Please tell us")
    assert "a question back costs least" in (info.weighed or "")


async def test_the_longest_id_has_room_for_its_attempts() -> None:
    line, _ = await _work("no object", request_id="x" * 200)

    assert read_model(LedgerEntry, line.value).attempt.attempt_id == f"{'x' * 200}.1.1"


async def test_a_huge_rejected_answer_does_not_travel_with_its_request() -> None:
    text = orjson.dumps({"name": "n" * 900_000}).decode()

    _, escalated = await _work(text)

    assert len(escalated.value or b"") < 100_000
    escalation, _ = read_envelope(Escalation, escalated.value)
    assert escalation.reason is Reason.SCHEMA_FAILED


async def test_what_was_paid_is_booked_when_something_of_ours_breaks_afterwards() -> None:
    answer = {"name": "n", "order_number": "7", "date": None, "confidence": 0.99}

    line, letter = await _work(orjson.dumps(answer).decode(), body={"what": object()})

    assert read_model(LedgerEntry, line.value).attempt.cost_micros > 0
    found = read_dead_letter(letter.headers)
    assert len(found.attempts) == 1


async def test_all_else_goes_on_while_a_long_reply_is_judged() -> None:
    turns = 0

    async def go_on() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with asyncio.TaskGroup() as group:
        other = group.create_task(go_on())
        await asyncio.sleep(0)
        turns = 0
        await _work(orjson.dumps({"name": "n 1,234 " * 100_000}).decode())
        other.cancel()

    assert turns > 10


async def test_a_reply_that_is_judged_when_its_record_goes_has_its_cost_booked() -> None:
    class _Leaving(Answers):
        async def call(self, *args: Any, **named: Any) -> Reply | CallFailure:
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)
            return await super().call(*args, **named)

    calls: list[Attempt] = []

    class _Watching(Observer):
        def called(self, attempt: Attempt, *args: Any, **named: Any) -> None:
            calls.append(attempt)

    text = orjson.dumps({"name": "n 1,234 " * 100_000}).decode()
    with pytest.raises(asyncio.CancelledError):
        await _work(text, answers=_Leaving(text, {}), observer=_Watching())

    assert [(one.reason, one.usage.input_tokens) for one in calls] == [(Reason.OUTCOME_UNKNOWN, 10)]


@pytest.mark.parametrize(("scheme", "is_sent"), [("https", False), ("http", True)])
async def test_a_call_that_is_cancelled_costs_nothing_as_long_as_it_is_connecting(
    scheme: str, is_sent: bool
) -> None:
    arrived, calls = asyncio.Event(), list[Attempt]()

    class _Watching(Observer):
        def called(self, attempt: Attempt, *args: Any, **named: Any) -> None:
            calls.append(attempt)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        arrived.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    settings = ProviderSettings(base_url=url, allow_private=True)
    async with server, Providers({"simulated": settings}) as providers:
        working = asyncio.ensure_future(_work("", answers=providers, observer=_Watching()))
        await arrived.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working

    [call] = calls
    assert call.reason is (Reason.OUTCOME_UNKNOWN if is_sent else Reason.NOT_SENT)
    assert (call.cost_micros > 0) is is_sent


async def test_a_result_names_what_its_model_was_not_sent() -> None:
    answer = {"name": "n", "order_number": "7", "date": None, "confidence": 0.99}
    said = [{"role": "user", "content": "Order 7", "name": "kim"}]
    asked = {
        "messages": said,
        "model": "dear",
        "temperature": 0,
        "api_base": "https://evil.example",
    }

    _, result = await _work(orjson.dumps(answer).decode(), asked=asked)

    assert read_model(Result, result.value).router.left_out == ["api_base", "messages.name"]


class _OnTheMove:
    """A record's place in a partition that never comes back to us."""

    def __init__(self) -> None:
        self.rests = 0

    async def wait(self, seconds: float, *, keeps_place: bool = False, paid: bool = False) -> None:
        """Let go, as the runtime does, where nothing was paid that a rebalance would wait for."""
        assert not paid
        self.rests += 1
        raise asyncio.CancelledError

    async def may_call(self, *, paid: bool = False) -> bool:
        """It is not, and only calls that were paid could go on."""
        return paid

    def is_ours(self) -> bool:
        return False


async def test_no_call_is_made_for_a_record_whose_partition_moved_since_it_was_fetched() -> None:
    place = _OnTheMove()

    with pytest.raises(asyncio.CancelledError):
        await _work("no object", place=place)

    assert place.rests == 1


async def test_what_a_person_has_sent_to_a_tier_is_classified_and_goes_there_unasked() -> None:
    """They have seen it, so a row with `person_first` does not stop it again."""
    policies = Policies(Bundle(with_task("rewrite", approval="person_first"), RULES.prompts))
    router = Router(policies, TOPICS, lambda: NOON)
    letter, raw = a_letter(task=None, attempts=()), b'{"input":"Make this friendlier: no, order 7"}'
    sent = requeued(letter, policies.active.policy, NOON + timedelta(minutes=15), tier=Tier.PREMIUM)
    record = a_record(dump_envelope(sent, raw), topic=TOPICS.escalations)
    [assigned] = decided(router, record)
    assert assigned.topic == TOPICS.tier(Tier.LOW)

    found = {"task": "rewrite", "ambiguity": 0.1, "complexity": 1, "confidence": 0.99}
    worker = a_worker(Tier.LOW, policies, Answers(orjson.dumps(found).decode(), {}))
    *_, back = await handled(worker, a_record(assigned.value, topic=assigned.topic), Restless())
    [out] = decided(router, a_record(back.value, topic=back.topic))

    assignment, _ = read_envelope(Assignment, out.value)
    assert (out.topic, assignment.task) == (TOPICS.tier(Tier.PREMIUM), "rewrite")
    assert (assignment.route.rule, assignment.is_seen) == ("review", True)
