"""Runs the whole flow on a real Kafka while everything around it fails, and judges what is left.

`python -m tests.nemesis --seeds 20 --minutes 40`: the minutes are shared by the seeds. A seed draws
the faults and the requests; the same seed draws the same. Exits 1 on any break.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from consumers.cli.logs import configure_logs
from consumers.failpoints import FAILPOINTS
from consumers.policy_file import read_policy
from tests.nemesis.checker import Report, check
from tests.nemesis.facts import find
from tests.nemesis.faults import Nemesis
from tests.nemesis.further import further, kept_waiting, miscounted, out_of_order
from tests.nemesis.openness import Openness
from tests.nemesis.plan import KINDS, plan
from tests.nemesis.traces import span_problems, trace_problems
from tests.nemesis.traffic import Traffic, context_of
from tests.nemesis.world import World
from tests.telemetry.sink import otlp_sink

__all__ = ["run_seed"]

#: Per seed, beside the load: starting the processes, coming to rest, reading everything.
_AROUND_SECONDS = 25.0
_SHORTEST_SECONDS = 30.0
#: The longest calls end within the grace that a rebalance gives them.
_LATENCY_SCALE = 3.0


async def run_seed(
    seed: int,
    seconds: float,
    folder: Path,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    points: Sequence[str] = FAILPOINTS,
    rate: float = 60.0,
    workers: int = 2,
    latency_scale: float = _LATENCY_SCALE,
    verbose: bool = False,
) -> tuple[int, Report, list[str]]:
    """One run: how many requests, the judge's report, and what else is wrong."""

    def tell(words: str) -> None:
        if verbose:
            sys.stderr.write(f"  {words}\n")

    async with (
        otlp_sink(keeps_raw=False) as sink,
        World.running(
            folder,
            workers=workers,
            routes=2,
            latency_scale=latency_scale,
            traces_url=sink.url,
        ) as world,
    ):
        traffic = Traffic(world.through, seed, rate)
        nemesis = Nemesis(world, tell)
        openness = Openness(world.through, lambda: nemesis.is_calm)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(openness.watch())
            orchestrating = tasks.create_task(world.orchestrate(tell))
            async with asyncio.TaskGroup() as both:
                both.create_task(traffic.run(seconds))
                both.create_task(nemesis.run(plan(seed, seconds, kinds, points)))
            watching.cancel()
            tell("calm; waiting for the rest")
            found = await find(world.beside, traffic, world.bill_file, nemesis.cuts)
            orchestrating.cancel()
        for role in ("route", "work", "counting"):
            for member in world.living(role):
                await nemesis.end(member)
        producers = [context_of(one.id)[1] for one in traffic.published]
        traces = trace_problems(found.carried)
        traces += span_problems(sink.spans, found.bill, producers, has_killed=world.has_killed)
        tell(f"{len(sink.spans)} spans, {len(sink.orphans(producers))} orphans")
    report = check(found.facts)
    policy = read_policy(world.beside)
    offset = time.time() - time.monotonic()  # noqa: TID251  the bill has the other clock
    others = further(
        found.results,
        found.letters,
        found.bill,
        traffic.deadlines,
        traffic.parking,
        policy=policy,
        clock_offset=offset,
    )
    return (
        len(traffic.published),
        report,
        [
            *report.problems,
            *others,
            *out_of_order(found.arrivals),
            *miscounted(found.counted),
            *kept_waiting(traffic.sent_at, found.bill, nemesis.troubles),
            *traces,
            *nemesis.problems,
            *openness.problems,
        ],
    )


async def _main(arguments: argparse.Namespace) -> int:
    configure_logs(is_debug=False)
    each = arguments.minutes * 60 / arguments.seeds - _AROUND_SECONDS
    seconds = max(each, _SHORTEST_SECONDS)
    kinds = tuple(arguments.kinds.split(",")) if arguments.kinds else tuple(KINDS)
    kinds = () if kinds == ("none",) else kinds
    points = tuple(arguments.points.split(",")) if arguments.points else FAILPOINTS
    requests = broken = 0
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        folder = Path(tempfile.mkdtemp(prefix=f"tierline-nemesis-{seed}-"))
        count, report, problems = await run_seed(
            seed,
            seconds,
            folder,
            kinds=kinds,
            points=points,
            rate=arguments.rate,
            latency_scale=arguments.latency_scale,
            verbose=True,
        )
        requests += count
        sys.stdout.write(f"seed={seed} requests={count} {report.line()}\n")
        for difference in report.estimates:
            sys.stdout.write(f"    above the bill: {difference}\n")
        for problem in problems:
            sys.stdout.write(f"    {problem}\n")
        if problems or not report.ok:
            broken += 1
            sys.stdout.write(f"    logs, data and bill are in {folder}\n")
        else:
            shutil.rmtree(folder)
        sys.stdout.flush()
    sys.stdout.write(f"seeds={arguments.seeds} requests={requests} broken={broken}\n")
    return 1 if broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=5.0, help="of all seeds together")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=60.0, help="requests per second")
    parser.add_argument("--kinds", help=f"`none`, or only these: {', '.join(KINDS)}")
    parser.add_argument("--points", help=f"only these failpoints, of: {', '.join(FAILPOINTS)}")
    parser.add_argument(
        "--latency-scale", type=float, default=_LATENCY_SCALE, help="how slow the models are"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(_arguments())))
