"""Which requests are traced, and the spans of the records that a stage reads and writes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanKind, Tracer, set_span_in_context

from consumers import clock
from consumers.records import Record
from consumers.telemetry import names
from consumers.telemetry.context import TraceContext, new_context, read_context
from consumers.telemetry.counters import Counters
from consumers.telemetry.hops import Hop, context_of, remote
from schemas.codec import Headers

__all__ = ["NextTrace", "ParentMode", "TraceRules", "Tracing"]

#: Whether a record's context is the parent of its processing, or only linked from it.
ParentMode = Literal["parent", "link"]


@dataclass(slots=True)
class NextTrace:
    """The id of the next trace, where sampling has already chosen it."""

    trace_id: int | None = None


@dataclass(frozen=True, slots=True)
class TraceRules:
    """Which requests are traced, and how their spans are connected."""

    #: The topics that producers write to, where sampling is decided.
    intakes: Collection[str] = ("llm.intake",)
    #: Topics whose records get no `send` span: the ledger, and what stages remember.
    quiet: frozenset[str] = frozenset()
    #: The share of traces to keep.
    share: float = 1.0
    trusts_producers: bool = False
    parent_mode: ParentMode = "parent"
    baggage_names: frozenset[str] = frozenset()


class Tracing:
    """Reads contexts from records and starts the spans of what is done with them.

    A share of the traces that reach intake is kept, chosen by their ids, so that every process
    decides alike; from there on the context says so. Without a `tracer` contexts only travel on.
    """

    def __init__(
        self,
        counters: Counters,
        rules: TraceRules | None = None,
        tracer: Tracer | None = None,
        next_trace: NextTrace | None = None,
    ) -> None:
        self._counters = counters
        self._tracer = tracer
        self._next_trace = next_trace or NextTrace()
        self._rules = rules or TraceRules()

    def receive(self, record: Record, group: str) -> Hop:
        """The hop of a record that is about to be processed."""
        is_first = record.topic in self._rules.intakes
        incoming, problem = None, None
        if record.headers:
            baggage_names = self._rules.baggage_names if is_first else None
            incoming, problem = read_context(record.headers, baggage_names=baggage_names)
            if problem is not None:
                self._counters.add(names.BAD_CONTEXTS, 1, problem)
        context = incoming or new_context()
        if self._tracer is None:
            return Hop(self, context)
        # A parent span that the producer has not kept would be missing from the trace.
        is_root = incoming is None or not incoming.is_sampled
        if incoming is None or (is_first and not self._rules.trusts_producers):
            is_kept = context.is_within(self._rules.share)
            if is_kept is not context.is_sampled:
                context = context._replace(is_sampled=is_kept)
        if not context.is_sampled:
            return Hop(self, context)
        return self._processing(record, group, context, incoming=incoming, is_root=is_root)

    def start(self, topic: str, headers: Headers = (), request_id: str | None = None) -> Hop | None:
        """The hop of a record that a command publishes; `headers` may continue a trace.

        None without a tracer and a trace to continue: the first reader of the record starts one.
        """
        incoming, _ = read_context(headers)
        if self._tracer is None:
            return Hop(self, incoming) if incoming is not None else None
        context = incoming or new_context()
        if incoming is None:
            context = context._replace(is_sampled=context.is_within(self._rules.share))
        if not context.is_sampled:
            return Hop(self, context)
        is_linked = self._rules.parent_mode == "link"
        if incoming is None:
            self._next_trace.trace_id = int(context.trace_id, 16)
        parent = None if incoming is None or is_linked else context
        fields = _sending_fields(topic)
        if request_id is not None:
            fields[names.CONVERSATION] = request_id
        linked = incoming if is_linked else None
        span = self._begin(f"send {topic}", SpanKind.PRODUCER, fields, parent, linked=linked)
        return Hop(self, context_of(span, context), span)

    def is_sent(self, topic: str) -> bool:
        """True for topics whose records get a `send` span: all but the quiet ones."""
        return topic not in self._rules.quiet

    def count(self, group: str, consumed: Sequence[Record]) -> None:
        """Count records of one topic that a stage has read."""
        self._counters.add(names.CONSUMED, len(consumed), consumed[0].topic, group)

    def sending(self, parent: Span, topic: str, partition: int, where: Mapping[str, Any]) -> Span:
        fields = _sending_fields(topic) | {names.PARTITION: str(partition)}
        if (request_id := where.get(names.CONVERSATION)) is not None:
            fields[names.CONVERSATION] = request_id
        return self.child(parent, f"send {topic}", SpanKind.PRODUCER, fields, clock.now_ns())

    def child(
        self, parent: Span, name: str, kind: SpanKind, fields: Mapping[str, Any], start_ns: int
    ) -> Span:
        """A span below another span of this process."""
        assert self._tracer is not None  # noqa: S101  it has made the parent
        context = set_span_in_context(parent, Context())
        return self._tracer.start_span(name, context, kind, attributes=fields, start_time=start_ns)

    def _processing(
        self,
        record: Record,
        group: str,
        context: TraceContext,
        *,
        incoming: TraceContext | None,
        is_root: bool,
    ) -> Hop:
        now = clock.now_ns()
        fields: dict[str, Any] = {
            names.SYSTEM: "kafka",
            names.OPERATION_TYPE: "process",
            names.OPERATION_NAME: "process",
            names.DESTINATION: record.topic,
            names.PARTITION: str(record.partition),
            names.OFFSET: record.offset,
            names.GROUP: group,
            names.QUEUE_SECONDS: max(now / 1e9 - record.timestamp / 1e3, 0.0),
        }
        if is_root and self._rules.parent_mode == "parent":
            self._next_trace.trace_id = int(context.trace_id, 16)
        span = self._begin(
            f"process {record.topic}",
            SpanKind.CONSUMER,
            fields,
            None if is_root or self._rules.parent_mode == "link" else context,
            now,
            linked=incoming,
        )
        return Hop(self, context_of(span, context), span, now)

    def _begin(
        self,
        name: str,
        kind: SpanKind,
        fields: Mapping[str, Any],
        parent: TraceContext | None,
        start_ns: int | None = None,
        *,
        linked: TraceContext | None = None,
    ) -> Span:
        assert self._tracer is not None  # noqa: S101  the callers have checked
        context = Context()
        if parent is not None:
            context = set_span_in_context(NonRecordingSpan(remote(parent)), context)
        links = [Link(remote(linked))] if linked is not None else None
        start = clock.now_ns() if start_ns is None else start_ns
        return self._tracer.start_span(
            name, context, kind, attributes=fields, links=links, start_time=start
        )


def _sending_fields(topic: str) -> dict[str, Any]:
    return {
        names.SYSTEM: "kafka",
        names.OPERATION_TYPE: "send",
        names.OPERATION_NAME: "send",
        names.DESTINATION: topic,
    }
