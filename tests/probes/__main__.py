"""Tries every probe and prints what was tried and blocked: `make probes`, or one class by name."""

import contextlib
import os
import sys

from rich.console import Console
from rich.table import Table

from consumers.cli.logs import configure_logs
from consumers.lab.broker import local_broker
from consumers.runtime import loopback
from consumers.runtime.process import run_process
from tests.probes.classes import CLASSES
from tests.probes.report import ProbeClass, Report


async def main() -> None:
    """Try what was asked for, or everything; exit 1 when a probe got through."""
    configure_logs(is_debug=False)
    wanted = [one for one in CLASSES if not sys.argv[1:] or one.name in sys.argv[1:]]
    loopback.guarding.clear()  # until there is a broker, which may have to be fetched
    reports: list[tuple[ProbeClass, Report]] = []
    async with contextlib.AsyncExitStack() as stack:
        bootstrap = ""
        if any(one.needs_broker for one in wanted):
            bootstrap = (await stack.enter_async_context(local_broker())).bootstrap
        loopback.guarding.set()
        for one in wanted:
            report = Report()
            await one.run(report, bootstrap if one.needs_broker else "")
            reports.append((one, report))
    _print(reports)
    if any(report.got_through or report.tried < one.least for one, report in reports):
        sys.exit(1)


def _print(reports: list[tuple[ProbeClass, Report]]) -> None:
    table = Table("class", "tried", "blocked", "at least")
    for one, report in reports:
        blocked = report.tried - len(report.got_through)
        table.add_row(one.name, str(report.tried), str(blocked), str(one.least))
    total = sum(report.tried for _, report in reports)
    through = sum(len(report.got_through) for _, report in reports)
    table.add_row("all", str(total), str(total - through), "", style="bold")
    console = Console()
    console.print(table)
    for one, report in reports:
        for line in report.got_through:
            console.print(f"{one.name}: {line}", style="red", markup=False)


if __name__ == "__main__":
    os.environ[loopback.VARIABLE] = "1"
    run_process(main)
