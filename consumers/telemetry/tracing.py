"""Which requests are traced, and the spans that the Kafka side of a stage makes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanKind,
    Tracer,
    set_span_in_context,
)

from consumers import clock
from consumers.runtime.records import Record
from consumers.telemetry import names
from consumers.telemetry.context import TraceContext, new_context, read_context
from consumers.telemetry.counters import Counters
from consumers.telemetry.hops import Hop, context_of, remote
from schemas.codec import Headers

__all__ = ["ParentMode", "TraceIds", "TraceRules", "Tracing"]

#: Whether a record's context is the parent of its processing, or only linked from it.
ParentMode = Literal["parent", "link"]


class TraceIds(RandomIdGenerator):
    """Gives a new trace the id for which it was chosen."""

    def __init__(self) -> None:
        self.chosen: int | None = None

    def generate_trace_id(self) -> int:
        """The chosen id, once; else a random one."""
        chosen, self.chosen = self.chosen, None
        return super().generate_trace_id() if chosen is None else chosen


@dataclass(frozen=True, slots=True)
class TraceRules:
    """Which requests are traced, and how their spans hang together."""

    #: The topic that producers write to: there it is decided.
    intakes: Collection[str] = ("llm.intake",)
    #: Topics whose records get no `send` span: the ledger's.
    quiet: frozenset[str] = frozenset()
    #: The share of traces to keep.
    share: float = 1.0
    trusts_producers: bool = False
    parent_mode: ParentMode = "parent"
    baggage_names: frozenset[str] = frozenset()


class Tracing:
    """Reads contexts from records and makes spans of what is done with them.

    A share of the traces that reach intake are kept, by their id, so that every process decides
    alike; from then on the context says it. Without a `tracer` contexts are carried on as they are.
    """

    def __init__(
        self,
        counters: Counters,
        rules: TraceRules | None = None,
        tracer: Tracer | None = None,
        ids: TraceIds | None = None,
    ) -> None:
        self._counters = counters
        self._tracer = tracer
        self._ids = ids or TraceIds()
        self._rules = rules or TraceRules()

    def receive(self, record: Record, group: str) -> Hop:
        """A record that is about to be processed."""
        is_first = record.topic in self._rules.intakes
        found, why = None, None
        if record.headers:
            kept = self._rules.baggage_names if is_first else None
            found, why = read_context(record.headers, baggage_names=kept)
            if why is not None:
                self._counters.add(names.BAD_CONTEXTS, 1, why)
        context = found or new_context()
        if self._tracer is None:
            return Hop(self, context)
        # A parent that its producer does not keep would be missing from the trace.
        is_root = found is None or not found.is_sampled
        if found is None or (is_first and not self._rules.trusts_producers):
            is_kept = context.is_within(self._rules.share)
            if is_kept is not context.is_sampled:
                context = context._replace(is_sampled=is_kept)
        if not context.is_sampled:
            return Hop(self, context)
        return self._processing(record, group, context, found=found, is_root=is_root)

    def start(self, topic: str, headers: Headers = (), request_id: str | None = None) -> Hop | None:
        """A record that a command publishes: a new request, or one that goes on from headers.

        None where nobody traces and nothing goes on: whoever reads the record first starts a trace.
        """
        found, _ = read_context(headers)
        if self._tracer is None:
            return Hop(self, found) if found is not None else None
        context = found or new_context()
        if found is None:
            context = context._replace(is_sampled=context.is_within(self._rules.share))
        if not context.is_sampled:
            return Hop(self, context)
        is_linked = self._rules.parent_mode == "link"
        if found is None:
            self._ids.chosen = int(context.trace_id, 16)
        parent = None if found is None or is_linked else context
        fields = _sent(topic)
        if request_id is not None:
            fields[names.CONVERSATION] = request_id
        linked = found if is_linked else None
        span = self._begin(f"send {topic}", SpanKind.PRODUCER, fields, parent, linked=linked)
        return Hop(self, context_of(span, context), span)

    def is_sent(self, topic: str) -> bool:
        """True for records that get a `send` span: all but the ledger's."""
        return topic not in self._rules.quiet

    def count(self, group: str, consumed: Sequence[Record]) -> None:
        """Count records of one topic that a stage has been given."""
        self._counters.add(names.CONSUMED, len(consumed), consumed[0].topic, group)

    def sending(self, parent: Span, topic: str, partition: int, where: Mapping[str, Any]) -> Span:
        """The span of one record that is written."""
        fields = _sent(topic) | {names.PARTITION: str(partition)}
        if (request_id := where.get(names.CONVERSATION)) is not None:
            fields[names.CONVERSATION] = request_id
        return self.child(parent, f"send {topic}", SpanKind.PRODUCER, fields, clock.now_ns())

    def child(
        self, parent: Span, name: str, kind: SpanKind, fields: Mapping[str, Any], start_ns: int
    ) -> Span:
        """A span below another one of this process."""
        assert self._tracer is not None  # noqa: S101  there is a parent
        context = set_span_in_context(parent, Context())
        return self._tracer.start_span(name, context, kind, attributes=fields, start_time=start_ns)

    def _processing(
        self,
        record: Record,
        group: str,
        context: TraceContext,
        *,
        found: TraceContext | None,
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
            self._ids.chosen = int(context.trace_id, 16)
        span = self._begin(
            f"process {record.topic}",
            SpanKind.CONSUMER,
            fields,
            None if is_root or self._rules.parent_mode == "link" else context,
            now,
            linked=found,
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
        assert self._tracer is not None  # noqa: S101  asked before
        under = Context()
        if parent is not None:
            under = set_span_in_context(NonRecordingSpan(remote(parent)), under)
        links = [Link(remote(linked))] if linked is not None else None
        start = clock.now_ns() if start_ns is None else start_ns
        return self._tracer.start_span(
            name, under, kind, attributes=fields, links=links, start_time=start
        )


def _sent(topic: str) -> dict[str, Any]:
    return {
        names.SYSTEM: "kafka",
        names.OPERATION_TYPE: "send",
        names.OPERATION_NAME: "send",
        names.DESTINATION: topic,
    }
