"""The offset tracker under random schedules: nothing lost, nothing finished run again."""

import base64
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.runtime.offsets import (
    MAX_UNFINISHED,
    MAX_WINDOW,
    OWNER_BITS,
    CommitId,
    Completion,
    OffsetTracker,
)

MOST_CHARACTERS = 4_096
LARGEST = CommitId((1 << OWNER_BITS) - 1, (1 << 35) - 1)
identities = st.none() | st.builds(
    CommitId, st.integers(0, LARGEST.owner), st.integers(1, LARGEST.no)
)


@given(
    watermark=st.integers(0, 2**40),
    gaps=st.lists(st.integers(1, 5_000), max_size=200),
    beyond=st.integers(1, 1_000),
    identity=identities,
)
def test_what_is_encoded_is_decoded(
    watermark: int, gaps: list[int], beyond: int, identity: CommitId | None
) -> None:
    unfinished, offset = [], watermark
    for gap in gaps:
        unfinished.append(offset)
        offset += gap
    completion = Completion(watermark, offset + beyond, tuple(unfinished), identity)

    assert Completion.decode(watermark, completion.encode()) == completion
    assert _read_before_identities(watermark, completion.encode()) == (
        completion.through,
        completion.unfinished,
    )


def _read_before_identities(watermark: int, metadata: str) -> tuple[int, tuple[int, ...]]:
    """How a release reads that knows no identities, word for word: it runs beside new ones."""
    numbers, number, shift = [], 0, 0
    assert metadata[0] == "1"
    for byte in base64.b85decode(metadata[1:]):
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            numbers.append(number)
            number, shift = 0, 0
    unfinished, previous = [], watermark
    for delta in numbers[1:]:
        previous += delta
        unfinished.append(previous)
    return watermark + numbers[0], tuple(unfinished)


@given(watermark=st.integers(0, 2**40), identity=identities)
def test_a_watermark_carries_an_identity_too(watermark: int, identity: CommitId | None) -> None:
    completion = Completion(watermark, identity=identity)

    assert Completion.decode(watermark, completion.encode()) == completion
    if identity is not None:
        assert _read_before_identities(watermark, completion.encode()) == (watermark, ())


def test_the_metadata_of_a_release_without_identities_is_read() -> None:
    """As it was committed by one: the window of 20 and the unfinished 10, 15 and 18 behind 10."""
    metadata = "1" + base64.b85encode(bytes([20, 0, 5, 3])).decode()

    assert Completion.decode(10, metadata) == Completion(10, 30, (10, 15, 18))


def test_a_plain_watermark_needs_no_metadata() -> None:
    assert Completion(7).encode() == ""
    assert Completion.decode(7, "") == Completion(7)


def test_metadata_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version '9'"):
        Completion.decode(0, "9abc")


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), window=st.sampled_from([1_000, 16_000, 200_000, 2_000_000]))
def test_the_metadata_fits_the_broker_by_construction(seed: int, window: int) -> None:
    """As many unfinished offsets as are allowed, wherever they lie, fit its 4,096 characters."""
    rolled = random.Random(seed)
    start = rolled.randrange(2**40)
    unfinished = sorted(rolled.sample(range(window), min(MAX_UNFINISHED, window)))
    offsets = tuple(start + one for one in unfinished)
    completion = Completion(start, start + window, offsets, LARGEST)

    assert len(completion.encode()) < MOST_CHARACTERS


def test_a_full_tracker_takes_nothing_more() -> None:
    tracker = OffsetTracker.restore(Completion(0))
    for offset in range(MAX_UNFINISHED):
        tracker.receive(offset)

    assert tracker.room == 0


def test_one_stuck_offset_closes_the_partition_only_when_the_window_is_full() -> None:
    tracker = OffsetTracker.restore(Completion(0))
    for offset in range(MAX_WINDOW):
        assert tracker.room > 0
        tracker.receive(offset)
        if offset:
            tracker.settle([offset])

    assert tracker.room == 0
    assert tracker.completion() == Completion(0, MAX_WINDOW, (0,))


def test_restored_offsets_stay_on_the_list_until_they_come_again() -> None:
    """A second crash before everything was fetched again must not forget them."""
    tracker = OffsetTracker.restore(Completion(10, 20, (10, 15, 18)))
    tracker.receive(10)
    tracker.settle([10])

    assert tracker.completion() == Completion(15, 20, (15, 18))


def test_a_restored_offset_that_is_gone_from_the_log_is_dropped() -> None:
    tracker = OffsetTracker.restore(Completion(10, 20, (10, 15)))
    tracker.receive(12)
    tracker.receive(16)

    assert tracker.completion() == Completion(20)


class _Partition:
    """A log with holes and a group that survives crashes: the model to check against."""

    def __init__(self, rolled: random.Random) -> None:
        self.log = sorted(rolled.sample(range(400), 120))
        self.committed = Completion(0)
        self.finished: set[int] = set()
        self.ran_again: list[int] = []


def _run_once(model: _Partition, rolled: random.Random, *, until_done: bool) -> None:
    """One owner's life: fetch, finish in any order, commit now and then, and crash."""
    tracker = OffsetTracker.restore(model.committed)
    running: list[int] = []
    for _ in range(10_000 if until_done else rolled.randrange(5, 200)):
        fetchable = [offset for offset in model.log if offset >= tracker.next_fetch]
        if fetchable and rolled.random() < 0.5:
            offset = fetchable[0]
            if tracker.receive(offset):
                if offset in model.finished:
                    model.ran_again.append(offset)
                running.append(offset)
        elif running:
            done = rolled.sample(running, rolled.randrange(1, min(len(running), 5) + 1))
            tracker.settle(done)
            running = [offset for offset in running if offset not in done]
            model.committed = Completion.decode(
                tracker.completion().watermark, tracker.completion().encode()
            )
            model.finished.update(done)
        elif not fetchable and not running:
            return


@settings(max_examples=300)
@given(seed=st.integers(0, 10**9))
def test_crashes_lose_nothing_and_repeat_nothing_that_was_committed(seed: int) -> None:
    rolled = random.Random(seed)
    model = _Partition(rolled)
    for _ in range(rolled.randrange(1, 8)):
        _run_once(model, rolled, until_done=False)
        unfinished = [offset for offset in model.log if offset not in model.finished]
        assert model.committed.watermark <= min(unfinished, default=10**9)
        assert not any(model.committed.is_finished(offset) for offset in unfinished)
    _run_once(model, rolled, until_done=True)

    assert model.finished == set(model.log)
    assert model.ran_again == []
