"""Requests through the whole flow on a real broker, counted by a client that is not ours."""

import asyncio
from collections import Counter

import orjson
import pytest

from consumers.lab.simulator import DEFAULT_MODELS, ModelBehaviour
from consumers.readmodel.model import opened
from consumers.readmodel.queries import figures_by
from consumers.runtime.clients import Clients
from consumers.settings import Settings
from schemas.attempt import LedgerEntry
from schemas.base import EARLIEST
from schemas.codec import read_dead_letter, read_envelope, read_model
from schemas.dead_letter import DeadLetter
from schemas.escalation import Escalation
from schemas.reasons import Reason
from schemas.result import Result
from tests.kafka.flow import Flow, Seen, Sent, flow, request

pytestmark = pytest.mark.kafka

_TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _mixed(number: int) -> Sent:
    """One of a stream of all tasks and plans, some unclear, some without a task."""
    kinds = (
        ("triage", f"I cannot log in since Monday, account {number}, please help"),
        ("extraction", f"Order AB-{number} for Jane Doe arrived on 2026-03-01 in Leeds"),
        ("support_answer", f"How do I export report {number} to a spreadsheet?"),
        ("summarization", f"Summarise: train {number} was late, then cancelled, 40 waited"),
        ("classification", f"This is unacceptable!! something broke again, ticket {number}"),
        ("policy_question", f"Does contract {number} allow us to share data under GDPR?"),
        ("billing_dispute", f"You charged me twice for order {number}, I want a refund"),
        (None, f"Hello, I have a question about my last order {number}"),
    )
    plans = (None, "free", "enterprise", "internal", "standard")
    task, text = kinds[number % len(kinds)]
    sent = request(f"mixed-{number:03}", text, task=task, plan=plans[number % len(plans)])
    headers = (("x-shop", f"shop {number}".encode()), ("traceparent", _TRACE))
    return Sent(sent.value, f"customer-{number % 23}".encode(), headers)


def _result(seen: Seen) -> Result:
    return read_model(Result, seen.value)


def _letter(seen: Seen) -> DeadLetter:
    return read_dead_letter(seen.headers)


def _id_of(seen: Seen) -> str:
    return seen.header("tierline-request-id") or str(seen.json["id"])


def _models(quality: dict[str, float]) -> dict[str, ModelBehaviour]:
    """The simulated models, each tier answering well or never, at the prices of the policy."""
    return {
        name: model.model_copy(update={"quality": quality[model.tier], "strain": 0})
        for name, model in DEFAULT_MODELS.items()
    }


_RELIABLE = _models({"low": 1, "balanced": 1, "premium": 1})


async def _bill_equals_ledger(running: Flow) -> list[LedgerEntry]:
    """Every billed call has its line, at the same price; the lines."""
    lines = [read_model(LedgerEntry, seen.value) for seen in await running.ledger()]
    billed = Counter((line.attempt_id, line.cost_micros) for line in running.bill.lines)
    assert Counter((x.attempt.attempt_id, x.attempt.cost_micros) for x in lines) == billed
    assert sum(line.attempt.cost_micros for line in lines) == running.bill.total_micros
    return lines


async def test_every_request_ends_once_where_it_began(settings: Settings) -> None:
    stream = [_mixed(number) for number in range(200)]
    async with flow(settings) as running:
        places = await running.publish(*stream)
        ended = await running.terminal(len(stream))
        sent = {orjson.loads(one.value or b"")["id"]: one for one in stream}
        partition_of = dict(zip(sent, (partition for partition, _ in places), strict=True))

        assert Counter(map(_id_of, ended)) == Counter(list(sent))
        for seen in ended:
            request_id = _id_of(seen)
            assert seen.partition == partition_of[request_id]
            assert seen.key == sent[request_id].key
            assert seen.all_of("x-shop") == [dict(sent[request_id].headers)["x-shop"]]
            assert len(seen.all_of("traceparent")) == 1
        results = [_result(seen) for seen in ended if seen.topic == running.topics.results]
        letters = [seen for seen in ended if seen.topic == running.topics.dead_letters]
        assert len(results) + len(letters) == len(stream)
        assert len(results) > 100
        for letter in letters:
            assert letter.value == sent[_id_of(letter)].value

        topics = running.topics
        hops = await running.read(
            [topics.escalations, *map(topics.tier, running.rules.policy.tiers)]
        )
        for seen in hops:
            request_id = seen.json["id"]
            assert (seen.partition, seen.key) == (partition_of[request_id], sent[request_id].key)
        lines = await _bill_equals_ledger(running)
        spent = sum(result.router.cost_micros for result in results)
        spent += sum(int(letter.header("tierline-cost-micros") or 0) for letter in letters)
        assert spent == sum(line.attempt.cost_micros for line in lines)

        receipts = Counter[tuple[str, ...]]()
        for result in results:
            router = result.router
            receipts[router.task, router.tier] += router.cost_micros
        for one in map(_letter, letters):
            answers = [attempt for attempt in one.attempts if attempt.step == "answer"]
            if answers:
                receipts[one.task or "unknown", answers[-1].tier] += one.cost_micros
        async with opened(Clients(settings.kafka)) as model:
            await model.catch_up()
            rows, total = await model.ask(
                lambda asked: figures_by(asked, ("task", "tier"), running.rules.policy, EARLIEST)
            )
        assert {row.name: row.cost_micros for row in rows if row.cost_micros} == receipts
        assert total.cost_micros == running.bill.total_micros


async def test_escalations_climb_with_their_history(settings: Settings) -> None:
    models = _models({"low": 0, "balanced": 0, "premium": 1})
    count = 12
    stream = [
        request(
            f"climb-{number}",
            f"Order AB-{1000 + number} for Jane Doe arrived on 2026-03-01 in Leeds",
            task="extraction",
            plan="enterprise",
        )
        for number in range(count)
    ]
    async with flow(settings, models=models) as running:
        await running.publish(*stream)
        ended = await running.terminal(count)
        assert {seen.topic for seen in ended} == {running.topics.results}
        for seen in ended:
            router = _result(seen).router
            assert [str(tier) for tier in router.path] == ["low", "balanced", "premium"]
            called = [hop.model for hop in router.hops if hop.kind == "attempt"]
            assert len(called) == len(set(called)) == router.attempts == 3
            assert all(hop.why for hop in router.hops)

        envelopes = [
            read_envelope(Escalation, seen.value)
            for seen in await running.read([running.topics.escalations], 2 * count)
        ]
        originals = {one.value for one in stream}
        by_route = Counter(len(envelope.routes) for envelope, _ in envelopes)
        assert by_route == {1: count, 2: count}
        for envelope, raw in envelopes:
            assert raw in originals
            assert [a.attempt_no for a in envelope.attempts] == [
                *range(1, len(envelope.routes) + 1)
            ]
            assert envelope.attempts_left == 6 - len(envelope.attempts)
            assert all(attempt.reply is not None for attempt in envelope.attempts)
        await _bill_equals_ledger(running)


async def test_a_request_without_a_task_is_classified_first(settings: Settings) -> None:
    texts = (
        "How do I add a second user to my workspace, we have 5 seats?",
        "Please extract the order number from: receipt 20331 of Jane Doe",
    )
    stream = [request(f"plain-{n}", text, task=None) for n, text in enumerate(texts)]
    stream.append(request("unknown", "How do I reset my password?", task="not_in_the_policy"))
    async with flow(settings, models=_RELIABLE) as running:
        await running.publish(*stream)
        ended = await running.terminal(len(stream))
        assert {seen.topic for seen in ended} == {running.topics.results}
        for seen in ended:
            router = _result(seen).router
            assert router.task in running.rules.policy.tasks
            assert router.rule == "classify"
            assert next(hop.what for hop in router.hops if hop.kind == "route") == "classify"
        lines = await _bill_equals_ledger(running)
        steps = Counter(line.attempt.step for line in lines)
        assert steps["classify"] == len(stream)


_ABOUT_MONEY = (
    "I was charged twice for order 991",
    "My card was billed two times this month, please pay one back",
    "There is a payment on my card that I do not recognise, 12 euros",
    "Mir wurde die Bestellung 991 zweimal abgebucht",
    "J'ai \u00e9t\u00e9 d\u00e9bit\u00e9 deux fois pour la commande 991",
)


async def test_an_untagged_text_about_money_is_never_answered_unseen(settings: Settings) -> None:
    """Whatever the classify step takes it for; the task that counts is shown."""
    able = {
        name: model.model_copy(update={"quality": 1, "strain": 0})
        for name, model in DEFAULT_MODELS.items()
    }
    async with flow(settings, models=able) as running:
        sent = [request(f"m-{no}", text, task=None) for no, text in enumerate(_ABOUT_MONEY)]
        await running.publish(*sent, request("delicate", "Which dosage is safe?", task=None))
        letters = {one.request_id: one for one in map(_letter, await running.terminal(6))}

    assert {one.reason for one in letters.values()} == {Reason.APPROVAL_REQUIRED}
    delicate = letters.pop("delicate")
    assert {one.task for one in letters.values()} == {"billing_dispute"}
    assert delicate.task is not None
    assert [one.step for one in delicate.attempts] == ["classify", "answer"]


async def test_batch_lines_and_cloud_events_are_requests(settings: Settings) -> None:
    chat = {"messages": [{"role": "user", "content": "How do I export 12 reports as a CSV?"}]}
    line = {
        "custom_id": "batch-1",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {**chat, "model": "gpt-x", "metadata": {"task": "support_answer"}},
    }
    data = {"task": "support_answer", "input": "Where do I change the address on invoice 2291?"}
    attributes = {"specversion": "1.0", "type": "ask", "source": "/shop"}
    binary = [(f"ce_{name}", value.encode()) for name, value in attributes.items()]
    stream = [
        Sent(orjson.dumps(line), b"batch"),
        Sent(orjson.dumps({**attributes, "id": "structured-1", "data": data}), b"structured"),
        Sent(orjson.dumps(data), b"binary", [*binary, ("ce_id", b"binary-1")]),
    ]
    async with flow(settings, models=_RELIABLE) as running:
        await running.publish(*stream)
        ended = await running.terminal(len(stream))
        results = {seen.key: _result(seen) for seen in ended}
        assert {seen.topic for seen in ended} == {running.topics.results}
        assert results[b"batch"].custom_id == "batch-1"
        assert results[b"structured"].id == "/shop^structured-1"
        assert results[b"structured"].custom_id == "structured-1"
        assert results[b"binary"].id == "/shop^binary-1"
        assert {result.router.task for result in results.values()} == {"support_answer"}
        answer = results[b"batch"].response
        assert answer is not None
        assert answer.status_code == 200
        assert answer.body["choices"][0]["message"]["content"]


async def test_a_restart_in_the_middle_loses_and_repeats_nothing(settings: Settings) -> None:
    stream = [_mixed(number) for number in range(200)]
    narrow = settings.model_copy(update={"worker": settings.worker.model_copy(update={"width": 4})})
    async with flow(narrow, latency_scale=0.3) as running:
        await running.publish(*stream)
        some = await running.terminal(20, to_end=False)
        await running.stop()
        assert running.bill.open_calls == 0
        stopped_at = await running.terminal(len(some))
        assert len(stopped_at) < len(stream), "the stop came too late to test anything"
        await running.start()

        ended = await running.terminal(len(stream))
        ids = [orjson.loads(one.value or b"")["id"] for one in stream]
        assert Counter(map(_id_of, ended)) == Counter(ids)
        await _bill_equals_ledger(running)
        calls = [line.attempt_id for line in running.bill.lines]
        assert len(calls) == len(set(calls))


async def test_two_processes_share_the_partitions(settings: Settings) -> None:
    """A second set of stages joins while records flow; the first one hands over half."""
    stream = [_mixed(number) for number in range(120)]
    async with flow(settings, latency_scale=0.2) as running:
        await running.publish(*stream[:60])
        second = Flow(
            running.settings, running.bill, running.rules, running.providers, running._producer
        )
        await asyncio.gather(second.start(), running.publish(*stream[60:]))
        try:
            ended = await running.terminal(len(stream))
        finally:
            await second.stop()
        ids = [orjson.loads(one.value or b"")["id"] for one in stream]
        assert Counter(map(_id_of, ended)) == Counter(ids)
        await _bill_equals_ledger(running)


async def test_a_request_sent_again_ends_once_and_is_paid_once(settings: Settings) -> None:
    """The same bytes under one id and key, at once, later, and after the stages began anew."""
    first, other = request("again-1"), request("again-1", "Which product is this about: a toaster")
    async with flow(settings) as running:
        await running.publish(first, first, request("once-1"), first)
        assert len(await running.terminal(2)) == 2
        calls = running.bill.count
        await running.stop()
        await running.start()
        await running.publish(first, other, request("once-2"))

        ended = await running.terminal(4)

        assert Counter(map(_id_of, ended)) == {"again-1": 2, "once-1": 1, "once-2": 1}
        [letter] = [seen for seen in ended if seen.topic == running.topics.dead_letters]
        assert letter.header("tierline-reason") == "id_reused"
        assert letter.value == other.value
        ids = [line.request_id for line in running.bill.lines[calls:]]
        assert set(ids) == {"once-2"}
