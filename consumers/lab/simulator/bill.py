"""The simulated provider's bill: a line per call, also for callers that have disconnected."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import orjson

from consumers.files import own_file
from consumers.lab.simulator.settings import ModelBehaviour
from router.attempt.pricing import cost_micros
from schemas.usage import Usage

__all__ = ["Bill", "BillLine"]


@dataclass(slots=True)
class BillLine:
    """One call as the provider sees it. Times are seconds of the monotonic clock."""

    seq: int
    wire: str
    model: str
    request_id: str
    attempt_id: str
    idempotency_key: str
    body_hash: str
    received: float
    #: In a line on disk the planned time, for it is written when the call is charged.
    first_byte: float = 0.0
    closed: float = 0.0
    fault: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0
    peer_left: bool = False
    open_calls: int = 0
    #: The names of the call's headers.
    header_names: Sequence[str] = ()


@dataclass(slots=True)
class Bill:
    """Every call of one server run."""

    lines: list[BillLine] = field(default_factory=list)
    open_calls: int = 0
    _file: IO[bytes] | None = None

    @property
    def count(self) -> int:
        """How many calls were received."""
        return len(self.lines)

    @property
    def total_micros(self) -> int:
        """The cost of all calls, in micro-dollars."""
        return sum(line.cost_micros for line in self.lines)

    @contextmanager
    def kept_in(self, path: Path | None) -> Iterator[None]:
        """Also write every line to a file."""
        if path is None:
            yield
            return
        with own_file(path).open("ab", buffering=0) as self._file:
            yield
        self._file = None

    def book(self, line: BillLine, usage: Usage, model: ModelBehaviour) -> None:
        """Charge a call. The line is on disk when this returns."""
        line.input_tokens, line.output_tokens = usage.input_side, usage.output_side
        line.cost_micros = cost_micros(usage, model.price)
        self.write(line)

    def write(self, line: BillLine) -> None:
        """Append a line, charged or not."""
        self.lines.append(line)
        if self._file is not None:
            self._file.write(orjson.dumps(asdict(line)) + b"\n")
