"""Every measurement still runs: each is tried as small as it goes, in a process of its own."""

import os
import subprocess
import sys

import pytest

from consumers.runtime import loopback
from tests.bench.__main__ import MEASUREMENTS, TABLES
from tests.kafka.conftest import broker

__all__ = ["broker"]

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]


@pytest.mark.parametrize("name", [*TABLES, *MEASUREMENTS])
def test_a_measurement_prints_its_figures(name: str, broker: str) -> None:
    smoke = {"TIERLINE_BENCH_SMOKE": "1", "TIERLINE_BENCH_BROKER": broker}
    # The first run of a peer fetches its packages.
    own = {name: value for name, value in os.environ.items() if name != loopback.VARIABLE}
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench", name],
        env={**own, **smoke},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr[-3_000:]
    assert run.stdout.strip()
