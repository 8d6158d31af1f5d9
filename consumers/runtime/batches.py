"""Record batches, parsed by ourselves: the client library stops at a record that it cannot parse.

A header whose name is not UTF-8 is enough for that, and all records after it in its batch would
never be read. The format is documented: https://kafka.apache.org/documentation/#recordbatch (v2).
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.errors import LeaderNotAvailableError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.util import calc_crc32c, decode_varint
from aiokafka.structs import ConsumerRecord

from consumers.runtime.limits import at_most

__all__ = ["Broken", "TakenApart", "fetch_apart", "take_apart"]

_ANSWER_LIMIT = 8.0
_WAIT_MS, _MOST_BYTES = 100, 1 << 20
#: The fields of `_Head`. The length covers what follows it, and so does the checksum.
_HEAD = struct.Struct(">qiibIhiqqqhii")
_BEHIND_LENGTH, _BEHIND_SUM, _MAGIC = 12, 21, 2
_COMPRESSION, _APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x07, 0x08, 0x10, 0x20
_CODECS: Mapping[int, Any] = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}
_ABORT = b"\0\0"


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that nobody can parse."""

    offset: int
    #: What is wrong with it, in words.
    why: str


class TakenApart(NamedTuple):
    """What a partition holds from a position on, in the order of its offsets."""

    parts: Sequence[ConsumerRecord | Broken]
    #: From where to read on.
    end: int


class _Head(NamedTuple):
    base: int
    length: int
    epoch: int
    magic: int
    sum: int
    attributes: int
    last_delta: int
    first_time: int
    last_time: int
    producer: int
    producer_epoch: int
    sequence: int
    records: int


async def fetch_apart(
    consumer: AIOKafkaConsumer, source: TopicPartition, position: int
) -> TakenApart:
    """What a partition holds from a position on, up to the end of a batch with a broken record.

    The consumer's own fetches are left alone. Raises KafkaError and TimeoutError.
    """
    # The library does not hand out a batch's bytes, so its own fetch request is sent here.
    client = consumer._client  # noqa: SLF001
    leader = client.cluster.leader_for_partition(source)
    if leader in (None, -1):
        raise LeaderNotAvailableError
    is_committed = consumer._isolation_level == "read_committed"  # noqa: SLF001
    partitions = [(source.topic, [(source.partition, position, _MOST_BYTES)])]
    request = FetchRequest(_WAIT_MS, 1, _MOST_BYTES, int(is_committed), partitions)
    answer = await at_most(_ANSWER_LIMIT, client.send(leader, request))
    [(_, [fetched])] = answer.topics
    if fetched[1]:
        raise for_code(fetched[1])
    aborted = fetched[4 if answer.API_VERSION == 4 else 5] if is_committed else ()
    return take_apart(bytes(fetched[-1] or b""), source, position, aborted or ())


def take_apart(
    raw: bytes, source: TopicPartition, position: int, aborted: Iterable[tuple[int, int]] = ()
) -> TakenApart:
    """The records in the bytes of a fetch, up to the end of the first batch with a broken one.

    `aborted` are the producers and first offsets of transactions that are not to be read.
    """
    waiting, dropped, at = sorted(aborted, key=itemgetter(1)), set[int](), 0
    parts: list[ConsumerRecord | Broken] = []
    while at + _HEAD.size <= len(raw):
        head = _Head(*_HEAD.unpack_from(raw, at))
        size = _BEHIND_LENGTH + head.length
        if size < _HEAD.size or at + size > len(raw):
            break  # the end of what was fetched
        batch, at = raw[at : at + size], at + size
        if head.magic != _MAGIC or calc_crc32c(batch[_BEHIND_SUM:]) != head.sum:
            # Nothing in it can be trusted, not even how many records it has.
            parts.append(Broken(position, "its batch is damaged"))
            return TakenApart(parts, position + 1)
        while waiting and waiting[0][1] <= head.base:
            dropped.add(waiting.pop(0)[0])
        end = head.base + head.last_delta + 1
        if head.attributes & _CONTROL:
            if _is_abort(batch):
                dropped.discard(head.producer)
        elif not (head.attributes & _TRANSACTIONAL and head.producer in dropped):
            inside = [part for part in _parts(head, batch, source) if position <= part.offset < end]
            parts += inside
            if any(isinstance(part, Broken) for part in inside):
                return TakenApart(parts, max(end, position))
        position = max(end, position)
    return TakenApart(parts, position)


def _is_abort(batch: bytes) -> bool:
    try:
        (record,) = _records(batch[_HEAD.size :], 1)
    except ValueError:
        return False
    return record is not None and (_fields(record).key or b"")[2:4] == _ABORT


def _parts(head: _Head, batch: bytes, source: TopicPartition) -> Iterator[ConsumerRecord | Broken]:
    """The records of a batch; from where it cannot be parsed any further, all are broken."""
    next_offset, end = head.base, head.base + min(head.last_delta + 1, len(batch))
    is_whole = head.records == head.last_delta + 1  # compaction takes records out
    try:
        codec = _CODECS.get(head.attributes & _COMPRESSION)
        body = batch[_HEAD.size :]
        for raw in _records(body if codec is None else codec(body), head.records):
            offset = head.base + _offset_delta(raw)
            if not next_offset <= offset < (next_offset + 1 if is_whole else end):
                msg = "its offsets are not in order"
                raise ValueError(msg)  # noqa: TRY301  as the functions that read a record do
            next_offset = offset + 1
            yield _read(head, raw, source, offset)
    except Exception as error:  # noqa: BLE001  whatever a decompression raises
        why = f"its batch cannot be followed ({type(error).__name__})"
        for offset in range(next_offset, end):
            yield Broken(offset, why)


def _records(body: bytes, count: int) -> Iterator[bytes]:
    """The bytes of each record. Raises ValueError where there are fewer than there should be."""
    at = 0
    for _ in range(count):
        length, at = _number(body, at)
        if length < 0 or at + length > len(body):
            msg = "a record is longer than its batch"
            raise ValueError(msg)
        yield body[at : at + length]
        at += length


class _Fields(NamedTuple):
    time_delta: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def _read(head: _Head, raw: bytes, source: TopicPartition, offset: int) -> ConsumerRecord | Broken:
    try:
        fields = _fields(raw)
    except UnicodeDecodeError:
        return Broken(offset, "the name of a header is not UTF-8")
    except ValueError as error:
        return Broken(offset, str(error))
    is_appended = head.attributes & _APPEND_TIME
    return ConsumerRecord(
        topic=source.topic,
        partition=source.partition,
        offset=offset,
        timestamp=head.last_time if is_appended else head.first_time + fields.time_delta,
        timestamp_type=1 if is_appended else 0,
        key=fields.key,
        value=fields.value,
        checksum=None,
        serialized_key_size=-1 if fields.key is None else len(fields.key),
        serialized_value_size=-1 if fields.value is None else len(fields.value),
        headers=fields.headers,
    )


def _offset_delta(raw: bytes) -> int:
    _, at = _number(raw, 1)
    return _number(raw, at)[0]


def _fields(raw: bytes) -> _Fields:
    """What a record's bytes say. Raises ValueError, of which UnicodeDecodeError is one."""
    time_delta, at = _number(raw, 1)
    _, at = _number(raw, at)  # the offset's
    key, at = _bytes(raw, at)
    value, at = _bytes(raw, at)
    count, at = _number(raw, at)
    headers = []
    for _ in range(count):
        name, at = _bytes(raw, at)
        content, at = _bytes(raw, at)
        if name is None:
            msg = "a header has no name"
            raise ValueError(msg)
        headers.append((name.decode("utf-8"), content))
    if at != len(raw) or count < 0:
        msg = "a record does not end where it should"
        raise ValueError(msg)
    return _Fields(time_delta, key, value, tuple(headers))


def _bytes(raw: bytes, at: int) -> tuple[bytes | None, int]:
    length, at = _number(raw, at)
    if length < 0:
        return None, at
    if at + length > len(raw):
        msg = "a field is longer than its record"
        raise ValueError(msg)
    return raw[at : at + length], at + length


def _number(raw: bytes, at: int) -> tuple[int, int]:
    try:
        number, at = decode_varint(raw, at)
    except IndexError:
        msg = "a record ends in a number"
        raise ValueError(msg) from None
    return number, at
