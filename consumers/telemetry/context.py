"""Trace contexts in record headers, as W3C Trace Context and W3C Baggage define them. No I/O.

Most requests are not sampled: their context is read and written here as text, without any object of
the tracing library.
"""

import random
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from schemas.codec import TRACE_HEADERS, Headers

__all__ = ["TraceContext", "new_context", "read_context", "with_context"]

_LOWER_HEX = frozenset("0123456789abcdef")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
#: Limits of the specifications: members of `tracestate`, and bytes that must be carried on.
_MOST_MEMBERS, _MOST_STATE, _MOST_BAGGAGE = 32, 512, 8192
#: A member of `tracestate` by the specification. The tracing library would log any other.
_KEY = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER = re.compile(
    rf"({_KEY})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_random = random.Random()  # noqa: S311  ids, not secrets


class TraceContext(NamedTuple):
    """Where a record stands in its trace."""

    #: 32 and 16 lower-case hexadecimal digits.
    trace_id: str
    span_id: str
    is_sampled: bool
    #: `tracestate` and `baggage` to pass on; empty: none.
    state: str = ""
    baggage: str = ""

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}"

    def is_within(self, share: float) -> bool:
        """True for that share of all trace ids, the same ones in every process."""
        return int(self.trace_id[16:], 16) < share * 2**64


def new_context() -> TraceContext:
    """The context of a new trace, not sampled yet."""
    bits = _random.getrandbits(192) | 1 << 191 | 1
    text = f"{bits:048x}"
    return TraceContext(text[:32], text[32:], is_sampled=False)


def read_context(
    headers: Headers, *, baggage_names: Collection[str] | None = None
) -> tuple[TraceContext | None, str | None]:
    """The context in a record's headers, and why it was rejected if it cannot be used.

    Follows https://www.w3.org/TR/trace-context/: a malformed context starts a new trace and never
    fails, and so do two parents. `baggage_names`: the members of the baggage to keep; None keeps
    all, as between our own stages.
    """
    parents: list[bytes] = []
    states: list[bytes] = []
    baggages: list[bytes] = []
    for name, value in headers:
        lower = name.lower()
        if lower in TRACE_HEADERS:
            kind = {"traceparent": parents, "tracestate": states, "baggage": baggages}[lower]
            kind.append(value)
    if not parents:
        return None, None
    if len(parents) > 1:
        return None, "repeated"
    parsed = _parsed(parents[0])
    if parsed is None:
        return None, "malformed"

    trace_id, span_id, is_sampled = parsed
    state = _state(states) if states else ""
    baggage = _baggage(baggages, baggage_names) if baggages else ""
    return TraceContext(trace_id, span_id, is_sampled, state, baggage), None


def with_context(headers: Headers, context: TraceContext) -> Sequence[tuple[str, bytes]]:
    """The headers with this trace context in place of any other."""
    stamped = [(name, value) for name, value in headers if name.lower() not in TRACE_HEADERS]
    stamped.append(("traceparent", context.traceparent.encode()))
    if context.state:
        stamped.append(("tracestate", context.state.encode()))
    if context.baggage:
        stamped.append(("baggage", context.baggage.encode()))
    return stamped


def _parsed(value: bytes) -> tuple[str, str, bool] | None:
    """Trace id, span id and sampled flag of a `traceparent`."""
    if not isinstance(value, bytes) or not 55 <= len(value) <= 512:
        return None
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        return None
    version, *rest = text.split("-")
    if len(version) != 2 or version == "ff" or len(rest) < 3 or (version == "00" and len(rest) > 3):
        return None
    trace_id, span_id, flags = rest[:3]
    if (len(trace_id), len(span_id), len(flags)) != (32, 16, 2):
        return None
    if not _LOWER_HEX.issuperset(version + trace_id + span_id + flags):
        return None
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return trace_id, span_id, bool(int(flags, 16) & 1)


def _state(values: Sequence[bytes]) -> str:
    """`tracestate`, whole or not at all: too many, malformed or repeated members make it empty."""
    try:
        text = ",".join(value.decode("ascii") for value in values)
    except (UnicodeDecodeError, AttributeError):
        return ""
    members = [member.strip() for member in text.split(",") if member.strip()]
    joined = ",".join(members)
    if len(members) > _MOST_MEMBERS or len(joined) > _MOST_STATE:
        return ""
    matches = [_MEMBER.fullmatch(member) for member in members]
    keys = {match[1] for match in matches if match is not None}
    return joined if len(keys) == len(members) else ""


def _baggage(values: Sequence[bytes], names: Collection[str] | None) -> str:
    try:
        text = ",".join(value.decode("utf-8") for value in values)
    except (UnicodeDecodeError, AttributeError):
        return ""
    if len(text) > _MOST_BAGGAGE or not text.isprintable():
        return ""
    members = (member.strip() for member in text.split(","))
    return ",".join(
        member for member in members if names is None or member.partition("=")[0].strip() in names
    )
