"""A network that fails on command: a TCP proxy between clients and one broker."""

import asyncio
import math
import time
from types import TracebackType

from consumers.lab.broker.local import free_ports

__all__ = ["Proxy"]

_CHUNK = 64 * 1024
#: Chunks under way in one direction of one connection; the rest waits with its sender.
_MOST_TRAVELLING = 256


class _Way:
    """One direction of the network, shared by all connections."""

    def __init__(self) -> None:
        self.passed = 0
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.delay_s = 0.0
        self.bytes_per_s = math.inf
        self._free_at = 0.0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes until the sender ends. Raises OSError when either side is gone."""
        travelling = asyncio.Queue[tuple[float, bytes]](_MOST_TRAVELLING)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver(travelling, writer))
            chunk = b"first"
            while chunk:
                chunk = await reader.read(_CHUNK)
                await travelling.put((self._arrival(len(chunk)), chunk))

    def _arrival(self, size: int) -> float:
        """When bytes that leave now are at the other end, by the monotonic clock."""
        self._free_at = max(self._free_at, time.monotonic()) + size / self.bytes_per_s
        return self._free_at + self.delay_s

    async def _deliver(
        self, travelling: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        while True:
            arrival, chunk = await travelling.get()
            await asyncio.sleep(arrival - time.monotonic())
            await self.is_open.wait()
            if not chunk:
                return
            writer.write(chunk)
            self.passed += len(chunk)
            await writer.drain()


class Proxy:
    """A broker as clients see it: at another address, which the broker must advertise.

    Its faults last until they are taken back, and do not exclude each other. Open it before the
    broker starts: nothing connects to the broker before a client does.
    """

    def __init__(self, upstream_host: str, upstream_port: int) -> None:
        self._upstream = (upstream_host, upstream_port)
        # Not any port: after a cut the system could have given it to somebody else.
        self._port = free_ports()[0]
        self._to_broker, self._to_client = _Way(), _Way()
        self._server: asyncio.Server | None = None
        self._is_cut = True
        self._group = asyncio.TaskGroup()
        self._open: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    async def __aenter__(self) -> "Proxy":
        await self._group.__aenter__()
        await self.restore()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.cut()
        await self._group.__aexit__(kind, error, trace)

    @property
    def address(self) -> str:
        """`127.0.0.1:PORT`, the same for as long as the proxy lives."""
        return f"127.0.0.1:{self._port}"

    @property
    def bytes_to_broker(self) -> int:
        """Bytes handed on to the broker."""
        return self._to_broker.passed

    @property
    def bytes_to_client(self) -> int:
        """Bytes handed on to clients."""
        return self._to_client.passed

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._open)

    async def cut(self) -> None:
        """Reset every connection, with what was under way, and refuse new ones."""
        self._is_cut = True
        if self._server is not None:
            self._server.close()
            self._server = None
        ending = dict(self._open)
        for task, ends in ending.items():
            task.cancel()
            for end in ends:
                end.transport.abort()
        if ending:
            await asyncio.wait(ending)

    async def restore(self) -> None:
        """Take new connections."""
        if not self._is_cut:
            return
        self._is_cut = False
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    def pause(self, *, answers_only: bool = False) -> None:
        """Let no byte through, though connections stay open and new ones are taken.

        With `answers_only` the broker still gets, and does, what clients ask.
        """
        self._to_client.is_open.clear()
        if not answers_only:
            self._to_broker.is_open.clear()

    def resume(self) -> None:
        """Let bytes through again, first those held back."""
        self._to_client.is_open.set()
        self._to_broker.is_open.set()

    def slow(self, delay_s: float = 0.0, bytes_per_s: float = math.inf) -> None:
        """Delay every byte by so much each way, and share so much of a line each way.

        Without arguments the network is fast again.
        """
        for way in (self._to_broker, self._to_client):
            way.delay_s, way.bytes_per_s = delay_s, bytes_per_s

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        ends = [writer]
        task = self._group.create_task(self._serve(reader, ends))
        self._open[task] = ends
        task.add_done_callback(self._open.pop)

    async def _serve(self, asked: asyncio.StreamReader, ends: list[asyncio.StreamWriter]) -> None:
        try:
            answered, broker = await asyncio.open_connection(*self._upstream)
        except OSError:
            ends[0].transport.abort()
            return
        ends.append(broker)
        try:
            async with asyncio.TaskGroup() as group:
                ways = [
                    group.create_task(self._to_broker.carry(asked, broker)),
                    group.create_task(self._to_client.carry(answered, ends[0])),
                ]
                # Kafka never closes one direction alone.
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
        except* OSError:
            pass  # one side is gone, and the other is told so below
        finally:
            for end in ends:
                end.close()
