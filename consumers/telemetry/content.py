"""Messages in traces, redacted, and only where an operator has asked for them. No I/O.

The switch is that of OpenTelemetry's Python instrumentations, the form that of the published
schemas of `gen_ai.input.messages` and `gen_ai.output.messages`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from consumers.telemetry import names
from consumers.telemetry.redaction import MOST_REDACTED, redact

__all__ = ["CONTENT_SWITCH", "Capture", "capture_of", "message_fields"]

#: The most characters of all messages of a call; `MOST_REDACTED` is the most of a single one.
_MOST_INPUT = 2 * MOST_REDACTED

CONTENT_SWITCH = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


class Capture(NamedTuple):
    """Where messages are written to."""

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
    """The meaning of the switch. Raises ValueError for anything but its four words."""
    mode = _MODES.get(text.strip().upper())
    if mode is None:
        words = ", ".join(name for name in _MODES if name)
        msg = f"{CONTENT_SWITCH}={text}: one of {words} was expected"
        raise ValueError(msg)
    return mode


def message_fields(
    messages: Sequence[Mapping[str, Any]], reply: str | None, finish_reason: str | None
) -> dict[str, str]:
    """The fields that carry a call's messages, redacted; after 40,000 characters, their lengths."""
    inputs: list[dict[str, Any]] = []
    left = _MOST_INPUT
    for message in messages:
        text = _text(message.get("content"))
        inputs.append({"role": message.get("role", "user"), "parts": [_part(text, left)]})
        left -= min(len(text), MOST_REDACTED)
    fields = {names.INPUT_MESSAGES: orjson.dumps(inputs).decode()}
    if reply is not None:
        output = {
            "role": "assistant",
            "parts": [_part(reply, MOST_REDACTED)],
            "finish_reason": finish_reason or "other",
        }
        fields[names.OUTPUT_MESSAGES] = orjson.dumps([output]).decode()
    return fields


def _part(text: str, left: int) -> dict[str, str]:
    if left <= 0:
        return {"type": "text", "content": f"[{len(text)} more characters]" if text else ""}
    # A single surrogate, which JSON cannot carry, becomes a question mark.
    return {"type": "text", "content": redact(text.encode("utf-8", "replace").decode())}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(
        str(part.get("text", "")) if isinstance(part, dict) else str(part) for part in parts
    )
