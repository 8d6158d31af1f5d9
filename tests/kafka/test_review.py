"""Reviewers' decisions on a real broker: each becomes one result or one requeue, and no more."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from consumers.settings import Settings
from router.review.audit import chained
from schemas.base import Tier
from schemas.codec import read_dead_letter, read_model
from schemas.dead_letter import Pointer
from schemas.feedback import Feedback
from schemas.result import Result
from schemas.review import AuditLine, Decision
from tests.kafka.flow import Flow, Seen, Sent, flow, request

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

_TEXT = "You charged me twice for order 7, I want a refund of 30.00"
_TRACE = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


def _line(what: str, letter: Seen, decision: Decision | None = None, undoes: str = "") -> Sent:
    line = AuditLine.model_validate(
        {
            "writer": "test",
            "no": 1,
            "at": datetime.now(UTC),  # noqa: TID251
            "who": "ann",
            "what": what,
            "decision": decision,
            "undoes": undoes or None,
        }
    )
    value = orjson.dumps(chained(line, None).model_dump(mode="json", exclude_none=True))
    headers = [(name, text) for name, text in letter.headers if name == "traceparent"]
    return Sent(value, letter.key, headers, partition=letter.partition)


def _decision(letter: Seen, name: str, **fields: Any) -> Decision:
    place = Pointer(topic=letter.topic, partition=letter.partition, offset=letter.offset)
    said = read_dead_letter(letter.headers)
    given = {
        "decision_id": name,
        "request_id": said.request_id,
        "generation": said.generation,
        "letter": place,
        "undo_seconds": 0.0,
        **fields,
    }
    return Decision.model_validate(given)


async def _letters(running: Flow, count: int) -> list[Seen]:
    """Requests whose answers wait for a person's approval, in the order of their ids."""
    disputes = [request(f"dispute-{no}", _TEXT, task="billing_dispute") for no in range(count)]
    await running.publish(*(Sent(one.value, one.key, [_TRACE]) for one in disputes))
    found = await running.read([running.topics.dead_letters], count)
    return sorted(found, key=lambda seen: seen.header("tierline-request-id") or "")


async def _decide(running: Flow, *lines: Sent) -> None:
    await running.publish(*lines, topic=running.topics.review)


async def test_every_decision_ends_in_what_it_says(settings: Settings) -> None:
    """One result or requeue each, under its id and trace, with feedback; a discard in nothing."""
    async with flow(settings) as running:
        approve, edit, reject, requeue, retry, discard = letters = await _letters(running, 6)
        [answered] = [one for one in read_dead_letter(approve.headers).attempts if one.reply][-1:]
        output = {"answer": "We refund 30.00.", "confidence": 1.0, "next_action": "none"}
        decisions = [
            _decision(approve, "d-0", action="approve", attempt_id=answered.attempt_id),
            _decision(edit, "d-1", action="edit", output=output, reason="the sum was missing"),
            _decision(reject, "d-2", action="reject"),
            _decision(requeue, "d-3", action="requeue"),
            _decision(retry, "d-4", action="retry", tier=Tier.PREMIUM),
            _decision(discard, "d-5", action="discard", reason="a test order"),
        ]
        lines = zip(letters, decisions, strict=True)
        await _decide(running, *(_line("decide", letter, one) for letter, one in lines))

        results = {
            seen.json["id"]: seen for seen in await running.read([running.topics.results], 3)
        }
        assert results.keys() == {"dispute-0", "dispute-1", "dispute-2"}
        for number, letter in enumerate(letters[:3]):
            seen = results[f"dispute-{number}"]
            result = read_model(Result, seen.value)
            assert result.router.resolves == str(decisions[number].letter)
            assert (result.router.final, result.router.generation) == (True, 1)
            assert (seen.key, seen.partition) == (letter.key, letter.partition)
            assert (seen.header("traceparent") or "").split("-")[1] == _TRACE[1].decode()[3:35]
        kinds = [results[f"dispute-{no}"].json["router"]["kind"] for no in range(3)]
        assert kinds == ["answer", "answer", "safe_default"]
        first = results["dispute-0"].json
        assert first["response"]["body"]["choices"][0]["message"]["content"] == answered.reply
        assert results["dispute-1"].json["router"]["output"] == output
        again = await running.read([running.topics.dead_letters], 8)
        generations = {
            (seen.header("tierline-request-id"), seen.header("tierline-path"))
            for seen in again
            if seen.header("tierline-generation") == "2"
        }
        assert {name for name, _ in generations} == {"dispute-3", "dispute-4"}
        assert ("dispute-4", "premium") in generations

        said = [
            read_model(Feedback, s.value) for s in await running.read([running.topics.feedback], 5)
        ]
        assert {one.request_id: one.kind for one in said} == {
            "dispute-0": "accepted",
            "dispute-1": "edited",
            "dispute-2": "complaint",
            "dispute-3": "regenerated",
            "dispute-4": "regenerated",
        }
        assert all(one.source == "reviewer" for one in said)


async def test_the_first_decision_stands_unless_it_is_undone(settings: Settings) -> None:
    """Also when the stage is stopped in between and begins anew."""
    async with flow(settings) as running:
        one, two, three = await _letters(running, 3)
        await _decide(
            running,
            _line("decide", one, _decision(one, "a-1", action="reject", undo_seconds=2.0)),
            _line("decide", one, _decision(one, "a-2", action="requeue", undo_seconds=2.0)),
            _line("decide", two, _decision(two, "b-1", action="reject", undo_seconds=2.0)),
            _line("undo", two, undoes="b-1"),
            _line("decide", two, _decision(two, "b-2", action="requeue", undo_seconds=2.0)),
            _line("decide", three, _decision(three, "c-1", action="reject", undo_seconds=2.0)),
            _line("undo", three, undoes="c-1"),
        )
        await running.stop()
        await running.start()
        await running.read([running.topics.dead_letters], 4)
        await _decide(
            running,
            _line("decide", one, _decision(one, "a-3", action="reject")),
            _line("undo", one, undoes="a-1"),
            _line("decide", three, _decision(three, "c-2", action="reject")),
        )
        results = await running.read([running.topics.results], 2)
        ids = sorted(seen.json["id"] for seen in results)
        assert ids == ["dispute-0", "dispute-2"]
        escalations = await running.read([running.topics.escalations])
        again = [seen.json["id"] for seen in escalations if seen.json["reason"] == "requeued"]
        assert again == ["dispute-1"]


async def test_what_cannot_be_carried_out_is_told_and_may_be_decided_anew(
    settings: Settings,
) -> None:
    async with flow(settings) as running:
        [letter] = await _letters(running, 1)
        wrong = [
            _decision(letter, "w-1", action="edit", output={"answer": 7}),
            _decision(letter, "w-2", action="approve", attempt_id="dispute-0.1.9"),
            _decision(letter, "w-3", action="retry", tier=None),
        ]
        lines: list[Seen] = []
        for told, decision in enumerate(wrong, start=1):
            await _decide(running, _line("decide", letter, decision))
            lines = await running.read([running.topics.review], 2 * told)
        refused = {
            seen.json["undoes"]: seen.json["note"]
            for seen in lines
            if seen.json["what"] == "refused"
        }
        assert refused.keys() == {"w-1", "w-2", "w-3"}
        assert "output" in refused["w-1"]

        await _decide(running, Sent(b"no line", letter.key, partition=letter.partition))
        await _decide(running, _line("decide", letter, _decision(letter, "w-4", action="reject")))
        [result] = await running.read([running.topics.results], 1)
        assert result.json["router"]["review"] == "reject"


@pytest.mark.parametrize(
    ("says", "kind"), [("silent", None), ("notify", "in_review"), ("safe_default", "safe_default")]
)
async def test_what_a_consumer_reads_while_a_person_has_the_request(
    settings: Settings, says: str, kind: str | None
) -> None:
    """Nothing, or one result that is not final, and the person's answer after it."""
    async with flow(settings) as running:
        await running.stop()
        policy = running.rules.policy
        tasks = dict(policy.tasks)
        row = tasks["billing_dispute"]
        tasks["billing_dispute"] = row.model_copy(update={"while_in_review": says})
        changed = policy.model_copy(update={"tasks": tasks})
        running.rules = replace(running.rules, policy=changed)
        await running.start()
        [letter] = await _letters(running, 1)
        await _decide(running, _line("decide", letter, _decision(letter, "n-1", action="reject")))
        found = await running.read([running.topics.results], 1 if kind is None else 2)

        told = [(seen.json["router"]["kind"], seen.json["router"]["final"]) for seen in found]
        assert told == [*([(kind, False)] if kind else []), ("safe_default", True)]
