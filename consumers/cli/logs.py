"""Logs of a process: JSON lines, or short lines on a terminal; with ids and codes only."""

import logging
import os
import sys
import time
import traceback

import structlog
from structlog.typing import EventDict, Processor

from consumers.texts import plain

__all__ = ["configure_logs"]

#: A client that cannot reach its broker logs the same line a hundred times a second.
_REPEAT_SECONDS = 10.0
_MOST_KEPT = 1000


class _RateLimit(logging.Filter):
    """Lets the same line of the same logger through once every some seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a repetition."""
        key, now = (record.name, str(record.msg)), time.monotonic()
        if now - self._last.get(key, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            return False
        if len(self._last) >= _MOST_KEPT:  # some lines never repeat
            self._last.clear()
        self._last[key] = now
        return True


def _with_trace(_: object, __: str, event: EventDict) -> EventDict:
    """Add the request and the span that are being processed."""
    from consumers.telemetry.hops import current_hop  # noqa: PLC0415  most commands log nothing

    hop = current_hop()
    if hop is None:
        return event
    event.setdefault("trace_id", hop.context.trace_id)
    event.setdefault("span_id", hop.context.span_id)
    if hop.request_id is not None:
        event.setdefault("request_id", hop.request_id)
    return event


def _with_places(_: object, __: str, event: EventDict) -> EventDict:
    """Log an exception by its type and place only: its message may quote a request."""
    info = event.pop("exc_info", None)
    if info:
        error = info if isinstance(info, BaseException) else sys.exc_info()[1]
        if isinstance(info, tuple):
            error = info[1]
        if error is not None:
            frames = traceback.extract_tb(error.__traceback__)
            event["exception"] = type(error).__name__
            event["at"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]
            ]
    return event


def _plainly(_: object, __: str, event: EventDict) -> EventDict:
    """Escape control characters in texts of others, which could control a terminal."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = plain(value)
    return event


def configure_logs(*, is_debug: bool, is_service: bool = True) -> None:
    """Set up logging for this process; commands other than services log only errors."""
    renderer = (
        structlog.dev.ConsoleRenderer(colors=not os.environ.get("NO_COLOR"))
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_trace,
        structlog.processors.format_exc_info if is_debug else _with_places,
        _plainly,
    ]
    # Lines of libraries get the same form: their tracebacks may quote requests.
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_RateLimit())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # The client library logs keys and values at lower levels, and as errors what it recovers from
    # by itself; what it does not recover from reaches our own log.
    logging.getLogger("aiokafka").setLevel(logging.ERROR if is_debug else logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    # These quote what they cannot parse: a producer's `tracestate`, the keys of the backend.
    for name in ("opentelemetry.trace.span", "opentelemetry.util.re"):
        logging.getLogger(name).setLevel(logging.ERROR)
    level = logging.INFO if is_service else logging.ERROR
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if is_debug else level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
