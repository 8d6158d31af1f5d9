"""Short runs of the harness: within a minute or two each, and nothing broken.

What a broker and a network do to a flow takes longer to come to rest: `make nemesis` has them all.
"""

from pathlib import Path

import pytest

from tests.nemesis.__main__ import run_seed

pytestmark = [pytest.mark.kafka, pytest.mark.anyio, pytest.mark.timeout(420)]

_KILLS = ("kill work", "kill route", "die at point", "freeze work")
_GRACEFUL = ("end work", "end route", "one more work")


async def test_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    requests, report, problems = await run_seed(7, 40.0, tmp_path, kinds=_KILLS, rate=40.0)

    assert problems == []
    assert report.ok, report.line()
    assert requests > 500


async def test_who_ends_or_joins_in_good_order_costs_no_call(tmp_path: Path) -> None:
    requests, report, problems = await run_seed(3, 30.0, tmp_path, kinds=_GRACEFUL, rate=40.0)

    assert problems == []
    assert report.extra_calls == 0
    assert report.ok, report.line()
    assert requests > 500
