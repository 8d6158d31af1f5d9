"""What must hold of traces: one per request over all hops, no span without its parent. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.nemesis.traffic import context_of
from tests.telemetry.sink import Seen

__all__ = ["Carried", "span_problems", "trace_problems"]

_SHOWN = 5


class Carried(NamedTuple):
    """The trace contexts that one record of a request carries."""

    request_id: str
    where: str
    parents: Sequence[bytes]


def trace_problems(carried: Iterable[Carried]) -> list[str]:
    """Records that have no context, more than one, or one of another request's trace."""
    problems = []
    for one in carried:
        trace_id = context_of(one.request_id)[0]
        if [parent[3:35].decode("ascii", "replace") for parent in one.parents] != [trace_id]:
            problems.append(f"split trace: {one.request_id} in {one.where} has {one.parents!r}")
    return _shown(problems)


def span_problems(
    spans: Sequence[Seen],
    bill: Iterable[Mapping[str, Any]],
    producers: Iterable[str],
    *,
    has_killed: bool,
) -> list[str]:
    """Spans that do not fit together or do not fit the bill.

    The spans of a killed process may be missing, and those below them lack their parent then.
    """
    known = {span.span_id for span in spans} | set(producers)
    problems = []
    billed = {line["attempt_id"] for line in bill}
    chats = {span.fields.get("tierline.attempt.id") for span in spans if _is_chat(span)}
    unsent = {
        span.fields.get("tierline.attempt.id")
        for span in spans
        if _is_chat(span) and span.fields.get("error.type") in ("not_sent", "outcome_unknown")
    }
    problems += [f"call of no bill: {one}" for one in sorted(chats - billed - unsent, key=str)]
    if not has_killed:
        problems += [
            f"orphan span: {span.name} of {span.trace_id}"
            for span in spans
            if span.parent_id and span.parent_id not in known
        ]
        problems += [f"call without a span: {one}" for one in sorted(billed - chats)]
    return _shown(problems)


def _is_chat(span: Seen) -> bool:
    return span.name.startswith("chat ")


def _shown(problems: list[str]) -> list[str]:
    more = len(problems) - _SHOWN
    return [*problems[:_SHOWN], f"and {more} more"] if more > 0 else problems
