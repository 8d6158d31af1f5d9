"""The same decision in Quix Streams with its exactly-once guarantee, in an environment of its own.

Run by `tests.bench.peers`: `python peer_quix.py BOOTSTRAP SOURCE TARGET COUNT` prints records per
second. It imports our pure packages only; what reads, commits and writes is Quix Streams.
"""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from quixstreams import Application

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from consumers.policies import Policies
from consumers.stages.route import Router
from router.policy.load import load_policy
from router.prompts.rendering import Prompts
from router.releases.bundle import Bundle
from schemas.topics import Topics


def main() -> None:
    """Route `COUNT` records from one topic to another."""
    bootstrap, source, target, count = sys.argv[1:]
    text = Path("deploy/policy/routing.yaml").read_text(encoding="utf-8")
    router = Router(
        Policies(Bundle(load_policy(text, "routing.yaml"), Prompts({}, {}))),
        Topics(source.removesuffix("llm.intake")),
        lambda: datetime.now(UTC),  # noqa: TID251  a program of its own
    )
    app = Application(
        broker_address=bootstrap,
        consumer_group="quix",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_every=8_000,
        loglevel="ERROR",
        state_dir="build/peers/state",
    )
    taken = app.topic(source, value_deserializer="bytes", key_deserializer="bytes")
    given = app.topic(target, value_serializer="bytes", key_serializer="bytes")
    began: list[float] = []

    def decide(value: bytes, key: bytes, timestamp: int, headers: object) -> bytes:
        if not began:
            began.append(time.perf_counter())
        record = SimpleNamespace(
            topic=source,
            partition=0,
            offset=0,
            timestamp=timestamp,
            key=key,
            value=value,
            headers=(),
        )
        return router.decide(record)[0].value or b""

    stream = app.dataframe(taken).apply(decide, metadata=True)
    stream.to_topic(given)
    app.run(count=int(count), timeout=60)
    print(int(count) / (time.perf_counter() - began[0]))


if __name__ == "__main__":
    main()
