"""Signals: measurable facts about a request. What the producer sends wins; the rest is estimated.

The estimates come from word tables, so that anybody can read why a request counts as ambiguous or
risky. They only decide where a request starts: a poor estimate costs a call, never an answer.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import jsonschema_rs
import orjson

from router.request.tokens import estimate_tokens
from schemas.request import Request

__all__ = ["TEXT_SIGNALS", "TEXT_WORDS", "Signals", "measure", "signal_facts"]

#: The words of each text signal, in English. Texts in other languages get no signals, and start
#: where their task starts.
TEXT_WORDS: Mapping[str, tuple[str, ...]] = {
    "angry": (
        "furious", "unacceptable", "ridiculous", "outrageous", "terrible", "worst", "angry",
        "disgusted", "fed up", "scam", "useless",
    ),
    "urgent": (
        "urgent", "urgently", "asap", "immediately", "right now", "emergency",
        "production is down",
    ),
    "risky": (
        "refund", "refunds", "refunded", "money back", "chargeback", "lawyer", "legal", "lawsuit",
        "sue you", "contract", "contracts", "liability", "gdpr", "compliance", "medical",
        "diagnosis", "dosage", "delete my account", "fraud", "hacked", "stolen", "breach",
        "wire transfer", "charged me twice", "charged twice",
    ),
    "open_ended": (
        "trade-off", "trade-offs", "tradeoff", "tradeoffs", "pros and cons", "what do you think",
        "recommend", "strategy", "should we", "compare", "brainstorm", "best way",
    ),
    "conflicting": (
        "but the", "but then", "however", "contradicts", "on the other hand", "does not match",
        "doesn't match", "conflict", "conflicts", "inconsistent", "although",
    ),
    "vague": (
        "somehow", "something", "stuff", "whatever", "not sure", "idk", "this thing",
        "it is weird", "doesn't work", "does not work", "you know",
    ),
}  # fmt: skip

#: Every name that a rule may ask for under `text`.
TEXT_SIGNALS = (*TEXT_WORDS, "several_sources")

_SPACED = str.maketrans(dict.fromkeys('.,;:!?()[]{}<>"“”„«»`*_/\\|~…\n\t\r', " "))
#: Phrases by their first word, so that a phrase is looked for only where that word occurs.
_BY_FIRST: Mapping[str, tuple[tuple[str, str], ...]] = {
    first: tuple(
        (phrase, name)
        for name, phrases in TEXT_WORDS.items()
        for phrase in phrases
        if phrase.split()[0] == first
    )
    for phrases in TEXT_WORDS.values()
    for first in (phrase.split()[0] for phrase in phrases)
}
_FIRST = frozenset(_BY_FIRST)
#: Most requests have none of the words. A JSON Schema pattern asks for all of them at once in a
#: linear-time engine: 2 microseconds for 1 kB, where a search word by word takes 15 to 35.
#: Lines may be wrapped anywhere in a phrase.
_ANY = jsonschema_rs.validator_for(
    {"pattern": "|".join(sum(TEXT_WORDS.values(), start=())).replace(" ", "[ \n]")}
)
#: A number, an id or a date makes a request specific.
_DIGIT = jsonschema_rs.validator_for({"pattern": "[0-9]"})

_NO_TEXT: frozenset[str] = frozenset()
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
_SHORT, _VERY_SHORT = 60, 20


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
    signals = _text_signals(text)
    tokens = _context_tokens(request, text)
    context = request.context
    sources = sum(1 for part in (context.retrieved, context.history, context.tools) if part)
    if sources >= 2:
        signals.add("several_sources")
    missing = (request.ambiguity is None, request.blast_radius is None, request.complexity is None)
    questions = text.count("?")
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
        text=frozenset(signals) if signals else _NO_TEXT,
        estimated=_ESTIMATED[missing],
    )


def signal_facts(request: Request) -> dict[str, Any]:
    """What rules may ask about a request, measured as the route stage measures it."""
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in measure(request)._asdict().items()
    }


def _text_signals(text: str) -> set[str]:
    lower = text.lower()
    if not lower.isascii():
        lower = lower.replace("\u2019", "'")
    # Searching for one character is much faster than for two.
    is_loud = "!" in text and "!!" in text
    if not is_loud and not _matches(_ANY, lower):
        return set()

    words = [word.strip("'-") for word in lower.translate(_SPACED).split()]
    spaced = f" {' '.join(words)} "
    signals = {
        name
        for first in _FIRST.intersection(words)
        for phrase, name in _BY_FIRST[first]
        if phrase == first or f" {phrase} " in spaced
    }
    if is_loud:
        signals.add("angry")
    return signals


def _matches(pattern: jsonschema_rs.Validator, text: str) -> bool:
    try:
        return pattern.is_valid(text)
    except ValueError:  # half a character: only the slower search can read that
        return True


def _context_tokens(request: Request, text: str) -> dict[str, int]:
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
        beside = _json_tokens(message.model_extra, _SENT_BESIDE_TEXT)
        if message.role != "user":
            beside += estimate_tokens(message.text)
        name = "system" if message.role in ("system", "developer") else "history"
        if beside:
            tokens[name] = tokens.get(name, 0) + beside
    for name, fields in _SENT_BESIDE_MESSAGES.items():
        if beside := _json_tokens(request.input.model_extra, fields):
            tokens[name] = tokens.get(name, 0) + beside
    if isinstance(output_format := request.output_format, dict):
        format_tokens = _json_tokens({"format": output_format}, ("format",))
        tokens["system"] = tokens.get("system", 0) + format_tokens
    return tokens


def _json_tokens(fields: Mapping[str, Any] | None, names: Sequence[str]) -> int:
    """About how many tokens these fields have as JSON."""
    values = [fields[name] for name in names if fields.get(name)] if fields else ()
    return sum(estimate_tokens(orjson.dumps(value).decode()) for value in values)


def _ambiguity(text: str, signals: set[str], questions: int) -> float:
    """How underspecified a request is: short, vague, without facts, with mixed goals."""
    hundredths = 10
    if len(text) < _SHORT:
        hundredths += 10
    if len(text) < _VERY_SHORT:
        hundredths += 20
    if "vague" in signals:
        hundredths += 35
    if "conflicting" in signals:
        hundredths += 20
    if "open_ended" in signals:
        hundredths += 20
    if questions > 2:
        hundredths += 15
    if _matches(_DIGIT, text):
        hundredths -= 10
    return min(hundredths, 100) / 100


def _blast_radius(signals: set[str]) -> str:
    if "risky" in signals:
        return "high"
    return "medium" if signals & {"angry", "urgent"} else "low"


def _complexity(signals: set[str], questions: int, tokens: int) -> int:
    """From 1 to 5: by length, number of questions, and whether goals are mixed or open."""
    score = 1 + (tokens > 200) + (tokens > 2_000) + (questions > 1)
    score += bool(signals & {"conflicting", "open_ended"})
    return min(score, 5)
