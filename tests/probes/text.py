"""Reading a foreign text takes at most 5 ms for 100,000 characters, whatever they are."""

import contextlib
import copy
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain, islice
from types import ModuleType
from typing import Any, NamedTuple

import orjson

from consumers.console import exports, showing
from consumers.providers import (
    bodies,
    chat,
    outcomes,
    parts,
    streams,
    unpacking,
    usage,
    waits,
)
from consumers.providers.wire import UnreadableError
from consumers.providers.wires import WIRES
from consumers.telemetry import content, context, redaction
from router.attempt import agreement
from router.checks import CHECKS, Asked, Judged, named, refusals, words
from router.intake import admission
from router.judge import judging
from router.reply import changes, dates, normalise, thoughts, worddiff
from router.reply.reply import Reply
from router.request import languages, signals, text_signals, tokens
from router.review import cases
from schemas import intake, json_numbers, json_text
from schemas.errors import ContractError
from schemas.request import Request
from schemas.usage import Usage
from tests.probes.hostile_texts import hostile_json, hostile_texts, once_slow, tokens_of
from tests.probes.report import ProbeClass, Report

__all__ = ["CLASS", "READERS", "Reader", "seconds_of", "texts_for"]

#: Characters of a text, and what reading it may take.
LENGTH = 100_000
MOST_SECONDS = 0.005
#: Where even a tenth of the length takes so long, the whole would take minutes.
_FAR_TOO_LONG = 0.02
_TEXTS_EACH = 100
_SAMPLED_EACH = 21
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4096}
_KNOWN = frozenset(("refund", "14", "days"))
_SCHEMA = {"properties": {"answer": {"type": "string"}, "label": {"enum": ["a bug", "other"]}}}


class Reader(NamedTuple):
    """A function of ours that reads foreign text, and where its patterns are."""

    name: str
    read: Callable[[str], object]
    module: ModuleType
    #: True for what reads JSON, which has ways of its own to be dear.
    of_json: bool = False


def _request(text: str, context: str = "") -> Request:
    return Request.model_validate({"input": text, "context": {"retrieved": context}})


def _asked(text: str) -> object:
    return intake.read_request(orjson.dumps({"input": text}), {}, fallback_id="x")


def _reply(text: str) -> Reply:
    return Reply(text, "stop", Usage(), {})


def _output(text: str) -> dict[str, Any]:
    return {"answer": text, "label": text[:100], "confidence": 0.9}


_CONTRACT = judging._compiled("own", orjson.dumps({"type": "object"}), is_ours=False)


def _judge(text: str) -> object:
    asked = Asked(_request("Refunds take 14 days."))
    return judging.judge(_reply(text), _CONTRACT, 0.5, named("schema", "refusal"), asked)


#: What a check has to be told to test anything.
_TOLD: Mapping[str, Any] = {
    "length": {"most_words": 10**9, "most_characters": 10**9},
    "required": {"phrases": ["14 days"], "when": {"refund": "money back"}},
    "forbidden": {
        "phrases": ["I guarantee"],
        "unless": {"a a": "b"},
        "emails": True,
        "phones": True,
    },
    "grounding": {"most_unsupported": 1.0, "least_cited": 0.5},
}


def _check(name: str, what: str) -> Callable[[str], object]:
    [check] = named({name: _TOLD.get(name, {})})
    short = "Refunds take 14 days. Ask Ms Brandt about AB-2231."

    def run(text: str) -> object:
        # A request and a reply to it are half as long each.
        half = text[: len(text) // 2]
        asked = Asked(
            _request(short, short)
            if what == "a reply"
            else _request(*_two(text if what == "a request" else half))
        )
        said = {"a reply": text, "a request": short, "both": half}[what]
        judged = Judged(_reply(said), _output(said), None, 0.9, 0.5, asked)
        return check.check.run(judged, check.parameters)

    return run


def _with_text(name: str, text: str) -> Any:
    return {
        "openai": {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]},
        "anthropic": {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"},
        "gemini": {
            "candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]
        },
    }[name]


def _decoding(name: str) -> Callable[[str], object]:
    return lambda text: WIRES[name].decode(_with_text(name, text), _BODY)


def _encoding(name: str) -> Callable[[str], object]:
    return lambda text: WIRES[name].encode(
        {**_BODY, "messages": [{"role": "user", "content": text}], "stop": text}
    )


#: Every text that a record can bring, in each shape that a record can have.
_SHAPES: Mapping[str, Any] = {
    "our own": {
        **dict.fromkeys(("id", "tenant", "plan", "conversation_id", "user", "workflow"), "x"),
        **dict.fromkeys(("justification", "custom_id", "lane", "blast_radius"), "x"),
        "task": "general",
        "deadline": "2026-12-01T00:00:00Z",
        "output_format": "json",
        "metadata": {"a": "b"},
        "context": dict.fromkeys(("system", "user", "retrieved", "history", "tools"), "x"),
        "input": "Hello",
    },
    "a Batch line": {
        "custom_id": "x",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "m",
            "user": "x",
            "messages": "x",
            "metadata": dict.fromkeys(("task", "tenant", "plan", "conversation_id", "lane"), "x"),
        },
    },
    "a CloudEvent": {
        **dict.fromkeys(("id", "source", "type", "subject", "dataschema"), "x"),
        "time": "2026-03-01T12:00:00Z",
        **dict.fromkeys(("datacontenttype", "expirytime", "correlationid"), "x"),
        "specversion": "1.0",
        "data": {"input": "Hello"},
        "data_base64": "eyJ9",
    },
}


def _texts_of(shape: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, value in shape.items():
        if isinstance(value, str):
            yield (name,)
        elif isinstance(value, dict):
            yield from ((name, *path) for path in _texts_of(value))


def _in_field(shape: Mapping[str, Any], path: tuple[str, ...]) -> Callable[[str], object]:
    def placed(text: str) -> Any:
        whole: Any = copy.deepcopy(shape)
        if path[-1] == "data_base64":
            del whole["data"]
        inner = whole
        for step in path[:-1]:
            inner = inner[step]
        # As long as JSON, where some characters take six.
        inner[path[-1]] = text[: LENGTH * len(text) // max(len(orjson.dumps(text)), 1)]
        return whole

    return lambda text: intake.read_request(orjson.dumps(placed(text)), {}, fallback_id="x")


def _two(text: str) -> tuple[str, str]:
    """Two texts that are as long as one together, and alike until near their end."""
    text = text[: len(text) // 2]
    return text, f"{text[:-100]}x{text[-50:]}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


READERS: tuple[Reader, ...] = (
    Reader("schemas.parse_json", lambda text: json_text.parse_json(_bytes(text)), json_text, True),
    Reader(
        "schemas.parse_json of a string",
        lambda text: json_text.parse_json(json.dumps([text])[:LENGTH].encode() + b'"]'),
        json_text,
    ),
    Reader("intake.read_request", _asked, intake),
    Reader(
        "intake.read_request of JSON",
        lambda text: intake.read_request(
            f'{{"input":"Hello","metadata":{text}}}'.encode(errors="replace"), {}, fallback_id="x"
        ),
        intake,
        True,
    ),
    Reader("bodies.parsed_body", lambda text: bodies.parsed_body(_bytes(text)), unpacking, True),
    Reader(
        "bodies.parsed_body of a stream",
        lambda text: bodies.parsed_body(b'data: {"choices":[]}\n\ndata: ' + _bytes(text)),
        streams,
        True,
    ),
    *(
        Reader(f"intake.read_request, {'.'.join(path)} of {name}", _in_field(shape, path), intake)
        for name, shape in _SHAPES.items()
        for path in _texts_of(shape)
    ),
    Reader("as_utf8", lambda text: unpacking.as_utf8(b"\xff" + _bytes(text), text), unpacking),
    Reader("arguments_text", parts.arguments_text, parts, True),
    Reader(
        "loses_digits",
        lambda text: json_numbers.loses_digits(_bytes(text)),
        json_numbers,
        True,
    ),
    Reader("text_signals", text_signals.text_signals, text_signals),
    Reader(
        "text_signals of numbers",
        lambda text: text_signals.text_signals(f"The difference: {text}"),
        text_signals,
    ),
    Reader("without_thoughts", thoughts.without_thoughts, thoughts, True),
    Reader(
        "without_thoughts of a thought",
        lambda text: thoughts.without_thoughts(f"So: <think>{text}</think> {text[:9]}"),
        thoughts,
    ),
    Reader("judge", _judge, normalise, True),
    Reader("normalise_json", normalise.normalise_json, normalise, True),
    Reader(
        "normalise_json in prose",
        lambda text: normalise.normalise_json(f'So: {{"a": {text}'),
        normalise,
    ),
    Reader("normalise_text", normalise.normalise_text, normalise),
    Reader(
        "normalise_text fenced", lambda text: normalise.normalise_text(f"```{text}```"), normalise
    ),
    Reader("trimmed", normalise.trimmed, normalise),
    Reader("comparable", normalise.comparable, normalise),
    Reader(
        "voiced", lambda text: normalise.conformed(_output(text), _SCHEMA, shorten=True), normalise
    ),
    Reader(
        "voiced, shortened",
        lambda text: normalise.conformed(
            _output(text), {"properties": {"answer": {"maxLength": len(text) - 9}}}, shorten=True
        ),
        normalise,
    ),
    Reader("asks_back", lambda text: normalise.asks_back(_output(text)), normalise),
    Reader("iso_date", dates.iso_date, dates),
    Reader("iso_moment", dates.iso_moment, dates),
    Reader("word_diff", lambda text: worddiff.word_diff(*_two(text)), worddiff),
    Reader(
        "word_diff backwards",
        lambda text: worddiff.word_diff(text[: len(text) // 2], text[len(text) // 2 :: -1]),
        worddiff,
    ),
    Reader(
        "word_diff of short texts",
        lambda text: worddiff.word_diff(text[:6000], text[5999::-1]),
        worddiff,
    ),
    Reader(
        "changes_between",
        lambda text: changes.changes_between(*({"answer": one} for one in _two(text))),
        changes,
    ),
    Reader(
        "agreement", lambda text: agreement._called({"function": {"arguments": text}}), normalise
    ),
    Reader("signals.measure", lambda text: signals.measure(_request(*_two(text))), signals),
    Reader("estimate_tokens", tokens.estimate_tokens, tokens),
    Reader("is_spaced", words.is_spaced, words),
    Reader("unsupported", lambda text: words.unsupported(text, _KNOWN, frozenset(), 0.5), words),
    Reader("cited", words.cited, words),
    Reader("numbers_of", words.numbers_of, words),
    Reader(
        "unknown_numbers",
        lambda text: words.unknown_numbers(words.written_numbers(text), _KNOWN),
        words,
    ),
    Reader("spelled_numbers", words.spelled_numbers, words),
    Reader("without_list_markers", words.without_list_markers, words),
    Reader("markers", words.markers, words),
    Reader("source_markers", words.source_markers, words),
    Reader("quotes", lambda text: list(words.quotes(text)), words),
    Reader("names", words.names, words),
    Reader("addresses", words.addresses, words),
    Reader("numbers_and_dates", words.numbers_and_dates, words),
    Reader("conflicts", lambda text: words.conflicts([text]), words),
    Reader("words_of", languages.words_of, languages),
    Reader("language_of", languages.language_of, languages),
    Reader("opens_like_a_refusal", refusals.opens_like_a_refusal, refusals),
    *(
        Reader(f"check {name} of {what}", _check(name, what), words)
        for name in CHECKS
        for what in ("a reply", "a request", "both")
    ),
    *(Reader(f"wire {name}", _decoding(name), chat) for name in WIRES),
    *(Reader(f"wire {name}, of a request", _encoding(name), chat) for name in WIRES),
    Reader("arguments_of", chat.arguments_of, chat, True),
    Reader("usage.booked", lambda text: usage.booked(_BODY, text, None), usage),
    Reader("read_loosely", lambda text: unpacking.read_loosely(_bytes(text)), unpacking, True),
    Reader(
        "read_loosely of a string",
        lambda text: unpacking.read_loosely(json.dumps([text])[:LENGTH].encode() + b'"]'),
        unpacking,
    ),
    Reader(
        "failed_status",
        lambda text: outcomes.failed_status(
            400, {}, orjson.dumps({"error": {"message": text, "details": text}}), _NOW
        ),
        outcomes,
    ),
    Reader("wait_of", lambda text: waits.wait_of(text, _NOW), waits),
    Reader("asked_wait", lambda text: waits.asked_wait({}, {}, text.lower(), _NOW), waits),
    Reader("redact", redaction.redact, redaction),
    Reader(
        "message_fields",
        lambda text: content.message_fields([{"role": "user", "content": text}], None, None),
        redaction,
    ),
    Reader(
        "read_context",
        lambda text: context.read_context(
            [
                ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01".encode()),
                ("tracestate", _bytes(text)),
                ("baggage", _bytes(text)),
            ]
        ),
        context,
    ),
    Reader("cases.skeleton", cases._skeleton, cases),
    Reader("claimed_id", lambda text: admission.claimed_id(_bytes(text)), admission),
    Reader("safe_cell", exports.safe_cell, exports),
    Reader("read_output", showing.read_output, showing, True),
)


def texts_for(reader: Reader, length: int, many: int) -> Iterator[str]:
    """Hostile texts for a reader, the same ones each time, and valid Unicode."""
    yield from once_slow(length)
    for text in hostile_texts(tokens_of(reader.module), length, many, reader.name):
        yield text.encode("utf-8", "replace").decode()
    if reader.of_json:
        yield from hostile_json(length)


def seconds_of(reader: Reader, text: str, *, times: int = 2) -> float:
    """The processor's time that reading takes, the best of some times."""
    best = float("inf")
    for _ in range(times):
        began = time.thread_time()
        # A refusal takes its time as well.
        with contextlib.suppress(ContractError, UnreadableError, ValueError, RecursionError):
            reader.read(text)
        best = min(best, time.thread_time() - began)
        if best < MOST_SECONDS / 2:
            break
    return best


async def _run(report: Report, _: str) -> None:
    for reader in READERS:
        for no, text in enumerate(texts_for(reader, LENGTH, _TEXTS_EACH)):
            took = seconds_of(reader, text[: LENGTH // 10], times=1)
            if took < _FAR_TOO_LONG:
                took = seconds_of(reader, text, times=6)
            through = None
            if took > MOST_SECONDS * max(len(text) / LENGTH, 1):
                through = f"{took * 1000:.1f} ms for {_shown(text)}"
            report.note(f"{reader.name} {no}", through=through)


def _sample(report: Report) -> None:
    """Some texts each, and only how the time grows: four times the text, not ten times the time."""
    for reader in READERS:
        length = LENGTH // 8
        few = islice(texts_for(reader, length, _SAMPLED_EACH), None, None, 7)
        for no, text in enumerate(chain(once_slow(length), few)):
            quarter = seconds_of(reader, text[: len(text) // 4], times=2)
            took = seconds_of(reader, text, times=2) if quarter < _FAR_TOO_LONG else quarter * 99
            grown = f"{took * 1000:.1f} ms, a quarter {quarter * 1000:.1f} ms: {_shown(text)}"
            is_too_long = took > 10 * quarter + MOST_SECONDS
            report.note(f"{reader.name} {no}", through=grown if is_too_long else None)


def _shown(text: str) -> str:
    return ascii(re.sub(r"(?s)(.{1,40}?)\1{3,}", r"\1…", text[:120])[:60])


CLASS = ProbeClass("text", 4_000, _run, sample=_sample)
