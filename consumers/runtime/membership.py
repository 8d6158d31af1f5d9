"""Whether the group still counts this process in: asked at intervals, and remembered.

The client library sends its heartbeats in the background and has no way to ask about them, so
everything that looks inside it for that is here.
"""

import asyncio
import contextlib
import time
from typing import Any, Protocol

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import NoError, RebalanceInProgressError
from aiokafka.protocol.group import HeartbeatRequest

from consumers.runtime.limits import at_most

__all__ = ["Live", "Membership"]

_log = structlog.get_logger(__name__)

_ANSWER_LIMIT = 8.0
_LOOK_SECONDS = 0.1
_NO_GENERATION = -1


class Live(Protocol):
    """Knows whether the group still counts this process in."""

    def is_live(self) -> bool:
        """False while the process may have been given up by its group."""

    async def until_live(self) -> None:
        """Wait while it may have been."""


class Membership:
    """A consumer's place in its group.

    It is live while the group has heard of this process within half a session. A process that
    slept for longer than its session, or was cut off from Kafka for so long, starts nothing: its
    partitions may be another's.
    """

    def __init__(self, consumer: AIOKafkaConsumer, session_seconds: float) -> None:
        self._consumer = consumer
        self._stall = session_seconds / 2
        self._last_turn = self._heard_at = time.monotonic()
        self._stalled_at = 0.0
        self._live = asyncio.Event()
        self._live.set()
        #: Set to have the group asked at once.
        self._unheard = asyncio.Event()
        #: The member id under which the group last gave us partitions.
        self._member: str | None = None

    @property
    def is_given_up(self) -> bool:
        """True when the group's coordinator has said that it does not know this member any more."""
        return bool(self._group.generation == _NO_GENERATION)

    async def is_known(self) -> bool:
        """True when the group's coordinator answers a heartbeat of this member.

        This heartbeat changes nothing in the library: an answer that comes while it joins again
        must not undo that. It does not use the library's own connection to the coordinator, where
        it would wait behind a join until all other members have joined. Where the library has
        stopped taking part nothing is sent: a heartbeat would keep a place that does no work.
        """
        group = self._group
        if group is None or group.coordinator_id is None or self.is_given_up:
            return False
        if group._coordination_task.done():  # noqa: SLF001  the only sign that it has ended
            return False
        heartbeat = HeartbeatRequest(group.group_id, group.generation, group.member_id)
        try:
            client = self._consumer._client  # noqa: SLF001  it has no public way to send a request
            sending = client.send(group.coordinator_id, heartbeat)
            answer = await at_most(_ANSWER_LIMIT, sending)
        except Exception:  # noqa: BLE001  no answer, in whichever way
            return False
        return answer.error_code in (NoError.errno, RebalanceInProgressError.errno)

    def was_out(self) -> bool:
        """True when the group has taken us in as a new member since the last call.

        Called at each assignment: others may have had our partitions meanwhile.
        """
        member, self._member = self._member, str(self._group.member_id)
        return member not in (None, self._member)

    def is_live(self) -> bool:
        """True when the group has heard of us within half a session."""
        self._note_turn()
        return self._live.is_set()

    async def until_live(self) -> None:
        """Wait until the group has heard of us within half a session."""
        self._note_turn()
        await self._live.wait()

    async def run(self) -> None:
        """Keep asking, until cancelled.

        Also while the group moves partitions, when the poll waits, and while the stage ends: calls
        go on at both times.
        """
        self._last_turn = self._heard_at = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_turns())
            tasks.create_task(self._ask_group())

    @property
    def _group(self) -> Any:
        """What the library knows of the group; None before it has reached Kafka."""
        return self._consumer._coordinator  # noqa: SLF001  the library does not publish it

    async def _watch_turns(self) -> None:
        """Notice when the event loop stood still, or the group has not heard of us."""
        while True:
            self._note_turn()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _ask_group(self) -> None:
        """Ask the group at intervals whether it counts us in; more often while that is unknown."""
        while True:
            asked = time.monotonic()
            if await self.is_known():
                self._heard_at = asked  # the answer may have been long on its way
                if asked > self._stalled_at:
                    self._live.set()
            pause = self._stall / 4 if self._live.is_set() else _LOOK_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._unheard.wait()
            self._unheard.clear()

    def _note_turn(self) -> None:
        now = time.monotonic()
        is_still = now - self._last_turn > self._stall
        if is_still or (self._live.is_set() and now - self._heard_at > self._stall):
            since = self._last_turn if is_still else self._heard_at
            seconds = round(now - since, 1)
            _log.warning("process stood still" if is_still else "group not heard", seconds=seconds)
            self._live.clear()
            self._unheard.set()
            self._stalled_at = now
        self._last_turn = now
