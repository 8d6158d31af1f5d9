"""The mark names the record that is handled this moment, and none while nothing is."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from consumers.runtime.marks import (
    Left,
    Mark,
    aside,
    left_behind,
    marking,
    stepwise,
    usable_folder,
)
from consumers.runtime.sentinel import ASIDE_AT, LOOP_AT, RECORD, SIZE, STRIKING_AT

_NONE = (0, 0, 0)
_KAFKA = "kafka:9092"
_Seen = list[tuple[int, int, int]]


async def test_each_step_of_each_record_is_marked_and_no_wait_is() -> None:
    """Two records take turns, as calls do; between their steps the loop handles nothing."""
    mark, seen = Mark(), dict[int, _Seen]()

    async def work(offset: int) -> int:
        for _ in range(3):
            seen.setdefault(offset, []).append(mark.current)
            await asyncio.sleep(0)
            seen[offset].append(mark.current)
        return offset

    async def idle() -> None:
        for _ in range(6):
            seen.setdefault(-1, []).append(mark.current)
            await asyncio.sleep(0)

    async def marked(offset: int) -> object:
        return await stepwise(mark, (1, 2, offset), work(offset))

    first, _, second = await asyncio.gather(marked(10), idle(), marked(11))

    assert (first, second) == (10, 11)
    assert seen == {10: [(1, 2, 10)] * 6, 11: [(1, 2, 11)] * 6, -1: [_NONE] * 6}


async def test_a_cancellation_reaches_the_work_which_is_marked_while_it_cleans_up() -> None:
    mark, seen = Mark(), _Seen()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(mark.current)

    async def marked() -> None:
        await stepwise(mark, (1, 0, 7), work())

    task = asyncio.ensure_future(marked())
    await asyncio.sleep(0)
    assert mark.current == _NONE
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (seen, mark.current) == ([(1, 0, 7)], _NONE)


async def test_an_error_of_the_work_clears_the_mark() -> None:
    mark = Mark()

    async def work() -> None:
        await asyncio.sleep(0)
        raise KeyError

    with pytest.raises(KeyError):
        await stepwise(mark, (1, 0, 7), work())
    assert mark.current == _NONE


async def test_work_in_a_thread_has_a_mark_beside_that_of_the_loop(tmp_path: Path) -> None:
    """One thread at a time, so that each record is marked while it is worked on."""
    with marking(tmp_path, _KAFKA) as (mark, descriptor):

        def look() -> tuple[int, ...]:
            return RECORD.unpack_from(os.pread(descriptor, SIZE, 0), ASIDE_AT)

        async def marked(offset: int) -> object:
            return await stepwise(mark, (1, 2, offset), aside(look))

        seen = await asyncio.gather(*map(marked, range(20)))
        assert (look(), mark.current) == (_NONE, _NONE)
    assert seen == [(1, 2, offset) for offset in range(20)]
    assert await aside(lambda: "of no stage") == "of no stage"


def test_a_record_that_is_read_beside_another_gives_the_mark_back() -> None:
    mark = Mark()
    mark.set(1, 0, 5)
    with mark.on(2, 0, 9):
        assert mark.current == (2, 0, 9)
    assert mark.current == (1, 0, 5)


_DIES = """
import os, sys
from pathlib import Path
from consumers.runtime.marks import marking
with marking(Path(sys.argv[1]), sys.argv[2]) as (mark, _):
    {act}
    os._exit(1)
"""
_TAKES = 'mark.set(mark.source("route", "llm.intake"), 3, 41)'


def _died(folder: Path, act: str = _TAKES, kafka: str = _KAFKA) -> None:
    """A process that does something with its mark and dies."""
    command = [sys.executable, "-c", _DIES.format(act=act), str(folder), kafka]
    assert subprocess.run(command, check=False).returncode == 1
    assert len(list(folder.iterdir())) == 1


def test_who_died_at_a_record_leaves_it_behind_once(tmp_path: Path) -> None:
    _died(tmp_path)

    [left] = left_behind(tmp_path, _KAFKA)

    assert left == Left("route", "llm.intake", 3, 41, left.death if left else "")
    assert list(left_behind(tmp_path, _KAFKA)) == []


def test_who_died_while_a_thread_worked_leaves_that_record_too(tmp_path: Path) -> None:
    _died(tmp_path, f"{_TAKES}; mark.work_aside((1, 3, 40), lambda: os._exit(1))")
    found = [left and left.offset for left in left_behind(tmp_path, _KAFKA)]
    assert found == [41, 40]


@pytest.mark.parametrize(
    ("act", "kafka"),
    [
        pytest.param("pass", _KAFKA, id="no record was in hand"),
        pytest.param("mark.set(9, 0, 1)", _KAFKA, id="of a topic that nobody named"),
        pytest.param(_TAKES, "other:9092", id="the record lies in another Kafka"),
    ],
)
def test_a_death_that_is_no_fault_of_a_record_leaves_nothing(
    tmp_path: Path, act: str, kafka: str
) -> None:
    _died(tmp_path, act, kafka)
    assert list(left_behind(tmp_path, _KAFKA)) == []


def test_what_a_living_process_handles_is_not_left_behind(tmp_path: Path) -> None:
    with marking(tmp_path, _KAFKA) as (mark, descriptor):
        mark.set(mark.source("route", "llm.intake"), 3, 41)
        assert list(left_behind(tmp_path, _KAFKA)) == []

        os.pwrite(descriptor, b"\x01", STRIKING_AT)
        assert list(left_behind(tmp_path, _KAFKA)) == [None]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"x" * 10, b"\xff" * SIZE, bytes(SIZE)])
def test_a_file_that_is_not_ours_stops_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.mark").write_bytes(content)
    assert list(left_behind(tmp_path, _KAFKA)) == []


def test_the_folder_is_the_one_that_is_wanted_or_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = tmp_path / "state" / "marks"
    assert usable_folder(wanted) == wanted
    assert wanted.stat().st_mode & 0o777 == 0o700

    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert usable_folder(tmp_path / "file" / "below") == tmp_path / f"tierline-{os.getuid()}"


def test_where_no_folder_can_be_written_to_marks_are_set_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    assert usable_folder(tmp_path / "file" / "below") is None
    with marking(None, _KAFKA) as (mark, descriptor):
        mark.set(1, 0, 5)
        assert RECORD.unpack_from(os.pread(descriptor, SIZE, 0), LOOP_AT) == (1, 0, 5)
