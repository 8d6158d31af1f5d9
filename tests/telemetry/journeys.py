"""What a backend must show of a request's journey, and how an operator sees it. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from rich.text import Text
from rich.tree import Tree

from tests.telemetry.phoenix import Kept

__all__ = ["Finding", "Journey", "findings", "spans_of", "strangers", "trees"]

_REQUEST = "messaging.message.conversation_id"
_INPUT, _OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
_COST, _CURRENCY = "gen_ai.usage.cost.amount", "gen_ai.usage.cost.currency"


#: Below a dead letter.
_BY_PERSON = ("send llm.escalations", "send llm.review")


@dataclass(frozen=True, slots=True)
class Journey:
    """What must be found of one request."""

    request_id: str
    #: The span with which its trace begins.
    root: str
    #: Names of spans; one that stands here twice must be there twice.
    wanted: Sequence[str]
    #: The producer's trace, where the producer has one.
    trace_id: str | None = None
    #: When a worker was killed: what it had sent by then lacks its parent, and nothing else does.
    died_at: datetime | None = None
    #: Calls the provider received, where it was asked. One call was cut off by the kill.
    received_calls: int | None = None
    #: The least time between the dead letter and what a person sent through again.
    pause: timedelta | None = None


class Finding(NamedTuple):
    """One question about a journey, and its answer."""

    request_id: str
    question: str
    found: str
    is_good: bool


def spans_of(spans: Sequence[Kept], request_id: str) -> list[Kept]:
    """Every span of the traces in which a span names the request, by their start."""
    traces = {one.trace_id for one in spans if one.fields.get(_REQUEST) == request_id}
    return sorted((one for one in spans if one.trace_id in traces), key=lambda one: one.start)


def strangers(spans: Sequence[Kept], journeys: Sequence[Journey]) -> Finding:
    """Traces that belong to no request: what broke off from one and does not name it."""
    known = {one.trace_id for journey in journeys for one in spans_of(spans, journey.request_id)}
    left = sorted({one.name for one in spans if one.trace_id not in known})
    return Finding("all", "nothing outside of the journeys", _listed(left) or "none", not left)


def findings(
    journey: Journey, spans: Sequence[Kept], tokens: Mapping[str, tuple[int, int]]
) -> list[Finding]:
    """Every question about a journey, answered; `tokens` are the backend's own sums by trace."""
    ours = spans_of(spans, journey.request_id)

    def said(question: str, found: str, *, is_good: bool) -> Finding:
        return Finding(journey.request_id, question, found, is_good)

    traces = {one.trace_id for one in ours}
    is_one = len(traces) == 1 and journey.trace_id in (None, *traces)
    roots = [one.name for one in ours if one.parent_id is None]
    left = _orphans(ours)
    excused = [one for one in left if _is_left_behind(one, journey.died_at)]
    orphans = [one.name for one in left if one not in excused]
    missing = Counter(journey.wanted) - Counter(one.name for one in ours)
    calls = [one for one in ours if _is_call(one)]
    unpriced = [f"{one.name}: {why}" for one in calls if (why := _lacks(one))]
    sums = tuple(sum(int(one.fields.get(key, 0)) for one in calls) for key in (_INPUT, _OUTPUT))
    theirs = tuple(map(sum, zip(*(tokens.get(one, (0, 0)) for one in traces), strict=True)))
    answers = [
        said("one trace, the producer's where it has one", f"{len(traces)}", is_good=is_one),
        said(f"begins with {journey.root}", _listed(roots), is_good=roots == [journey.root]),
        said("no parent is missing", _listed(orphans) or "none", is_good=not orphans),
        said(
            "every span is there",
            f"missing: {_listed(sorted(missing.elements()))}" if missing else f"{len(ours)} spans",
            is_good=not missing,
        ),
        said(
            "every call has tokens and cost",
            _listed(unpriced) or f"{len(calls)} calls",
            is_good=bool(calls) and not unpriced,
        ),
        said(
            "the backend's own token totals",
            f"{theirs}, calls: {sums}",
            is_good=theirs == sums and min(sums) > 0,
        ),
    ]
    if journey.died_at is not None:
        names = _listed([one.name for one in excused])
        answers.append(said("the killed worker's ended call", names, is_good=bool(excused)))
    if journey.received_calls is not None:
        found = f"{journey.received_calls} received, {len(calls)} seen"
        is_good = journey.received_calls == len(calls) + (journey.died_at is not None)
        answers.append(said("the provider's calls, but the one cut off", found, is_good=is_good))
    if journey.pause is not None:
        pauses = _pauses(ours)
        is_good = bool(pauses) and min(pauses) >= journey.pause
        shown = ", ".join(str(one).partition(".")[0] for one in pauses)
        answers.append(said("goes on below its dead letter", shown or "no", is_good=is_good))
    return answers


def trees(spans: Sequence[Kept]) -> list[Tree]:
    """A journey's spans as a backend draws them; what lost its parent stands alone."""
    lost = {one.span_id for one in _orphans(spans)}
    drawn = []
    for one in spans:
        if one.parent_id is None:
            drawn.append(_tree(spans, one))
        elif one.span_id in lost:
            alone = Tree(Text("(a span that never came)", "dim"))
            alone.add(_tree(spans, one))
            drawn.append(alone)
    return drawn


def _tree(spans: Sequence[Kept], span: Kept) -> Tree:
    fields, took = span.fields, (span.end - span.start).total_seconds() * 1000
    line = Text(f"{span.start:%m-%d %H:%M:%S}  {span.name}")
    said = [
        fields.get("tierline.outcome") or fields.get("tierline.route.rule") or "",
        fields.get("tierline.reason", ""),
        f"{took:.0f} ms",
    ]
    if _is_call(span):
        if _INPUT in fields:
            said.append(f"{fields[_INPUT]}+{fields.get(_OUTPUT)} tokens")
        said.append(f"{fields.get(_COST, 'no cost')} {fields.get(_CURRENCY, '')}")
    line.append("  " + "  ".join(str(one) for one in said if one), "dim")
    if span.status == "ERROR":
        line.stylize("red")
    branch = Tree(line)
    for child in spans:
        if child.parent_id == span.span_id:
            branch.add(_tree(spans, child))
    return branch


def _orphans(spans: Sequence[Kept]) -> list[Kept]:
    known = {one.span_id for one in spans}
    return [one for one in spans if one.parent_id is not None and one.parent_id not in known]


def _is_left_behind(orphan: Kept, died_at: datetime | None) -> bool:
    """True for a call that a worker had ended, or judged, before it was killed."""
    is_workers = _is_call(orphan) or orphan.name == "verify"
    return died_at is not None and is_workers and orphan.end <= died_at


def _is_call(span: Kept) -> bool:
    return span.name.startswith("chat ")


def _lacks(call: Kept) -> str:
    """What a call does not say. One that failed says what it cost; of its tokens nobody knows."""
    has_failed = call.status == "ERROR"
    keys = (_COST,) if has_failed else (_INPUT, _OUTPUT, _COST)
    least = 0 if has_failed else 1e-9
    absent = [key for key in keys if call.fields.get(key, -1) < least]
    return _listed(absent if call.fields.get(_CURRENCY) == "USD" else [*absent, _CURRENCY])


def _pauses(spans: Sequence[Kept]) -> list[timedelta]:
    """Between each dead letter and what a person did below it."""
    letters = {one.span_id: one for one in spans if one.name == "send llm.dead-letters"}
    again = [one for one in spans if one.name in _BY_PERSON]
    return [one.start - letters[one.parent_id].end for one in again if one.parent_id in letters]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
