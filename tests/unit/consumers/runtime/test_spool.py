"""Ledger lines on disk: nothing is lost, nobody else reads them, and each is taken over once."""

import stat
from pathlib import Path

import pytest

from consumers.runtime.spool import Kept, Spool
from schemas.codec import Outgoing

_TOPIC = "llm.attempts"


def _spool(folder: Path, cluster: str = "c-1", topic: str = _TOPIC) -> Spool:
    return Spool(folder, cluster, topic)


def _kept(number: int) -> Kept:
    headers = [("traceparent", b"00-1"), ("odd", bytes(range(256)))]
    value = f'{{"attempt": {number}, "text": "\u00e9\u2028"}}'.encode()
    return Kept(number, Outgoing(_TOPIC, f"r-{number}".encode(), value, headers))


def _ends(spool: Spool) -> None:
    """What the end of a process does to its locks, in whatever way it ends."""
    spool.close(is_done=False)


def test_what_a_dead_process_has_left_is_taken_over_once(tmp_path: Path) -> None:
    lines = [_kept(number) for number in range(3)]
    dead = _spool(tmp_path)
    dead.keep(lines[:2])
    dead.keep(lines[2:])
    _ends(dead)
    first, second = _spool(tmp_path), _spool(tmp_path)

    assert first.take_over() == lines
    assert second.take_over() == []
    _ends(first)
    assert second.take_over() == lines


def test_the_lines_of_a_living_process_are_left_alone(tmp_path: Path) -> None:
    living = _spool(tmp_path)
    living.keep([_kept(1)])

    assert _spool(tmp_path).take_over() == []
    assert living.path.exists()


def test_what_is_booked_is_gone(tmp_path: Path) -> None:
    spool = _spool(tmp_path)
    spool.keep([_kept(1)])
    spool.clear()
    spool.keep([_kept(2)])
    _ends(spool)
    after = _spool(tmp_path)
    assert after.take_over() == [_kept(2)]
    after.close(is_done=True)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "other", [{"cluster": "c-2"}, {"topic": "staging.llm.attempts"}, {"cluster": "c-1.x"}]
)
def test_lines_of_another_cluster_or_prefix_are_left_alone(
    tmp_path: Path, other: dict[str, str]
) -> None:
    dead = _spool(tmp_path)
    dead.keep([_kept(1)])
    _ends(dead)

    assert _spool(tmp_path, **other).take_over() == []
    assert _spool(tmp_path).take_over() == [_kept(1)]


def test_nobody_else_can_read_them(tmp_path: Path) -> None:
    spool = _spool(tmp_path / "tierline" / "ledger")
    spool.keep([_kept(1)])

    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(spool.path.parent.stat().st_mode) == 0o700


def test_a_last_line_that_was_cut_off_costs_no_other(tmp_path: Path) -> None:
    dead = _spool(tmp_path)
    dead.keep([_kept(1), _kept(2)])
    _ends(dead)
    dead.path.write_bytes(dead.path.read_bytes()[:-40])

    assert _spool(tmp_path).take_over() == [_kept(1)]


def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    dead = _spool(tmp_path / "elsewhere")
    dead.keep([_kept(1)])
    _ends(dead)
    folder = tmp_path / "ledger"
    folder.mkdir()
    (folder / dead.path.name).symlink_to(dead.path)

    with pytest.raises(OSError, match="symbolic"):
        _spool(folder).take_over()
    assert dead.path.exists()
