"""A short run of the harness: two faults of each family within a minute, and nothing broken."""

from pathlib import Path

import pytest

from tests.nemesis.__main__ import run_seed

pytestmark = [pytest.mark.kafka, pytest.mark.anyio, pytest.mark.timeout(420)]

_KILLS = ("kill work", "kill route", "end work", "die at point", "freeze work")
_TROUBLE = ("kill broker", "freeze broker", "cut network", "hold network", "hold answers")


@pytest.mark.parametrize(("seed", "kinds"), [(7, _KILLS), (11, _TROUBLE)])
async def test_nothing_is_lost_and_nothing_doubled(
    tmp_path: Path, seed: int, kinds: tuple[str, ...]
) -> None:
    requests, report, problems = await run_seed(seed, 40.0, tmp_path, kinds=kinds)

    assert problems == []
    assert report.ok, report.line()
    assert requests > 1_000
