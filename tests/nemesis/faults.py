"""Brings a plan's faults about, and notes when calls may be paid twice because of one."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from consumers.runtime.clients import TRANSACTION_LIMIT
from tests.nemesis.plan import Fault
from tests.nemesis.world import Member, World, refuse_results

__all__ = ["Cut", "Nemesis"]

_ROUTE_POINTS = ("route.sent", "route.committed", "decided")
#: Less than the session of a member: nobody loses partitions over it.
_HARMLESS_SECONDS = 4.0
#: Session, rebalance and fence: by then a dead owner's transaction is ended.
_SUCCESSION_SECONDS = 15.0
#: A reply that was read and not yet committed when its process was cut off.
_UNCOMMITTED_SECONDS = 2.0
_COUNTING = "counting"
#: By then a broker that is back has taken what was read while it was away: the limit of the
#: transaction that it was away for, and the time to build a new producer.
_RECOVERY_SECONDS = TRANSACTION_LIMIT.total_seconds() + 5.0
#: A call that was written may reach the provider so much later.
_ON_ITS_WAY_SECONDS = 0.5
#: By then a process that has just been started calls models.
_START_SECONDS = 20.0
#: Healing takes time too.
_USUAL_OVERRUN_SECONDS = 15.0
#: A drain, the stops of all connections, and the last try to book what is left.
_END_WITHOUT_KAFKA_SECONDS = 80.0


class Cut(NamedTuple):
    """An instant at which calls in flight may have been cut off, by the monotonic clock."""

    at: float
    #: Replies since then may not have been committed.
    since: float


@dataclass(slots=True)
class Nemesis:
    """Works through a plan."""

    world: World
    tell: Callable[[str], None]
    cuts: list[Cut] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    #: Every fault so far, from when until when.
    troubles: list[tuple[float, float]] = field(default_factory=list)
    _at_work: int = 0
    #: When a process was hit last.
    _hit_at: float = -float("inf")
    #: When Kafka was out of reach last.
    _away: tuple[float, float] = (0.0, 0.0)

    @property
    def is_calm(self) -> bool:
        """True when nothing is wrong, and no owner that died has left anything behind."""
        last = max(self._hit_at, self.cuts[-1].at if self.cuts else self._hit_at)
        long_ago = time.monotonic() - last > _SUCCESSION_SECONDS
        return self._at_work == 0 and long_ago

    async def run(self, faults: Sequence[Fault]) -> None:
        """Bring every fault about at its time, and heal it."""
        began = time.monotonic()
        for fault in faults:
            due = began + fault.at
            await asyncio.sleep(max(due - time.monotonic(), 0))
            self.tell(str(fault))
            self._at_work += 1
            began_at = time.monotonic()
            await self._happen(fault)
            self.troubles.append((began_at, time.monotonic()))
            self._at_work -= 1
            # After one that took very long the others are not made up for all at once.
            began += max(time.monotonic() - due - fault.seconds - _USUAL_OVERRUN_SECONDS, 0)

    async def _happen(self, fault: Fault) -> None:
        what, _, whom = fault.kind.rpartition(" ")
        if fault.kind == "die at point":
            await self._die_at_point(fault)
        elif fault.kind == "overtake work":
            await self._overtake(fault)
        elif fault.kind == "end work without Kafka":
            await self._end_without_kafka(fault)
        elif what == "one more":
            member = await self.world.start(whom)
            await asyncio.sleep(fault.seconds)
            await self.end(member)
        elif fault.kind == "refuse results":
            # A partition that moves meanwhile leaves behind what could not be committed.
            self._cut()
            began = time.monotonic()
            await refuse_results(self.world.beside.kafka, refuses=True)
            await asyncio.sleep(fault.seconds)
            await refuse_results(self.world.beside.kafka, refuses=False)
            self._note_away(began)
            self._cut()
        elif whom in ("work", "route", _COUNTING):
            await self._hit(what, self.world.living(whom)[0], fault)
        else:
            began = time.monotonic()
            if whom == "broker":
                await self._broker(what, fault.seconds)
            else:
                await self._network(fault)
            self._note_away(began)
            if fault.seconds > _HARMLESS_SECONDS:
                self._cut()

    async def _hit(self, what: str, member: Member, fault: Fault) -> None:
        self._hit_at = time.monotonic() + fault.seconds
        if what == "freeze":
            await self._freeze(member, fault.seconds)
            member.send(signal.SIGCONT)
            return
        if what == "kill":
            member.send(signal.SIGKILL)
            self._died(member)
            await member.process.wait()
        else:
            await self.end(member)
        await asyncio.sleep(fault.seconds)
        await self.world.start(member.role)

    async def _die_at_point(self, fault: Fault) -> None:
        """Replace a member by one that dies at a point, and that one by another."""
        role = "route" if fault.point.partition(":")[0] in _ROUTE_POINTS else "work"
        await self.end(self.world.living(role)[0])
        doomed = await self.world.start(role, fault.point)
        try:
            async with asyncio.timeout(fault.seconds + 10):
                await doomed.process.wait()
            self._died(doomed)
        except TimeoutError:
            await self.end(doomed)
        await self.world.start(role)

    async def _overtake(self, fault: Fault) -> None:
        """Freeze a worker for so long that others do its work, end these, and let it go on.

        Nothing new comes meanwhile: what the others commit last is what it would have committed.
        """
        sleeper, *others = self.world.living("work")
        routes = self.world.living("route")
        await self._until_calling(sleeper)
        for route in routes:
            route.send(signal.SIGSTOP)
        await self._freeze(sleeper, fault.seconds)
        for other in others:
            await self.end(other)
        for member in (sleeper, *routes):
            member.send(signal.SIGCONT)
        sleeper.frozen = sleeper.frozen[0], time.monotonic()
        for _ in others:
            await self.world.start("work")

    async def _end_without_kafka(self, fault: Fault) -> None:
        """End a worker while Kafka is away for longer than its drain lasts."""
        member = self.world.living("work")[0]
        await self._until_calling(member)
        began = time.monotonic()
        self._cut()
        await self.world.stop_broker(signal.SIGKILL)
        code = await self.world.end(member, _END_WITHOUT_KAFKA_SECONDS)
        if code not in (0, 1, -15):
            self.problems.append(f"{member.log.name}: ended with {code} while Kafka was away")
        await asyncio.sleep(max(began + fault.seconds - time.monotonic(), 0))
        await self.world.start_broker()
        self._note_away(began)
        self._cut()
        await self.world.start("work")

    async def _broker(self, what: str, seconds: float) -> None:
        world, long = self.world, seconds > _HARMLESS_SECONDS
        assert world.broker is not None
        if long:
            self._cut()
        if what == "freeze":
            os.kill(world.broker.pid, signal.SIGSTOP)
            await asyncio.sleep(seconds)
            os.kill(world.broker.pid, signal.SIGCONT)
        else:
            await world.stop_broker(signal.SIGKILL if what == "kill" else signal.SIGTERM)
            await asyncio.sleep(seconds)
            await world.start_broker()

    async def _network(self, fault: Fault) -> None:
        proxy, long = self.world.proxy, fault.seconds > _HARMLESS_SECONDS
        if long:
            self._cut()
        if fault.kind == "cut network":
            await proxy.cut()
            await asyncio.sleep(fault.seconds)
            await proxy.restore()
        elif fault.kind == "slow network":
            proxy.slow(0.1, 400_000)
            await asyncio.sleep(fault.seconds)
            proxy.slow(0.0, float("inf"))
        else:
            proxy.pause(answers_only=fault.kind == "hold answers")
            await asyncio.sleep(fault.seconds)
            proxy.resume()

    async def end(self, member: Member) -> None:
        """End a process as an orchestrator does; it must end well, or die at its point."""
        began = time.monotonic()
        code = await self.world.end(member)
        if member.died_at_point:
            self._died(member, began)
        # -15: it was still starting, and had nothing to end in good order.
        elif code not in (0, -15):
            self.problems.append(f"{member.log.name}: ended with {code} after SIGTERM")

    async def _until_calling(self, worker: Member) -> None:
        """Wait until a worker holds a call, so that the fault hits something."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                while not self.world.is_calling(worker):  # noqa: ASYNC110  a file has no event
                    await asyncio.sleep(0.02)

    async def _freeze(self, member: Member, seconds: float) -> None:
        """Stop a process for so long; whoever asked for it lets it go on."""
        began = time.monotonic()
        member.send(signal.SIGSTOP)
        if member.role != _COUNTING:
            self._cut()
        await asyncio.sleep(seconds)
        member.frozen = began, time.monotonic()

    def _note_away(self, began: float) -> None:
        """Kafka was away from then until now.

        What was read meanwhile may still wait when it is away again.
        """
        since, ended = self._away
        since = since if began - ended < _RECOVERY_SECONDS else began
        self._away = since, time.monotonic()

    def _died(self, member: Member, since: float = float("inf")) -> None:
        """A process has died, not long after `since` at the earliest.

        Who only counts has cut off no call.
        """
        if member.role == _COUNTING:
            return
        began, ended = member.frozen
        since = min(since, began if time.monotonic() - ended < _RECOVERY_SECONDS else since)
        self._cut(since)

    def _cut(self, since: float = float("inf")) -> None:
        now = time.monotonic()
        began, ended = self._away
        since = min(since, began if now - ended < _RECOVERY_SECONDS else now)
        self.cuts.append(Cut(now + _ON_ITS_WAY_SECONDS, since - _UNCOMMITTED_SECONDS))
