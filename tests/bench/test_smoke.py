"""Every measurement still runs: each is tried as small as it goes, in a process of its own."""

import os
import subprocess
import sys

import pytest

from tests.bench.__main__ import MEASUREMENTS, TABLES
from tests.kafka.conftest import broker

__all__ = ["broker"]

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]


@pytest.mark.parametrize("name", [*TABLES, *MEASUREMENTS])
def test_a_measurement_prints_its_figures(name: str, broker: str) -> None:
    smoke = {"TIERLINE_BENCH_SMOKE": "1", "TIERLINE_BENCH_BROKER": broker}
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench", name],
        env={**os.environ, **smoke},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr[-3_000:]
    assert run.stdout.strip()
