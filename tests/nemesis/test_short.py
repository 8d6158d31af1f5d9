"""Short runs of the harness: within a minute each, and nothing broken."""

from pathlib import Path

import pytest

from tests.nemesis.__main__ import run_seed

pytestmark = [pytest.mark.kafka, pytest.mark.anyio, pytest.mark.timeout(420)]

_KILLS = ("kill work", "kill route", "die at point", "freeze work")
_TROUBLE = ("kill broker", "freeze broker", "cut network", "hold network", "hold answers")
_GRACEFUL = ("end work", "end route", "one more work")


@pytest.mark.parametrize(("seed", "kinds"), [(7, _KILLS), (11, _TROUBLE)])
async def test_nothing_is_lost_and_nothing_doubled(
    tmp_path: Path, seed: int, kinds: tuple[str, ...]
) -> None:
    requests, report, problems = await run_seed(seed, 40.0, tmp_path, kinds=kinds)

    assert problems == []
    assert report.ok, report.line()
    assert requests > 1_000


async def test_who_ends_or_joins_in_good_order_costs_no_call(tmp_path: Path) -> None:
    requests, report, problems = await run_seed(3, 30.0, tmp_path, kinds=_GRACEFUL)

    assert problems == []
    assert report.extra_calls == 0
    assert report.ok, report.line()
    assert requests > 1_000
