"""What was said, where an operator has asked for it: never by default, redacted first. No I/O.

The switch is that of the Python instrumentations, the form that of the published schemas of
`gen_ai.input.messages` and `gen_ai.output.messages`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from consumers.telemetry import names
from consumers.telemetry.redaction import MOST_REDACTED, redact

__all__ = ["CONTENT_SWITCH", "Capture", "capture_of", "said_in_call"]

#: Characters of a call's messages: of each as many as are redacted of one text, of all these.
_MOST_ASKED = 2 * MOST_REDACTED

CONTENT_SWITCH = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


class Capture(NamedTuple):
    """Where content goes."""

    on_spans: bool = False
    in_events: bool = False


_MODES = {
    "": Capture(),
    "NO_CONTENT": Capture(),
    "SPAN_ONLY": Capture(on_spans=True),
    "EVENT_ONLY": Capture(in_events=True),
    "SPAN_AND_EVENT": Capture(on_spans=True, in_events=True),
}


def capture_of(text: str) -> Capture:
    """What the switch says. Raises ValueError for anything but its four words."""
    mode = _MODES.get(text.strip().upper())
    if mode is None:
        words = ", ".join(name for name in _MODES if name)
        msg = f"{CONTENT_SWITCH}={text}: one of {words} was expected"
        raise ValueError(msg)
    return mode


def said_in_call(
    messages: Sequence[Mapping[str, Any]], reply: str | None, finish_reason: str | None
) -> dict[str, str]:
    """The fields that carry a call's messages, redacted; after 40,000 characters, their lengths."""
    asked: list[dict[str, Any]] = []
    left = _MOST_ASKED
    for message in messages:
        text = _text(message.get("content"))
        asked.append({"role": message.get("role", "user"), "parts": [_part(text, left)]})
        left -= min(len(text), MOST_REDACTED)
    said = {names.INPUT_MESSAGES: orjson.dumps(asked).decode()}
    if reply is not None:
        answer = {
            "role": "assistant",
            "parts": [_part(reply, MOST_REDACTED)],
            "finish_reason": finish_reason or "other",
        }
        said[names.OUTPUT_MESSAGES] = orjson.dumps([answer]).decode()
    return said


def _part(text: str, left: int) -> dict[str, str]:
    if left <= 0:
        return {"type": "text", "content": f"[{len(text)} more characters]" if text else ""}
    # Half a character, which JSON cannot carry, is written as a question mark.
    return {"type": "text", "content": redact(text.encode("utf-8", "replace").decode())}


def _text(content: Any) -> str:
    return content if isinstance(content, str) else _joined(content)


def _joined(content: Any) -> str:
    parts = content if isinstance(content, list) else []
    return "\n".join(
        str(part.get("text", "")) if isinstance(part, dict) else str(part) for part in parts
    )
