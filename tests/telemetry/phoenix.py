"""Arize Phoenix, a tracing backend that runs without a container, in an environment of its own.

It is large and under the Elastic License 2.0: fetched for this check alone, never bundled.
"""

import asyncio
import contextlib
import json
import os
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from consumers.lab.broker.local import free_ports
from tests.environments import environment

__all__ = ["Kept", "phoenix", "read_spans", "read_tokens"]

_FOLDER = Path(__file__).resolve().parents[2] / "build" / "phoenix"
_LOCK = Path(__file__).with_name("phoenix.lock")
_START_SECONDS = 120
_END_SECONDS = 20
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Kept:
    """One span as the backend gives it back."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start: datetime
    end: datetime
    fields: Mapping[str, Any]
    #: `OK`, `ERROR` or `UNSET`; we say no `OK`.
    status: str


@contextlib.asynccontextmanager
async def phoenix() -> AsyncIterator[str]:
    """The address of a running Phoenix with nothing in it."""
    python = await asyncio.to_thread(environment, _FOLDER, _LOCK)
    port, grpc_port, _ = free_ports()
    with tempfile.TemporaryDirectory(prefix="tierline-phoenix-") as folder:
        log = Path(folder) / "phoenix.log"
        with log.open("wb") as said:
            process = await asyncio.create_subprocess_exec(
                *(str(python), "-m", "phoenix.server.main", "serve"),
                env={
                    **_without_settings(os.environ),
                    "PHOENIX_HOST": "127.0.0.1",
                    "PHOENIX_PORT": str(port),
                    "PHOENIX_GRPC_PORT": str(grpc_port),
                    "PHOENIX_WORKING_DIR": folder,
                    "PHOENIX_TELEMETRY_ENABLED": "false",
                    "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
                },
                stdout=said,
                stderr=said,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            await _until_ready(url, process, log)
            yield url
        finally:
            await _end(process)


async def read_spans(url: str) -> Sequence[Kept]:
    """Every span that the backend keeps."""
    found = await asyncio.to_thread(_pages, f"{url}/v1/projects/default/spans")
    return [_kept(one) for one in found]


async def read_tokens(url: str) -> Mapping[str, tuple[int, int]]:
    """Input and output tokens by trace id, as the backend itself adds them up."""
    traces = await asyncio.to_thread(_pages, f"{url}/v1/projects/default/traces")
    return {
        one["trace_id"]: (one["token_count_prompt"], one["token_count_completion"])
        for one in traces
    }


def _pages(address: str) -> list[Any]:
    found: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        asked = {"limit": _PAGE, **({"cursor": cursor} if cursor else {})}
        page = _get(f"{address}?{urlencode(asked)}")
        found += page["data"]
        cursor = page.get("next_cursor") or None
    return found


def _kept(one: Mapping[str, Any]) -> Kept:
    context = one["context"]
    return Kept(
        context["trace_id"],
        context["span_id"],
        one.get("parent_id"),
        one["name"],
        datetime.fromisoformat(one["start_time"]),
        datetime.fromisoformat(one["end_time"]),
        one.get("attributes") or {},
        one.get("status_code") or "",
    )


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """A developer's own Phoenix, its database above all, stays out of this."""
    foreign = ("PHOENIX_", "OTEL_")
    return {name: value for name, value in environment.items() if not name.startswith(foreign)}


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.loads(answer.read())


async def _until_ready(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while True:
            if process.returncode is not None:
                said = await asyncio.to_thread(log.read_text, errors="replace")
                raise RuntimeError(said[-2_000:])
            try:
                await asyncio.to_thread(_get, f"{url}/v1/projects")
            except OSError:
                await asyncio.sleep(0.3)
            else:
                return


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_END_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
