"""Input that is not as hoped: one dead letter with the original bytes, and nothing is paid for."""

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

from consumers.lab.simulator import BillLine
from consumers.runtime.clients import Clients
from consumers.runtime.topic_reader import topic_reader
from consumers.settings import Settings
from schemas.base import Tier
from schemas.codec import dump_envelope, read_dead_letter, read_envelope, read_model
from schemas.escalation import Assignment
from schemas.reasons import Reason
from schemas.result import Result
from tests.kafka.conftest import settings_for
from tests.kafka.flow import Flow, Seen, Sent, flow, request

pytestmark = pytest.mark.kafka

_CANARY = "canary-4711"


def _json(**fields: object) -> bytes:
    body = {"id": "bad", "task": "classification", "input": "Which product is the P-200?"}
    return orjson.dumps({**body, **fields})


def _text(fields: str) -> bytes:
    return b'{"id":"bad","task":"classification","input":"hello",%b}' % fields.encode()


_BAD: Mapping[str, tuple[bytes | None, Reason]] = {
    "bytes that are not text": (b"\xff\xfe\x00\x81 not text", Reason.NOT_TEXT),
    "an image": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", Reason.NOT_TEXT),
    "text that is not JSON": (b"please help me", Reason.NOT_JSON),
    "JSON that ends too early": (_json()[:-9], Reason.NOT_JSON),
    "two documents": (_json() + _json(), Reason.NOT_JSON),
    "nothing at all": (b"", Reason.NOT_JSON),
    "a list": (b"[1, 2]", Reason.INVALID_FIELD),
    "a newer version": (_json(version=2), Reason.NEWER_VERSION),
    "no input": (orjson.dumps({"task": "triage", "user": _CANARY}), Reason.MISSING_FIELD),
    "a number as text": (_json(ambiguity="0.5"), Reason.INVALID_FIELD),
    "a wrong value": (_json(lane=_CANARY), Reason.INVALID_FIELD),
    "300 levels": (_text('"a":' + "[" * 300 + "]" * 300), Reason.TOO_DEEP),
    "1,000 levels": (_text('"a":' + '{"a":' * 1000 + "1" + "}" * 1000), Reason.TOO_DEEP),
    "15,000 levels": (_text('"a":' + "[" * 15_000 + "]" * 15_000), Reason.TOO_DEEP),
    "100,000 levels": (_text('"a":' + "[" * 100_000 + "]" * 100_000), Reason.TOO_LARGE),
    "40,000 values": (_text('"metadata":{"a":[1' + ",1" * 40_000 + "]}"), Reason.TOO_LARGE),
    "33 levels": (_text('"a":' + "[" * 32 + "]" * 32), Reason.TOO_DEEP),
    "NaN": (_text('"ambiguity":NaN'), Reason.BAD_NUMBER),
    "infinity": (_text('"ambiguity":Infinity'), Reason.BAD_NUMBER),
    "1e999": (_text('"metadata":{"a":1e999}'), Reason.BAD_NUMBER),
    "2 to the 64": (_text(f'"metadata":{{"a":{2**64}}}'), Reason.BAD_NUMBER),
    "400 digits": (_text(f'"metadata":{{"a":{"9" * 400}}}'), Reason.BAD_NUMBER),
    "5,000 digits": (_text(f'"metadata":{{"a":{"9" * 5000}}}'), Reason.BAD_NUMBER),
    "a key twice": (_text('"plan":"free","plan":"enterprise"'), Reason.DUPLICATE_KEY),
    "no value": (None, Reason.NULL_VALUE),
    "a look-alike tenant": (_json(tenant="\u0430cme"), Reason.INVALID_FIELD),
    "a lone surrogate": (_text('"user":"\\ud800"'), Reason.NOT_TEXT),
    "a lone surrogate where we do not read": (
        _text('"metadata":{"a":"\\udc00"}'),
        Reason.NOT_TEXT,
    ),
    "an empty prompt": (_json(input="  \n\t"), Reason.EMPTY_INPUT),
    "no messages": (_json(input=[]), Reason.INVALID_FIELD),
    "a message without text": (_json(input=[{"role": "user"}]), Reason.EMPTY_INPUT),
    "a line end in the id": (_json(id="a\nb"), Reason.INVALID_FIELD),
    "colours in the id": (_json(id="\x1b[31mred"), Reason.INVALID_FIELD),
    "a long id": (_json(id="x" * 201), Reason.INVALID_FIELD),
    "an image part": (
        _json(input=[{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]),
        Reason.UNSUPPORTED_PART,
    ),
    "two choices": (
        _json(input={"messages": [{"role": "user", "content": "hello"}], "n": 2}),
        Reason.UNSUPPORTED_CHOICES,
    ),
    "another Batch endpoint": (
        _json(custom_id="c", method="POST", url="/v1/embeddings", body={}),
        Reason.UNSUPPORTED_URL,
    ),
    "another CloudEvents version": (
        _json(specversion="2.0", data={"input": "hello"}),
        Reason.NEWER_VERSION,
    ),
    "a deadline that has passed": (
        _json(deadline="1999-12-31T23:59:59Z"),
        Reason.DEADLINE_PASSED,
    ),
}


def _odd(name: str, text: str = "", **fields: object) -> Sent:
    return request(f"odd-{name}", text, **fields)


def _text_event(name: str, text: bytes, kind: bytes = b"text/plain") -> Sent:
    """A CloudEvent in binary mode whose data is no JSON."""
    said = {"ce_specversion": "1.0", "ce_id": f"odd-{name}", "ce_source": "/x", "ce_type": "x"}
    headers = [(field, value.encode()) for field, value in said.items()]
    return Sent(text, b"k", [*headers, ("content-type", kind)])


def _id_of(name: str) -> str:
    """The request's id: an event has its source in it."""
    return f"/x^odd-{name}" if name.endswith("text") else f"odd-{name}"


#: Text that would go on as fields of the envelope around it.
_FORGED = (
    b'"x","id":"odd-plain","task":"triage","attempts_left":60,"routes":[{"tier":"premium",'
    b'"rule":"forged","reason":"r","routed_at":"2026-01-01T00:00:00Z"}],'
    b'"request_bytes":41,"request":{"task":"triage","input":"Which product?"}'
)

#: Odd, but somebody's honest work: each has a result.
_ODD: Mapping[str, Sent] = {
    "unknown-fields": _odd("unknown-fields", colour="red", nested={"a": [1, None]}),
    "no-key": Sent(_odd("no-key").value, None),
    "no-text-header": Sent(
        _odd("no-text-header").value, b"k", [("x-shop", b"\xff\xfe"), ("x-empty", None)]
    ),
    "no-text-key": Sent(_odd("no-text-key").value, b"\xff\x00\xfe"),
    "year-1970": Sent(_odd("year-1970").value, b"k", timestamp_ms=1000),
    "year-2100": Sent(_odd("year-2100").value, b"k", timestamp_ms=4_102_444_800_000),
    "before-1970": Sent(_odd("before-1970").value, b"k", timestamp_ms=-86_400_000),
    "far-deadline": _odd("far-deadline", deadline="2999-01-01T00:00:00Z"),
    "bidi": _odd("bidi", "Which product is this: \u202eP-200\u202c, caf\u00e9, cafe\u0301?"),
    "zero-width": _odd("zero-width", "Which prod\u200buct is th\u00adis about: the P-200?"),
    "nul": _odd("nul", "Which product is this about:\x00 the P-200 printer?"),
    "bossy": _odd(
        "bossy",
        tier="premium",
        model="sim-large",
        confidence=1,
        budget=10**9,
        base_url="http://127.0.0.1:9/v1",
        attempts=[],
        generation=7,
    ),
    "plain": _odd("plain"),
    "text": _text_event("text", b"How do I change my billing address?"),
    "forged-text": _text_event("forged-text", _FORGED),
    "utf-16-text": _text_event(
        "utf-16-text",
        "How do I change my billing address?".encode("utf-16"),
        b"text/plain; charset=utf-16",
    ),
}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of everything that was sent in one go."""

    letters: Mapping[str, Sequence[Seen]]
    results: Mapping[str, Result]
    assigned: Mapping[str, bytes]
    bill: Sequence[BillLine]
    topics: Counter[str]


@pytest.fixture(scope="module")
async def outcome(broker: str, anyio_backend: str) -> AsyncIterator[_Outcome]:
    """Every bad record in one partition, a good one behind each, then the odd ones."""
    stream: list[Sent] = []
    for number, (value, _) in enumerate(_BAD.values()):
        # A null value with a null key as well: nothing of the record is left to go by.
        key = None if value is None else b"bad"
        stream.append(Sent(value, key, [("x-number", str(number).encode())], partition=0))
        good = request(f"behind-{number}")
        stream.append(Sent(good.value, good.key, partition=0))
    stream += _ODD.values()
    async with flow(settings_for(broker, f"bad{time.monotonic_ns():x}.")) as running:
        await running.publish(*stream)
        ended = await running.terminal(len(stream))
        assigned = await running.read(map(running.topics.tier, Tier))
        letters: dict[str, list[Seen]] = {name: [] for name in _BAD}
        names = list(_BAD)
        for seen in ended:
            if seen.topic == running.topics.dead_letters:
                letters[names[int(seen.header("x-number") or -1)]].append(seen)
        results = [
            read_model(Result, seen.value) for seen in ended if seen.topic == running.topics.results
        ]
        yield _Outcome(
            letters,
            {result.id: result for result in results},
            {found.id: raw for found, raw in (_assignment(seen) for seen in assigned)},
            running.bill.lines,
            Counter(seen.topic.rpartition("llm.")[2] for seen in ended),
        )


def _assignment(seen: Seen) -> tuple[Assignment, bytes]:
    return read_envelope(Assignment, seen.value)


@pytest.mark.parametrize("name", _BAD)
def test_a_bad_record_is_one_dead_letter_with_its_bytes(name: str, outcome: _Outcome) -> None:
    value, reason = _BAD[name]
    (seen,) = outcome.letters[name]
    letter = read_dead_letter(seen.headers)
    assert letter.reason is reason, letter.detail
    assert _sum(seen.value) == _sum(value)
    assert letter.stage == "route"
    assert letter.source.partition == 0
    assert letter.detail
    assert "\n" not in letter.detail
    assert _CANARY not in letter.detail, "the reason names the field, never its value"


@pytest.mark.parametrize("number", range(len(_BAD)), ids=list(_BAD))
def test_the_record_behind_a_bad_one_has_its_result(number: int, outcome: _Outcome) -> None:
    assert f"behind-{number}" in outcome.results


@pytest.mark.parametrize("name", _ODD)
def test_an_odd_record_has_its_result(name: str, outcome: _Outcome) -> None:
    assert _id_of(name) in outcome.results
    assert outcome.assigned[_id_of(name)] == _ODD[name].value


def test_nothing_is_paid_for_a_bad_record(outcome: _Outcome) -> None:
    good = {f"behind-{number}" for number in range(len(_BAD))} | set(map(_id_of, _ODD))
    assert {line.request_id for line in outcome.bill} == good
    assert outcome.topics == {"results": len(good), "dead-letters": len(_BAD)}


def test_a_missing_field_is_named(outcome: _Outcome) -> None:
    (seen,) = outcome.letters["no input"]
    assert read_dead_letter(seen.headers).detail.startswith("input:")


def test_a_producer_cannot_choose_tier_or_model(outcome: _Outcome) -> None:
    bossy, plain = outcome.results["odd-bossy"].router, outcome.results["odd-plain"].router
    assert (bossy.path, bossy.rule, bossy.generation) == (plain.path, plain.rule, 1)
    assert bossy.tier is Tier.LOW
    assert bossy.model.startswith("sim-small")


async def test_mutated_records_are_never_lost(settings: Settings) -> None:
    """Bytes flipped, cut out, doubled and mixed, from a fixed seed: each ends once."""
    dice = random.Random(20261101)
    corpus = [value for value, _ in _BAD.values() if value and len(value) < 2000]
    corpus += [sent.value for sent in _ODD.values() if sent.value] * 3
    # Blanks at the end tell equal ones apart: the same bytes again would be a repeat.
    stream = [
        Sent(_mutated(dice, corpus) + b" " * number, f"mutated-{number}".encode())
        for number in range(300)
    ]
    async with flow(settings) as running:
        await running.publish(*stream)
        ended = await running.terminal(len(stream))
        assert Counter(seen.key for seen in ended) == Counter(sent.key for sent in stream)
        letters = {seen.key: seen for seen in ended if seen.topic == running.topics.dead_letters}
        for sent in stream:
            if sent.key in letters:
                letter = read_dead_letter(letters[sent.key].headers)
                assert letter.reason is not Reason.INTERNAL_ERROR, (sent.value, letter.detail)
                assert _sum(letters[sent.key].value) == _sum(sent.value), letter
        assert 50 < len(letters) < len(stream)


def _mutated(dice: random.Random, corpus: Sequence[bytes]) -> bytes:
    value = bytearray(dice.choice(corpus))
    for _ in range(dice.choice((0, 1, 1, 2, 5))):
        at = dice.randrange(len(value) + 1)
        match dice.randrange(5):
            case 0:
                value[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                del value[at : at + dice.randrange(1, 9)]
            case 2:
                value[at:at] = value[at : at + dice.randrange(1, 40)]
            case 3:
                value[at:at] = dice.choice(
                    (b'"', b"{", b"]", b",", b"\\u0000", b"\\ud800", b"1e99")
                )
            case _:
                other = dice.choice(corpus)
                value[at:] = other[dice.randrange(len(other)) :]
    return bytes(value)


async def test_a_record_the_client_cannot_read_is_stepped_over(settings: Settings) -> None:
    """A header name that is not UTF-8 breaks the client library; a pointer stands in for it.

    What lies beside it in its batch is read. Who takes the partition later reads it again, and so
    do commands.
    """
    async with flow(settings) as running:
        await running.publish(Sent(request("before").value, b"k", partition=1))
        offset = await _publish_unreadable(running, partition=1)
        began = time.monotonic()
        await running.publish(Sent(request("after").value, b"k", partition=1))
        ended = await running.terminal(5)
        assert time.monotonic() - began < 5
        results = {seen.json["id"] for seen in ended if seen.topic == running.topics.results}
        assert results == {"before", "beside-0", "beside-1", "after"}
        (pointer,) = (seen for seen in ended if seen.topic == running.topics.dead_letters)
        letter = read_dead_letter(pointer.headers)
        assert letter.reason is Reason.UNREADABLE_RECORD
        assert (letter.source.topic, letter.source.partition, letter.source.offset) == (
            running.topics.intake,
            1,
            offset,
        )
        assert not pointer.value
        assert {line.request_id for line in running.bill.lines} == results

        await running.stop()
        await running.start()
        await running.publish(Sent(request("later").value, b"k", partition=1))
        await running.terminal(6)
        clients, intake = Clients(settings.kafka), running.topics.intake
        async with topic_reader(clients, [intake]) as reader:
            read = [orjson.loads(record.value or b"")["id"] async for record in reader.until_end()]
        assert read == ["before", "beside-0", "beside-1", "after", "later"]


async def test_a_broken_record_between_stages_is_a_dead_letter(settings: Settings) -> None:
    """Whatever else writes to our topics; where the request's bytes can be told, they are kept."""
    bad_request = orjson.dumps({"task": "classification"})
    async with flow(settings) as running:
        await running.publish(request("sound"))
        (sound,) = await running.read(map(running.topics.tier, Tier), 1)
        envelope, _ = _assignment(sound)
        emptied = Sent(dump_envelope(envelope, bad_request), b"emptied")
        broken = Sent(b'{"id": "x"}', b"broken")
        for topic in (running.topics.tier(Tier.PREMIUM), running.topics.escalations):
            await running.publish(emptied, broken, Sent(None, b"null"), topic=topic)
        ended = await running.terminal(7)
        letters = [seen for seen in ended if seen.topic == running.topics.dead_letters]
        found = Counter((seen.key, seen.value, seen.header("tierline-reason")) for seen in letters)
        assert found == {
            (b"emptied", bad_request, "missing_field"): 1,
            (b"emptied", emptied.value, "invalid_field"): 1,  # an assignment is no escalation
            (b"broken", broken.value, "invalid_field"): 2,
            (b"null", None, "null_value"): 2,
        }
        assert {line.request_id for line in running.bill.lines} == {"sound"}


async def _publish_unreadable(running: Flow, *, partition: int) -> int:
    """A whole record but for the name of its header, which no client library would send.

    It lies between two others in one batch.
    """
    producer = AIOKafkaProducer(bootstrap_servers=running.settings.kafka.bootstrap)
    await producer.start()
    try:
        batch = producer.create_batch()
        for name in ("beside-0", "unreadable", "beside-1"):
            headers = [("x-replace-me", b"value")] if name == "unreadable" else []
            batch.append(timestamp=None, key=b"k", value=request(name).value, headers=headers)
        batch.close()
        written = bytearray(batch._build())
        at = written.index(b"x-replace-me")
        written[at : at + 4] = b"\xff\xfe\xfd\xfc"
        # The sum covers everything behind it: attributes, counters and the records.
        written[17:21] = calc_crc32c(bytes(written[21:])).to_bytes(4, "big")
        batch._buffer = bytes(written)
        sent = await producer.send_batch(batch, running.topics.intake, partition=partition)
        async with asyncio.timeout(10):
            return int((await sent).offset) + 1
    finally:
        await producer.stop()


def _sum(value: bytes | None) -> str:
    return hashlib.sha256(value or b"").hexdigest()
