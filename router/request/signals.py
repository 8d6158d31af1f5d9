"""Signals: measurable facts about a request. What the producer sends wins; the rest is estimated.

The estimates come from word tables, so that anybody can read why a request counts as ambiguous or
risky. They only decide where a request starts: a poor estimate costs a call, never an answer.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import islice, product
from typing import Any, NamedTuple

import orjson

from router.request.patterns import matcher_of
from router.request.texts import text_signals
from router.request.tokens import estimate_tokens
from router.request.word_tables import SIGNALS
from schemas.request import Message, Request

__all__ = [
    "TEXT_SIGNALS",
    "Signals",
    "context_tokens",
    "measure",
    "message_tokens",
    "signal_facts",
    "signal_words",
]

#: Every name that a rule may ask for under `text`.
TEXT_SIGNALS = (*SIGNALS, "several_sources")

#: A number, an id or a date makes a request specific.
_has_digit = matcher_of("[0-9]")
#: However often a question mark is repeated, it ends one question.
_QUESTION = re.compile(r"\?[?!\s]*+")
_MANY_QUESTIONS = 3
#: What a provider is sent beside texts: fields of a message, and of a chat body by component.
_SENT_BESIDE_TEXT = ("tool_calls", "function_call", "refusal")
_SENT_BESIDE_MESSAGES = {"tools": ("tools", "functions"), "system": ("response_format",)}
_ESTIMATES = ("ambiguity", "blast_radius", "complexity")
#: The names of the estimates, by which of the three the producer left out.
_ESTIMATED = {
    missing: frozenset(
        name for name, is_missing in zip(_ESTIMATES, missing, strict=True) if is_missing
    )
    for missing in product((True, False), repeat=3)
}
#: Words of a short text, and of a very short one.
_SHORT, _VERY_SHORT = 11, 4
#: What a word has at least, in bytes of UTF-8, in scripts without spaces between words.
_WORD_BYTES = 15
#: Texts that speak of one thing in two ways, and requests that ask for more than one thing.
_DISAGREEING = frozenset(("conflicting", "disagreeing_numbers", "self_contradiction"))
_HARD = _DISAGREEING | {"open_ended", "exceptions"}


class Signals(NamedTuple):
    """What rules may ask about a request."""

    ambiguity: float
    blast_radius: str
    complexity: int
    #: Estimated tokens by component; `user` includes the input.
    context_tokens: Mapping[str, int]
    total_tokens: int
    text: frozenset[str]
    #: Which of ambiguity, blast radius and complexity are estimates.
    estimated: frozenset[str]


def measure(request: Request) -> Signals:
    """Measure a request. It is cheap enough for every request of the route stage."""
    text = request.text
    signals = text_signals(text)
    tokens = context_tokens(request, text)
    context = request.context
    if sum(1 for part in (context.retrieved, context.history, context.tools) if part) >= 2:
        signals |= {"several_sources"}
    if "!!!" in text:
        signals |= {"angry"}
    missing = (request.ambiguity is None, request.blast_radius is None, request.complexity is None)
    questions = text.count("?")
    if questions > 1:
        questions = sum(1 for _ in islice(_QUESTION.finditer(text), _MANY_QUESTIONS))
    given = request.ambiguity
    ambiguity = _ambiguity(text, signals, questions) if given is None else given
    blast_radius = request.blast_radius or _blast_radius(signals)
    total_tokens = sum(tokens.values())
    complexity = request.complexity or _complexity(signals, questions, total_tokens)
    return Signals(
        ambiguity=ambiguity,
        blast_radius=blast_radius,
        complexity=complexity,
        context_tokens=tokens,
        total_tokens=total_tokens,
        text=signals,
        estimated=_ESTIMATED[missing],
    )


def signal_facts(signals: Signals) -> dict[str, Any]:
    """The signals as records, pages and JSON show them: the fields of `SignalsTaken`."""
    return {
        "ambiguity": signals.ambiguity,
        "blast_radius": signals.blast_radius,
        "complexity": signals.complexity,
        "context_tokens": dict(signals.context_tokens),
        "total_tokens": signals.total_tokens,
        "text": sorted(signals.text),
        "estimated": sorted(signals.estimated),
    }


def signal_words(facts: Mapping[str, Any]) -> str:
    """The signals in words, of the fields of `signal_facts`."""
    guessed = f" (estimated: {', '.join(facts['estimated'])})" if facts["estimated"] else ""
    shown = ", ".join(facts["text"]).replace("_", " ") or "none of the signals"
    return (
        f"ambiguity {facts['ambiguity']:g}, blast radius {facts['blast_radius']}, complexity "
        f"{facts['complexity']}, about {facts['total_tokens']} tokens{guessed}; the text shows "
        f"{shown}"
    )


def context_tokens(request: Request, text: str) -> dict[str, int]:
    """Estimated tokens by component; `text` is the request's, which counts as the user's."""
    context = request.context
    tokens = {"user": estimate_tokens(text)}
    if context.model_fields_set:
        parts = {
            "system": context.system,
            "retrieved": context.retrieved,
            "history": context.history,
            "tools": context.tools,
        }
        tokens["user"] += estimate_tokens(context.user)
        tokens.update({name: estimate_tokens(part) for name, part in parts.items() if part})
    for message in request.messages:
        name = "system" if message.role in ("system", "developer") else "history"
        if beside := message_tokens(message):
            tokens[name] = tokens.get(name, 0) + beside
    for name, fields in _SENT_BESIDE_MESSAGES.items():
        if beside := _json_tokens(request.input.model_extra, fields):
            tokens[name] = tokens.get(name, 0) + beside
    if isinstance(output_format := request.output_format, dict):
        format_tokens = _json_tokens({"format": output_format}, ("format",))
        tokens["system"] = tokens.get("system", 0) + format_tokens
    return tokens


def message_tokens(message: Message) -> int:
    """Estimated tokens of a message beside what the user says in it."""
    beside = _json_tokens(message.model_extra, _SENT_BESIDE_TEXT)
    return beside if message.role == "user" else beside + estimate_tokens(message.text)


def _json_tokens(fields: Mapping[str, Any] | None, names: Sequence[str]) -> int:
    """About how many tokens these fields have as JSON."""
    values = [fields[name] for name in names if fields.get(name)] if fields else ()
    return sum(estimate_tokens(orjson.dumps(value).decode()) for value in values)


def _ambiguity(text: str, signals: frozenset[str], questions: int) -> float:
    """How underspecified a request is: short, vague, without facts, with mixed goals."""
    hundredths = 10
    size = _size(text)
    if size < _SHORT:
        hundredths += 10
    if size < _VERY_SHORT:
        hundredths += 20
    if "vague" in signals:
        hundredths += 35
    if signals & _DISAGREEING:
        hundredths += 20
    if "open_ended" in signals:
        hundredths += 20
    if "missing_facts" in signals:
        hundredths += 20
    if questions == _MANY_QUESTIONS or "mixed_goals" in signals:
        hundredths += 15
    if _has_digit(text):
        hundredths -= 10
    return min(hundredths, 100) / 100


def _size(text: str) -> int:
    """About how many words a text has, as far as it counts whether it is short."""
    if len(text) >= _SHORT * _WORD_BYTES:
        return _SHORT
    return max(len(text.split()), len(text.encode("utf-8", "replace")) // _WORD_BYTES)


def _blast_radius(signals: frozenset[str]) -> str:
    if "risky" in signals:
        return "high"
    return "medium" if signals & {"angry", "urgent"} else "low"


def _complexity(signals: frozenset[str], questions: int, tokens: int) -> int:
    """From 1 to 5: by length, number of questions, and whether goals are mixed or open."""
    score = 1 + (tokens > 200) + (tokens > 2_000) + (questions > 1 or "mixed_goals" in signals)
    score += bool(signals & _HARD)
    return min(score, 5)
