"""A stream that nobody asked for is read into one reply, and a body by what its bytes are."""

import gzip
import json
import random
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest

from consumers.providers.bodies import parsed_body
from consumers.providers.masking import masking
from consumers.providers.outcomes import error_within, failed_within
from consumers.providers.unpacking import unpacked
from consumers.providers.wire import UnreadableError
from consumers.providers.wires import WIRES

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
TEXT = '{"answer": "ok — né", "confidence": 0.9}'


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {
        "id": "c",
        "model": "m",
        "choices": [{"index": 0, "delta": said, "finish_reason": finish}],
    }


OPENAI = [
    delta(role="assistant", content=""),
    delta(reasoning_content="hm"),
    *(delta(content=piece) for piece in TEXT),
    delta(finish="stop"),
    {"choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": 20}},
]
ANTHROPIC: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {"id": "c", "content": [], "model": "m", "usage": {"input_tokens": 30}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "hm"},
    },
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    *(
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": piece}}
        for piece in TEXT
    ),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 20},
    },
    {"type": "message_stop"},
]
GEMINI: list[dict[str, Any]] = [
    {"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}]}}]},
    *({"candidates": [{"content": {"parts": [{"text": piece}]}}]} for piece in TEXT),
    {
        "candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 30, "candidatesTokenCount": 20},
    },
]
STREAMS: dict[str, list[dict[str, Any]]] = {
    "openai": OPENAI,
    "anthropic": ANTHROPIC,
    "gemini": GEMINI,
}


def as_events(chunks: list[Any], end: str = "\n\n", done: str = "") -> str:
    told = [f"event: {one.get('type', 'x')}\ndata: {json.dumps(one)}" for one in chunks]
    return ": hello\n\n" + end.join([*told, *([f"data: {done}"] if done else [])]) + end


def as_lines(chunks: list[Any]) -> str:
    return "\n".join(json.dumps(one) for one in chunks)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "written",
    [
        pytest.param(as_events, id="events"),
        pytest.param(lambda chunks: as_events(chunks, done="[DONE]"), id="events and their end"),
        pytest.param(lambda chunks: as_events(chunks).replace("\n", "\r\n"), id="CR LF"),
        pytest.param(lambda chunks: as_events(chunks, end="\n"), id="no line between them"),
        pytest.param(lambda chunks: as_events(chunks).replace("data: ", "data:"), id="no blank"),
        pytest.param(lambda chunks: "\ufeff" + as_events(chunks), id="a byte order mark"),
        pytest.param(as_lines, id="a line each"),
        pytest.param(json.dumps, id="a list"),
    ],
)
def test_a_stream_is_the_reply_it_brings(wire, written):
    raw = written(STREAMS[wire]).encode()

    reply = WIRES[wire].decode(parsed_body(raw, "text/event-stream", wire), BODY)

    assert (reply.text, reply.finish_reason) == (TEXT, "stop")
    assert (reply.usage.input_side, reply.usage.output_side) == (30, 20)
    assert not reply.oddities


@pytest.mark.parametrize("wire", WIRES)
def test_a_stream_without_its_end_is_no_reply(wire):
    raw = as_events(STREAMS[wire][:-3]).encode()

    with pytest.raises(UnreadableError):
        parsed_body(raw, "text/event-stream", wire)


def test_a_whole_reply_in_one_event_is_the_reply():
    whole = {"choices": [{"index": 0, "message": {"content": TEXT}, "finish_reason": "stop"}]}
    raw = f"data: {json.dumps(whole)}\n\ndata: [DONE]\n\n".encode()

    assert WIRES["openai"].decode(parsed_body(raw), BODY).text == TEXT


_OVERLOADED = {"error": {"message": "overloaded", "code": 503, "type": "overloaded_error"}}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(("part", "reason"), [(0, "throttled"), (1, "throttled"), (-3, "unknown")])
def test_an_error_in_a_stream_is_one_of_a_call_that_may_have_run(wire, part, reason):
    """Turned away before it began it costs nothing; having begun it may have cost all of it."""
    part = 0 if part == 1 and wire != "openai" else part
    raw = as_events([*STREAMS[wire][:part], _OVERLOADED]).encode()

    found = error_within(parsed_body(raw, "text/event-stream", wire))
    failure = failed_within(found, {}, datetime(2026, 1, 1, tzinfo=UTC))

    assert failure is not None
    assert reason in failure.reason


def test_tool_calls_of_a_stream_are_put_together():
    pieces = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"n": 1844674407'}},
        {"index": 0, "function": {"arguments": "37095516170001}"}},
        {"index": 1, "id": "b", "function": {"name": "g"}},
    ]
    chunks = [*(delta(tool_calls=[piece]) for piece in pieces), delta(finish="tool_calls")]

    reply = WIRES["openai"].decode(parsed_body(as_events(chunks).encode()), BODY)

    told = [(call["id"], *call["function"].values()) for call in reply.tool_calls]
    assert told == [("a", "f", '{"n": 184467440737095516170001}'), ("b", "g", "{}")]


def test_a_tool_call_of_anthropics_stream_is_put_together():
    chunks: list[dict[str, Any]] = [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "id": "a", "name": "f", "input": {}},
        },
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"partial_json": piece}}
            for piece in ("", '{"n": ', "1}")
        ),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
    ]

    reply = WIRES["anthropic"].decode(
        parsed_body(as_events(chunks).encode(), "", "anthropic"), BODY
    )

    assert reply.tool_calls[0]["function"] == {"name": "f", "arguments": '{"n": 1}'}


def deflated(raw: bytes) -> bytes:
    return zlib.compress(raw, wbits=-15)


@pytest.mark.parametrize(
    "said", ["", "gzip", "x-gzip", "deflate", "br", "zstd", "gzip, gzip", "utf-8"]
)
@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(lambda raw: raw, id="not at all"),
        pytest.param(gzip.compress, id="gzip"),
        pytest.param(zlib.compress, id="zlib"),
        pytest.param(lambda raw: gzip.compress(gzip.compress(raw)), id="twice"),
        pytest.param(lambda raw: zlib.compress(gzip.compress(raw)), id="in two ways"),
        pytest.param(lambda raw: gzip.compress(raw[:9]) + gzip.compress(raw[9:]), id="members"),
    ],
)
def test_a_body_is_unpacked_by_what_it_is_not_by_what_is_said(said, packed):
    raw = TEXT.encode()

    assert unpacked(packed(raw), said, 1000) == raw


def test_deflate_without_a_header_is_unpacked_where_it_is_said():
    assert unpacked(deflated(b"{}" * 99), "deflate", 1000) == b"{}" * 99


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
@pytest.mark.parametrize("length", [1, 300, 65_536, 200_000])
def test_a_body_without_its_trailer_is_unpacked(pack, length):
    raw = random.Random(length).randbytes(length) + b"x" * length

    for missing in range(1, 9 if pack is gzip.compress else 5):
        assert unpacked(pack(raw)[:-missing], "gzip", 1 << 20) == raw


def test_a_body_that_grows_too_long_is_none():
    assert unpacked(gzip.compress(b" " * 10_000), "gzip", 1000) is None


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", "application/json; charset=iso-8859-1"),
        ("utf-8-sig", "application/json"),
        ("utf-16", "application/json"),
        ("utf-16-le", "application/json"),
        ("utf-32", "application/json; charset=utf-8"),
        ("latin-1", "application/json; charset=ISO-8859-1"),
        ("cp1252", 'application/json; charset="windows-1252"'),
    ],
)
def test_a_body_is_read_in_the_encoding_it_is_in(encoding, said):
    assert parsed_body('{"a": "né"}'.encode(encoding), said) == {"a": "né"}


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda raw: b")]}'" + raw, id="a guard"),
        pytest.param(lambda raw: b")]}',\n" + raw, id="a guard with a comma"),
        pytest.param(lambda raw: b"\xef\xbb\xbf)]}'\r\n" + raw, id="a guard behind a mark"),
        pytest.param(lambda raw: b"for (;;);" + raw, id="a loop"),
        pytest.param(lambda raw: b"while(1);" + raw, id="another loop"),
        pytest.param(lambda raw: b"\0" + raw, id="a zero before"),
        pytest.param(lambda raw: raw + b"\0\0\0", id="zeros behind"),
        pytest.param(lambda raw: b"\0\r\n\0" + raw + b"\n\0", id="zeros and lines around"),
    ],
)
@pytest.mark.parametrize("body", ['{"a": "né", "b": [1]}', '{"a": "né\n", "b": [1]}'])
def test_what_stands_around_a_body_does_not_hide_it(spoil, body):
    assert parsed_body(spoil(body.encode())) == json.loads(body, strict=False)


def test_a_key_in_pieces_is_masked_as_one():
    raw = as_events([delta(content="my key is sk-0123"), delta(content="456789"), delta("stop")])
    masked = masking(["sk-0123456789"])

    data = parsed_body(raw.encode("utf-16"), "", "openai", masked)

    assert WIRES["openai"].decode(data, BODY).text == "my key is [secret]"
