"""Every probe is blocked, and none was dropped from its class."""

import pytest

from tests.probes.classes import CLASSES
from tests.probes.report import ProbeClass, Report

_FAST = [one for one in CLASSES if not one.needs_broker]
_BROKER = [one for one in CLASSES if one.needs_broker]


async def _try(one: ProbeClass, bootstrap: str) -> None:
    report = Report()
    if one.sample is None:
        await one.run(report, bootstrap)
    else:
        one.sample(report)

    assert report.got_through == []
    assert report.tried >= (one.least if one.sample is None else 1)


@pytest.mark.slow
@pytest.mark.parametrize("one", _FAST, ids=lambda one: one.name)
async def test_without_a_broker(one: ProbeClass) -> None:
    await _try(one, "")


@pytest.mark.kafka
@pytest.mark.parametrize("one", _BROKER, ids=lambda one: one.name)
async def test_on_a_broker(one: ProbeClass, broker: str) -> None:
    await _try(one, broker)
