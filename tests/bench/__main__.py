"""Runs every measurement and prints the table. `python -m tests.bench route` runs one of them."""

import sys
from collections.abc import Awaitable, Callable, Iterator

from consumers.cli.logs import configure_logs
from consumers.runtime.process import run_process
from tests.bench.backlog import measure_backlog
from tests.bench.book import measure_book
from tests.bench.canary import measure_canary
from tests.bench.checks import measure_checks
from tests.bench.commands import measure_commands
from tests.bench.console import measure_console
from tests.bench.evals import measure_evals
from tests.bench.harness import Measured, bench_broker
from tests.bench.hostile import measure_hostile
from tests.bench.intents import measure_intents
from tests.bench.latency import measure_latency
from tests.bench.peer_parallel import measure_parallel
from tests.bench.peers import measure_litellm, measure_quix
from tests.bench.readmodel import measure_readmodel
from tests.bench.recovery import measure_recovery
from tests.bench.releases import measure_releases
from tests.bench.repeats import measure_repeats
from tests.bench.replay import measure_replay
from tests.bench.route import measure_route
from tests.bench.state import measure_state
from tests.bench.submit import measure_submit
from tests.bench.tracing import measure_tracing
from tests.bench.transactions import measure_transactions
from tests.bench.work import measure_work

MEASUREMENTS: dict[str, Callable[[str], Awaitable[list[Measured]]]] = {
    "route": measure_route,
    "quix": measure_quix,
    "transactions": measure_transactions,
    "parallel": measure_parallel,
    "litellm": measure_litellm,
    "work": measure_work,
    "intents": measure_intents,
    "latency": measure_latency,
    "tracing": measure_tracing,
    "repeats": measure_repeats,
    "state": measure_state,
    "backlog": measure_backlog,
    "recovery": measure_recovery,
    "releases": measure_releases,
    "console": measure_console,
    "readmodel": measure_readmodel,
    "hostile": measure_hostile,
    "commands": measure_commands,
    "submit": measure_submit,
}
#: What needs no broker.
TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "book": measure_book,
    "canary": measure_canary,
    "checks": measure_checks,
    "evals": measure_evals,
    "replay": measure_replay,
}


async def main() -> None:
    """Measure what was asked for, or everything."""
    configure_logs(is_debug=False)
    wanted = sys.argv[1:] or [*TABLES, *MEASUREMENTS]
    for name in (name for name in wanted if name in TABLES):
        for line in TABLES[name]():
            print(line, flush=True)
    if not (wanted := [name for name in wanted if name not in TABLES]):
        return
    async with bench_broker() as bootstrap:
        for name in wanted:
            for measured in await MEASUREMENTS[name](bootstrap):
                print(measured.row(), flush=True)


if __name__ == "__main__":
    run_process(main)
