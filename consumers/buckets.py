"""Buckets: items grouped by key on disk, so that only one bucket is in memory at a time."""

import contextlib
import pickle
import tempfile
from collections.abc import Iterator
from typing import IO, Generic, TypeVar

__all__ = ["Buckets"]

T = TypeVar("T")

#: A million items make buckets of some thousands.
_COUNT = 128


class Buckets(Generic[T]):
    """Items by key: all items of a key lie in the same bucket, in the order in which they came.

    The files are of this process alone: they have no name, and are gone when they are closed.
    """

    def __init__(self) -> None:
        self._files: dict[int, IO[bytes]] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Buckets[T]":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def put(self, key: object, item: T) -> None:
        no = hash(key) % _COUNT
        if no not in self._files:
            file = tempfile.TemporaryFile()  # noqa: SIM115  the stack closes it
            self._files[no] = self._stack.enter_context(file)
        pickle.dump(item, self._files[no], protocol=pickle.HIGHEST_PROTOCOL)

    def each(self) -> Iterator[Iterator[T]]:
        """The items of each bucket; read one bucket before asking for the next."""
        for no in sorted(self._files):
            yield self._items(self._files[no])

    @staticmethod
    def _items(file: IO[bytes]) -> Iterator[T]:
        end = file.tell()
        _ = file.seek(0)
        while file.tell() < end:
            yield pickle.load(file)  # noqa: S301  we have just written it, and nobody else can
