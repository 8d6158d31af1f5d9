"""`tierline simulate`: the simulated provider as a server of its own."""

from pathlib import Path
from typing import Annotated

from typer import Option

from consumers.amounts import counted, dollars
from consumers.cli.common import UserError, asynchronous, interrupted
from consumers.cli.terminal import console
from consumers.lab.simulator import SimulatorSettings, simulator
from consumers.lab.simulator.faults import FAULTS

__all__ = ["simulate"]


@asynchronous
async def simulate(
    port: Annotated[
        int,
        Option(metavar="PORT", help="Listen on this port; 0 takes a free one.", min=0, max=65535),
    ] = 9100,
    host: Annotated[str, Option(metavar="ADDRESS", help="Listen on this address.")] = "127.0.0.1",
    seed: Annotated[
        int,
        Option(
            metavar="NUMBER", help="Seed the answers: the same seed gives the same ones every time."
        ),
    ] = 1,
    latency_scale: Annotated[
        float,
        Option(metavar="FACTOR", min=0, help="Multiply response times by this; 0 answers at once."),
    ] = 1.0,
    recorded: Annotated[
        Path | None,
        Option(metavar="FILE", help="Answer from recorded outcomes: JSON Lines, gzipped or not."),
    ] = None,
    bill: Annotated[
        Path | None, Option(metavar="FILE", help="Write one line per call to this file.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=SHARE",
            help="Fail this share of calls in this way, for example http_500=0.1; may be repeated.",
        ),
    ] = None,
) -> None:
    """Run a simulated provider: OpenAI, Anthropic and Gemini formats, with its own bill."""
    shares = {}
    for item in fault or ():
        name, _, share = item.partition("=")
        if name not in FAULTS:
            msg = f"--fault {item}: one of {', '.join(FAULTS)} was expected"
            raise UserError(msg)
        try:
            shares[name] = float(share)
        except ValueError:
            msg = f"--fault {item}: NAME=SHARE with a share from 0 to 1 was expected"
            raise UserError(msg) from None
    settings = SimulatorSettings(
        seed=seed, latency_scale=latency_scale, recorded=recorded, bill_file=bill, faults=shares
    )
    stop = interrupted()
    async with simulator(settings, host=host, port=port) as running:
        console().print(f"simulated provider at {running.base_url}; Ctrl-C stops")
        await stop.wait()
        spent = dollars(running.bill.total_micros)
        console().print(f"{counted(running.bill.count, 'call')}, {spent}")
