"""Every measurement still runs: each is tried as small as it goes, in a process of its own."""

import os
import subprocess
import sys

import pytest

from consumers.runtime import loopback
from tests.bench.__main__ import MEASUREMENTS, TABLES
from tests.kafka.conftest import broker

__all__ = ["broker"]

pytestmark = pytest.mark.timeout(400)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_a_measurement_without_a_broker_prints_its_figures(name: str) -> None:
    _measure(name)


@pytest.mark.kafka
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_measurement_prints_its_figures(name: str, broker: str) -> None:
    _measure(name, TIERLINE_BENCH_BROKER=broker)


def _measure(name: str, **variables: str) -> None:
    # The first run of a peer fetches its packages.
    own = {name: value for name, value in os.environ.items() if name != loopback.VARIABLE}
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench", name],
        env={**own, "TIERLINE_BENCH_SMOKE": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr[-3_000:]
    assert run.stdout.strip()
