"""One record's way through one stage as spans: its processing, and each record sent on.

Spans end when their transaction is committed. Without a confirmed commit they end with an error and
are not dropped: their records may have been read all the same, and spans of those need a parent.
"""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

from opentelemetry.trace import Span, SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from consumers import clock
from consumers.telemetry import names
from consumers.telemetry.context import TraceContext, with_context
from schemas.codec import Outgoing

__all__ = ["NOT_COMMITTED", "Fields", "Hop", "context_of", "current_hop", "remote", "set_current"]

Fields = Mapping[str, Any]
#: The error of spans whose transaction was not seen to commit.
NOT_COMMITTED = "not_committed"


class SpanMaker(Protocol):
    """Makes the spans below that of a hop."""

    def is_sent(self, topic: str) -> bool:
        """True for topics whose records get a `send` span."""

    def sending(self, parent: Span, topic: str, partition: int, where: Fields) -> Span:
        """The span of one record that is written."""

    def child(self, parent: Span, name: str, kind: SpanKind, fields: Fields, start_ns: int) -> Span:
        """A span below another span of this process."""


class Hop:
    """A record on its way through a stage. Without a span it only passes the context on."""

    __slots__ = (
        "_is_over",
        "_sends",
        "_spans",
        "began_ns",
        "context",
        "request_id",
        "span",
        "where",
    )

    def __init__(
        self,
        spans: SpanMaker,
        context: TraceContext,
        span: Span | None = None,
        began_ns: int = 0,
    ) -> None:
        #: The context of outgoing records that have no `send` span of their own.
        self.context = context
        self.span = span
        self.began_ns = began_ns
        #: The record's request, once it is known.
        self.request_id: str | None = None
        #: Fields that every span of this hop has.
        self.where: Fields = {}
        self._spans = spans
        self._sends: list[Span] = []
        self._is_over = False

    @property
    def is_recording(self) -> bool:
        """True when this request's trace is kept."""
        return self.span is not None

    def note(self, fields: Fields) -> None:
        """Add fields to the span of the record's processing."""
        if self.span is not None:
            self.span.set_attributes(fields)

    def add_event(self, event: str, fields: Fields) -> None:
        if self.span is not None:
            self.span.add_event(event, fields, clock.now_ns())

    def add(
        self,
        name: str,
        fields: Fields,
        *,
        start_ns: int,
        end_ns: int,
        kind: SpanKind = SpanKind.INTERNAL,
        events: Sequence[tuple[str, Fields]] = (),
        error: str | None = None,
    ) -> None:
        """Add a span of something that is over: a decision, a call, a judgement."""
        if self.span is None:
            return
        span = self._spans.child(self.span, name, kind, fields, start_ns)
        for event, event_fields in events:
            span.add_event(event, event_fields, end_ns)
        if error is not None:
            span.set_attribute(names.ERROR_TYPE, error)
            span.set_status(StatusCode.ERROR)
        span.end(max(end_ns, start_ns))

    def stamp(self, outgoing: Sequence[Outgoing], partition: int) -> list[Outgoing]:
        """The outgoing records, each with the trace context of its `send` span or of this hop."""
        stamped = []
        for record in outgoing:
            if record.has_trace:
                stamped.append(record)
                continue
            context = self.context
            if self.span is not None and self._spans.is_sent(record.topic):
                place = partition if record.partition is None else record.partition
                send = self._spans.sending(self.span, record.topic, place, self.where)
                self._sends.append(send)
                context = context_of(send, context)
            headers = with_context(record.headers, context)
            stamped.append(record._replace(headers=headers))
        return stamped

    def carried_by(self, record: Outgoing) -> Outgoing:
        """A record with this hop's context that is not part of the hop's outcome."""
        return record._replace(headers=with_context(record.headers, self.context))

    def settled(self) -> None:
        """End the spans: the outgoing records are committed."""
        self._end(None)

    def lost(self) -> None:
        """End the spans with an error: another process has the record, or nothing was committed."""
        self._end(NOT_COMMITTED)

    def _end(self, error: str | None) -> None:
        if self.span is None or self._is_over:
            return
        self._is_over = True
        now = clock.now_ns()
        for span in (*self._sends, self.span):
            if error is not None:
                span.set_attribute(names.ERROR_TYPE, error)
                span.set_status(StatusCode.ERROR)
            span.end(now)


_CURRENT: ContextVar[Hop | None] = ContextVar("hop", default=None)


def current_hop() -> Hop | None:
    """The hop of the record that this task processes."""
    return _CURRENT.get()


def set_current(hop: Hop | None) -> None:
    """Make this the hop of the record that this task processes."""
    _CURRENT.set(hop)


def remote(context: TraceContext) -> SpanContext:
    """A record's context in the tracing library's form."""
    return SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if context.is_sampled else 0),
        trace_state=TraceState.from_header([context.state]) if context.state else TraceState(),
    )


def context_of(span: Span, before: TraceContext) -> TraceContext:
    """The context below a span of ours; `tracestate` is kept only within the same trace."""
    context = span.get_span_context()
    trace_id = f"{context.trace_id:032x}"
    return before._replace(
        trace_id=trace_id,
        span_id=f"{context.span_id:016x}",
        is_sampled=True,
        state=before.state if trace_id == before.trace_id else "",
    )
