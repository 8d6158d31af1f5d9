"""Recorded outcomes: what real models of each tier once answered to requests."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

__all__ = ["Recorded", "load_recorded"]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded answer."""

    text: str
    tokens_in: int
    tokens_out: int
    latency_ms: float


def load_recorded(path: Path) -> Mapping[tuple[str, str], Recorded]:
    """Outcomes by (request id, tier), from JSON Lines, gzipped or not."""
    opener = gzip.open if path.suffix == ".gz" else Path.open
    with opener(path, "rb") as lines:
        rows = (orjson.loads(line) for line in lines if line.strip())
        return {(row["request_id"], row["tier"]): _recorded(row) for row in rows}


def _recorded(row: Mapping[str, Any]) -> Recorded:
    text = row.get("output") if row.get("output") is not None else row.get("answer")
    return Recorded(
        text="" if text is None else str(text),
        tokens_in=int(row.get("tokens_in") or 0),
        tokens_out=int(row.get("tokens_out") or 0),
        latency_ms=float(row.get("latency_ms") or 0),
    )
