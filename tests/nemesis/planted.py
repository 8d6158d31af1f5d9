"""Known bugs, planted one by one in a copy: a harness that misses them proves little.

`python -m tests.nemesis.planted [NAME …]` prints caught or missed for each and exits 1 below all.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BUGS", "Bug"]

_CHECKOUT = Path(__file__).resolve().parents[2]
_MOST_SEEDS = 3


@dataclass(frozen=True, slots=True)
class Bug:
    """A change of the code that breaks a promise."""

    name: str
    #: What the judge must say, as the beginning of one of its problems.
    breaks: tuple[str, ...]
    #: File, what stands there, and what is put in its place.
    edits: tuple[tuple[str, str, str], ...]
    #: The faults that bring it to light.
    kinds: tuple[str, ...] = ("one more work",)
    points: tuple[str, ...] = ()
    #: Requests per second.
    rate: float = 60.0
    #: Of one seed, with all that is around the load.
    seconds: float = 65.0


BUGS = (
    Bug(
        "auto-commit is on",
        ("lost",),
        (
            (
                "consumers/runtime/clients.py",
                '"enable_auto_commit": False,',
                '"enable_auto_commit": True, "auto_commit_interval_ms": 200,',
            ),
        ),
        ("kill work", "kill route"),
    ),
    Bug(
        "offsets are committed before the call",
        ("lost",),
        (
            (
                "consumers/runtime/task_pool.py",
                "            handling = self._handle(record, Slot(self, partition))\n",
                (
                    "            partition.finish([(record.offset, ())])\n"
                    "            handling = self._handle(record, Slot(self, partition))\n"
                ),
            ),
            (
                "consumers/runtime/task_pool.py",
                "        is_lost = not partition.finish([(record.offset, outgoing)])\n",
                "        is_lost = not partition.finish([(-1, outgoing)])\n",
            ),
            (
                "consumers/runtime/partition.py",
                "self.tracker.settle(offset for offset, _ in self._group)",
                "self.tracker.settle(offset for offset, _ in self._group if offset >= 0)",
            ),
        ),
        ("kill work",),
    ),
    Bug(
        "sends are not awaited",
        ("lost", "unbooked"),
        (
            (
                "consumers/runtime/writer.py",
                "*await self._queue(producer, outgoing), return_exceptions=True",
                "*(await self._queue(producer, outgoing))[:0], return_exceptions=True",
            ),
        ),
        ("refuse results",),
    ),
    Bug(
        "the transactional id is random",
        ("duplicate",),
        (
            (
                "consumers/runtime/writer.py",
                'return f"tierline.{self._group}',
                "return f\"{id(self)}.{__import__('os').getpid()}.{self._group}",
            ),
        ),
        ("freeze work", "freeze route", "kill work"),
    ),
    Bug(
        "stages read what is not committed",
        ("duplicate", "paid again", "from nowhere"),
        (
            (
                "consumers/runtime/clients.py",
                '"isolation_level": "read_committed",',
                '"isolation_level": "read_uncommitted",',
            ),
        ),
        ("die at point",),
        ("route.sent",),
    ),
    Bug(
        "the ledger books deliveries",
        ("ledger",),
        (
            (
                "consumers/runtime/task_pool.py",
                "        is_lost = not partition.finish([(record.offset, outgoing)])\n",
                (
                    "        self.book_uncommitted(partition.source, outgoing)\n"
                    "        is_lost = not partition.finish([(record.offset, outgoing)])\n"
                ),
            ),
        ),
    ),
    Bug(
        "an unknown outcome is always called again",
        ("called again after an unknown outcome",),
        (
            (
                "router/attempt/next_step.py",
                'policy.tasks[name].unknown_outcome == "park":',
                'policy.tasks[name].unknown_outcome == "never":',
            ),
        ),
        ("kill work",),
    ),
    Bug(
        "calls leave unannounced",
        ("unbooked",),
        (
            (
                "consumers/stages/attempts.py",
                "        if self.ledger is None:\n            return True\n",
                "        if self.ledger is not None or slot:\n            return True\n",
            ),
        ),
        ("kill work",),
    ),
    Bug(
        "what a dead process had started is forgotten",
        ("unbooked",),
        (
            (
                "consumers/runtime/ledger.py",
                "        self._started[source] = started\n",
                "        self._started[source] = {}\n",
            ),
        ),
        ("kill work",),
    ),
    Bug(
        "attempts are counted in memory",
        ("paid again", "model asked twice", "too many attempts", "ledger", "stray money"),
        (
            (
                "consumers/stages/work.py",
                (
                    "            attempts=[*assignment.attempts, *tier_run.attempts],\n"
                    "            reason=step.reason,\n"
                ),
                "            attempts=[],\n            reason=step.reason,\n",
            ),
        ),
    ),
    Bug(
        "dead letters are written anew",
        ("bytes changed",),
        (
            (
                "consumers/stages/dead_letters.py",
                (
                    "        headers = dead_letter_headers(letter, record.headers)\n"
                    "        return Outgoing(self.topics.dead_letters, key, value, headers)\n"
                ),
                (
                    "        headers = dead_letter_headers(letter, record.headers)\n"
                    "        try:\n"
                    '            value = __import__("orjson").dumps('
                    '__import__("orjson").loads(value or b""))\n'
                    "        except ValueError:\n"
                    "            pass\n"
                    "        return Outgoing(self.topics.dead_letters, key, value, headers)\n"
                ),
            ),
        ),
    ),
    Bug(
        "the trace context is not carried on",
        ("split trace",),
        (
            (
                "consumers/telemetry/hops.py",
                "headers = with_context(record.headers, context)",
                "headers = list(record.headers)",
            ),
        ),
        ("none",),
    ),
    Bug(
        "the transaction is open during the call",
        ("open transaction",),
        (
            (
                "consumers/runtime/writer.py",
                'failpoint(f"{self._kind}.sent")\n',
                (
                    'failpoint(f"{self._kind}.sent")\n'
                    '        await asyncio.sleep(6 if self._kind == "work" else 0)\n'
                ),
            ),
        ),
        ("none",),
    ),
    Bug(
        "equal states of two owners are taken for one",
        ("unbooked",),
        (
            (
                "consumers/runtime/partition.py",
                "self.tracker.completion(identity)",
                "self.tracker.completion()",
            ),
        ),
        ("overtake work",),
        # Few requests in a partition: what two owners commit of it is equal.
        rate=8.0,
    ),
    Bug(
        "what Kafka has not taken at the end is dropped",
        ("unbooked",),
        (
            (
                "consumers/runtime/ledger.py",
                "            await asyncio.to_thread(self._spool.keep, new)\n",
                "",
            ),
        ),
        ("end work without Kafka",),
        seconds=75.0,
    ),
    Bug(
        "state is written apart from its outputs",
        ("miscounted",),
        (
            (
                "tests/kafka/counting_stage.py",
                'BUG = os.environ.get("COUNTING_BUG", "")',
                'BUG = "outside"',
            ),
        ),
        ("kill counting",),
    ),
    Bug(
        "state of an earlier ownership is kept",
        ("miscounted",),
        (
            (
                "consumers/runtime/keyed_state.py",
                "        changelog = Source(self._topic, source.partition)\n        values",
                (
                    "        if source in self._parts:\n            return\n"
                    "        changelog = Source(self._topic, source.partition)\n"
                    "        values"
                ),
            ),
        ),
        ("freeze counting", "one more counting"),
    ),
    Bug(
        "a limit does not recover",
        ("kept waiting",),
        (
            (
                "router/limits/concurrency.py",
                "        self._limit = max(min(self._limit, limit), 1.0)\n",
                "        self._limit = 1.0\n",
            ),
            (
                "router/limits/concurrency.py",
                "        top = float(self.most)\n",
                "        top = float(self.most) if self._is_beginning else 1.0\n",
            ),
        ),
        ("none",),
    ),
)


async def _main(wanted: list[str]) -> int:
    bugs = [bug for bug in BUGS if not wanted or any(word in bug.name for word in wanted)]
    caught = 0
    for bug in bugs:
        words = await asyncio.to_thread(_try, bug)
        caught += words is not None
        said = f"caught  {bug.name}: {words}" if words else f"MISSED  {bug.name}"
        sys.stdout.write(f"{said}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{caught} caught of {len(bugs)} planted\n")
    return 0 if caught == len(bugs) else 1


def _try(bug: Bug) -> str | None:
    """The problem that gave the bug away; None when no seed did."""
    with tempfile.TemporaryDirectory(prefix="tierline-planted-") as name:
        copy = Path(name) / "checkout"
        _copy(copy)
        for file, old, new in bug.edits:
            text = (copy / file).read_text()
            if text.count(old) != 1:
                sys.stderr.write(f"{bug.name}: {file} does not hold the text to change, once\n")
                return None
            (copy / file).write_text(text.replace(old, new))
        for seed in range(1, _MOST_SEEDS + 1):
            if (problem := _run(bug, copy, seed)) is not None:
                return f"{problem} (seed {seed})"
    return None


def _run(bug: Bug, copy: Path, seed: int) -> str | None:
    command = [sys.executable, "-m", "tests.nemesis", "--seeds", "1", "--first-seed", str(seed)]
    command += ["--minutes", str(bug.seconds / 60), "--kinds", ",".join(bug.kinds)]
    command += ["--rate", str(bug.rate)]
    if bug.points:
        command += ["--points", ",".join(bug.points)]
    done = subprocess.run(
        command,
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        if line.strip().startswith(bug.breaks):
            return line.strip()
        if "logs, data and bill are in" in line:
            shutil.rmtree(line.split()[-1], ignore_errors=True)
    return None


def _copy(target: Path) -> None:
    """The files of the checkout as they are, without what git does not know."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=_CHECKOUT, capture_output=True, text=True, check=True
    )
    for file in filter(None, listed.stdout.split("\0")):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(_CHECKOUT / file, target / file)


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(sys.argv[1:])))
