"""The replies of simulated models, which depend on the seed, the model and the prompt alone."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consumers.lab.simulator.settings import ModelBehaviour
from router.request.tokens import estimate_tokens

__all__ = ["ModelReply", "answer", "within"]

#: Words of a text by which a label, task or action is chosen. The first match wins.
_HINTS: Sequence[tuple[str, str]] = (
    ("refund", r"refund|money back|charged? (?:me )?(?:twice|double)|reimburse"),
    ("billing_dispute", r"refund|charged? (?:me )?(?:twice|double)|chargeback|dispute"),
    ("billing", r"invoice|bill|charge|payment|card|price|subscription|vat"),
    ("account_access", r"log ?in|password|locked|sign in|2fa|reset|access"),
    ("bug", r"error|crash|broken|bug|fail|does(?:n't| not) work|500|freez"),
    ("sales", r"quote|pricing|demo|upgrade|seats|enterprise|discount"),
    ("summarization", r"summar|tl;?dr|in short|key points"),
    ("code_generation", r"function|python|sql|regex|script|code"),
    ("extraction", r"extract|order (?:number|no|id)|receipt"),
    ("policy_question", r"policy|legal|gdpr|contract|terms"),
    ("support_answer", r"how (?:do|can|to)|help|why|where"),
    ("how_to", r"how (?:do|can|to)|where|set ?up|configure"),
)
_HARD: Sequence[tuple[float, str]] = (
    (0.35, r"furious|unacceptable|ridiculous|angry|!!|worst|lawyer|sue"),
    (0.30, r"but (?:also|then|the)|however|contradict|on the other hand|conflict"),
    (0.25, r"\?.*\?"),
    (0.30, r"legal|contract|gdpr|compliance|medical|liab"),
    (0.30, r"not sure|somehow|something|stuff|whatever|idk"),
)
_FIELDS: Mapping[str, str] = {
    "name": r"(?:for|am|customer|name|[Ff]or)\s+((?:[A-Z][a-z]*\.?\s?){1,2})",
    "order_number": r"\b([A-Z]{2}-?\d{3,}|\d{2}-\d{4}|\d{4,})\b",
    "date": r"(\d{4}-\d{2}-\d{2}|\d{1,2} (?:January|February|March|April|May|June))",
}
_REFUSAL = "I'm sorry, but I can't help with that."
_ANSWERS = (
    "Thanks for writing. {topic}: we have checked this and it is on its way to being solved.",
    "Here is what to do about {topic}: open Settings, choose the entry, and confirm.",
    "In short, {topic}. Nothing else is needed from your side right now.",
)


@dataclass(frozen=True, slots=True)
class ModelReply:
    """A reply's text and how it ended."""

    text: str
    finish: str = "stop"
    is_refusal: bool = False


def answer(
    model: ModelBehaviour,
    name: str,
    seed: int,
    messages: Sequence[Mapping[str, Any]],
    format_schema: Mapping[str, Any] | None,
) -> ModelReply:
    """The reply to a chat, in the JSON Schema of the call or, without one, of the prompt."""
    prompt = "\n".join(_text(message) for message in messages if message.get("role") == "user")
    system = "\n".join(_text(message) for message in messages if message.get("role") == "system")
    draw = _Draw(f"{seed}|{name}|{system}|{prompt}")
    schema = format_schema or _schema_of(system)
    lower = prompt.lower()
    hard = min(1.0, sum(share for share, words in _HARD if re.search(words, lower, re.DOTALL)))
    is_good = draw.share() < model.quality - model.strain * hard
    if schema is None:
        return ModelReply(_prose(prompt, draw)) if is_good else _bad_text(prompt, draw)
    filled = _fill(schema, prompt, draw, name="", is_good=is_good)
    if not is_good:
        return _bad_json(filled, prompt, draw)

    text = json.dumps(filled, ensure_ascii=False)
    if draw.share() < model.fence_rate:
        text = f"Sure! Here is the result:\n```json\n{text}\n```"
    return ModelReply(text)


def within(reply: ModelReply, max_tokens: int | None) -> ModelReply:
    """The reply, cut off at its limit of tokens."""
    if max_tokens is None or estimate_tokens(reply.text) <= max_tokens:
        return reply
    return ModelReply(reply.text[: 4 * max_tokens], "length", reply.is_refusal)


class _Draw:
    """An endless series of random numbers that depends on its key alone."""

    def __init__(self, key: str) -> None:
        self._key, self._turn = key.encode("utf-8", "surrogatepass"), 0

    def share(self) -> float:
        self._turn += 1
        digest = hashlib.blake2b(self._key, digest_size=8, salt=self._turn.to_bytes(4, "big"))
        return int.from_bytes(digest.digest(), "big") / 2**64

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.share() * len(options))]


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))


def _schema_of(system: str) -> Mapping[str, Any] | None:
    """The JSON Schema in a line `Schema: {…}` of the system prompt."""
    match = re.search(r"^Schema: (\{.*\})$", system, re.MULTILINE)
    schema = json.loads(match[1]) if match else None
    return schema if isinstance(schema, dict) else None


def _fill(schema: Mapping[str, Any], prompt: str, draw: _Draw, *, name: str, is_good: bool) -> Any:
    """A value that follows the schema; `name` is the field that it is for."""
    if "anyOf" in schema:
        return _fill(schema["anyOf"][0], prompt, draw, name=name, is_good=is_good)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if "enum" in schema:
        return _choose(schema["enum"], prompt, draw)
    if kind == "object":
        properties = schema.get("properties", {})
        return {
            field: _fill(inner, prompt, draw, name=field, is_good=is_good)
            for field, inner in properties.items()
        }
    if kind == "array":
        inner = schema.get("items", {"type": "string"})
        return [_fill(inner, prompt, draw, name=name, is_good=is_good)]
    if kind == "boolean":
        return bool(re.search(r"urgent|asap|now|immediately|!!", prompt.lower()))
    if kind in ("number", "integer"):
        return _number(schema, prompt, draw, name=name, is_good=is_good)
    if name in _FIELDS:
        match = re.search(_FIELDS[name], prompt)
        return match[1] if match else None
    return _prose(prompt, draw)


def _number(
    schema: Mapping[str, Any], prompt: str, draw: _Draw, *, name: str, is_good: bool
) -> Any:
    if name == "confidence":
        return round((0.86 if is_good else 0.30) + 0.13 * draw.share(), 2)
    if name == "ambiguity":
        return round(min(1.0, 0.1 + 0.5 * draw.share() + (0.4 if len(prompt) < 25 else 0)), 2)
    if name == "complexity":
        return 1 + min(4, len(prompt) // 160)
    least = schema.get("minimum", 0)
    return int(least) if schema.get("type") == "integer" else float(least)


def _choose(options: Sequence[Any], prompt: str, draw: _Draw) -> Any:
    text = prompt.lower()
    for label, words in _HINTS:
        if label in options and re.search(words, text):
            return label
    named = [option for option in options if str(option).replace("_", " ") in text]
    return named[0] if named else draw.pick(options)


def _prose(prompt: str, draw: _Draw) -> str:
    topic = " ".join(prompt.split()[:8]).rstrip(".,;:!?") or "your message"
    return str(draw.pick(_ANSWERS)).format(topic=topic)


def _bad_text(prompt: str, draw: _Draw) -> ModelReply:
    cut = ModelReply(_prose(prompt, draw)[:40], finish="length")
    chosen: ModelReply = draw.pick((ModelReply(""), ModelReply(_REFUSAL, is_refusal=True), cut))
    return chosen


def _bad_json(filled: Any, prompt: str, draw: _Draw) -> ModelReply:
    """One of the ways in which a weak model fails; low confidence is the most frequent."""
    text = json.dumps(filled, ensure_ascii=False)
    replies = (
        *[ModelReply(text)] * 3,
        ModelReply(json.dumps({**filled, "confidence": "very sure"}, ensure_ascii=False)),
        ModelReply(json.dumps(dict(list(filled.items())[1:]), ensure_ascii=False)),
        ModelReply(_prose(prompt, draw)),
        ModelReply(""),
        ModelReply(_REFUSAL, is_refusal=True),
        ModelReply(text[: len(text) // 2], finish="length"),
    )
    chosen: ModelReply = draw.pick(replies)
    return chosen
