"""Logs of a process: JSON lines for machines, short lines on a terminal, ids and codes only."""

import logging
import sys
import time

__all__ = ["configure_logs"]

#: A client that cannot reach its broker repeats itself a hundred times a second.
_REPEAT_SECONDS = 10.0


class _RateLimit(logging.Filter):
    """Lets the same line of the same logger through once in a while."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a repetition."""
        key, now = (record.name, str(record.msg)), time.monotonic()
        if now - self._last.get(key, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            return False
        self._last[key] = now
        return True


def configure_logs(*, is_debug: bool) -> None:
    """Set logging up for this process."""
    import structlog

    is_terminal = sys.stderr.isatty()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(_RateLimit())
    # The client library names keys and values at lower levels, and reports as errors what it then
    # mends by itself; what it cannot mend reaches our own log.
    logging.getLogger("aiokafka").setLevel(logging.ERROR if is_debug else logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    renderer = (
        structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.DEBUG if is_debug else logging.INFO
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
