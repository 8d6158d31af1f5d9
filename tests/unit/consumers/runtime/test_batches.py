"""Record batches, taken apart as the client library reads them, and where it cannot."""

from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.batches import Broken, take_apart

SOURCE = TopicPartition("llm.intake", 1)
_NAME = b"x-header"


def _batch(
    first: int, values: Sequence[bytes | None], *, codec: int = 0, **fields: Any
) -> bytearray:
    """A batch as a producer builds it, with the first offset as a broker writes it."""
    plain = {"producer_id": -1, "producer_epoch": -1, "base_sequence": -1, "is_transactional": 0}
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, batch_size=1 << 20, **{**plain, **fields}
    )
    for number, value in enumerate(values):
        headers = [(_NAME.decode(), b"1"), ("x-none", None)]
        builder.append(number, 1000 + number, b"k", value, headers)
    made = bytearray(builder.build())
    made[:8] = first.to_bytes(8, "big")
    return made


def _summed(batch: bytearray) -> bytes:
    """The batch, with the sum that it should have."""
    batch[17:21] = calc_crc32c(bytes(batch[21:])).to_bytes(4, "big")
    return bytes(batch)


def _broken_at(batch: bytearray, number: int) -> bytes:
    at = -1
    for _ in range(number + 1):
        at = batch.index(_NAME, at + 1)
    batch[at : at + 2] = b"\xff\xfe"
    return _summed(batch)


def _by_library(raw: bytes, position: int, aborted: Sequence[tuple[int, int]] = ()) -> list[Any]:
    records = MemoryRecords(raw)
    return list(PartitionRecords(SOURCE, records, aborted, position, None, None, True, 1))


values = st.lists(st.one_of(st.none(), st.binary(max_size=40)), min_size=1, max_size=8)


@given(st.lists(values, min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 4))
def test_whole_batches_are_read_as_the_library_reads_them(
    batches: list[list[bytes | None]], skipped: int, codec: int
) -> None:
    raw, offset = b"", 100
    for one in batches:
        raw += _batch(offset, one, codec=codec)
        offset += len(one)
    parts, end = take_apart(raw + raw[:30], SOURCE, 100 + skipped)

    assert end == max(offset, 100 + skipped)
    known = _by_library(raw, 100)
    assert parts == [one for one in known if one.offset >= 100 + skipped]


def test_records_around_a_broken_one_are_read() -> None:
    raw = _broken_at(_batch(7, [b"a", b"b", b"c", b"d"]), 1) + _batch(11, [b"e"])
    parts, end = take_apart(raw, SOURCE, 7)

    assert [getattr(part, "value", part.offset) for part in parts] == [b"a", 8, b"c", b"d"]
    assert isinstance(parts[1], Broken)
    assert "header" in parts[1].why
    assert end == 11, "the library goes on behind the batch"
    assert take_apart(raw, SOURCE, 9).parts[:2] == parts[2:]


def test_a_batch_that_cannot_be_followed_is_named_record_by_record() -> None:
    whole = _batch(7, [b"a", b"b", b"c"])
    head, first = 61, whole[61] // 2 + 1
    whole[head + first] = 0xFE  # the second record's length
    parts, end = take_apart(_summed(whole), SOURCE, 7)

    assert [part.offset for part in parts] == [7, 8, 9]
    assert [isinstance(part, Broken) for part in parts] == [False, True, True]
    assert end == 10


def test_what_is_damaged_or_of_an_older_format_is_named_one_record_at_a_time() -> None:
    damaged = _batch(7, [b"a", b"b"])
    damaged[-1] ^= 1
    older = _batch(7, [b"a"])
    older[16] = 1
    for raw in (damaged, older):
        parts, end = take_apart(bytes(raw), SOURCE, 8)
        assert (parts, end) == ([Broken(8, "its batch is damaged")], 9)


def test_an_aborted_transaction_is_not_read() -> None:
    fields = {"producer_id": 5, "producer_epoch": 0, "base_sequence": 0, "is_transactional": 1}
    raw = bytes(_batch(0, [b"no"], **fields)) + bytes(_batch(1, [b"yes"]))
    parts, end = take_apart(raw, SOURCE, 0, [(5, 0)])
    assert ([part.offset for part in parts], end) == ([1], 2)
    assert parts == _by_library(raw, 0, [(5, 0)])


@pytest.mark.parametrize("at", range(8))
def test_the_rest_of_a_fetch_that_ends_in_a_batch_is_left_to_the_next(at: int) -> None:
    whole = bytes(_batch(0, [b"a"]))
    assert take_apart(whole + whole[: at * 10], SOURCE, 0).end == 1


@given(st.binary(max_size=200))
def test_whatever_the_bytes_nothing_is_raised(noise: bytes) -> None:
    good = _batch(3, [b"a", b"b"])
    good[61 : 61 + len(noise)] = noise[: len(good) - 61]
    parts, end = take_apart(_summed(good) + noise, SOURCE, 3)
    assert {part.offset for part in parts} == {3, 4}
    assert end >= 5
