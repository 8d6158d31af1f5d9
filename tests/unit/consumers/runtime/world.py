"""A partition, its group and its owners without Kafka: what the runtime's rules are tried against.

The log has holes. A commit's answer may be late or lost, owners crash, freeze and thaw, and the
group gives the partition away while calls run. What an owner does here is what `Partition` and
`Stage` do with the same pure modules.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from consumers.runtime.offsets import Completion, OffsetTracker
from consumers.runtime.ownership import Doubt, after_doubt, may_adopt

__all__ = ["Owner", "World"]

Restore = Callable[[Completion], OffsetTracker]


@dataclass(slots=True, eq=False)
class Owner:
    """One process that has, or believes it has, the partition."""

    epoch: int
    tracker: OffsetTracker
    committed: Completion | None
    running: list[int] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    #: A commit whose answer has not come: what it takes with it, and as what.
    group: list[int] = field(default_factory=list)
    doubtful: Completion | None = None
    is_frozen: bool = False


@dataclass(slots=True)
class World:
    """The broker's truth, and everybody's belief."""

    log: list[int]
    restore: Restore = OffsetTracker.restore
    committed: Completion | None = None
    #: The state before the last commit: what a read without a fence may still see.
    stale: Completion | None = None
    epoch: int = 0
    #: Terminal records by offset.
    ends: Counter[int] = field(default_factory=Counter)
    #: The member that the group has given the partition to.
    member: Owner | None = None
    #: Owners that were not told yet, or slept through it.
    others: list[Owner] = field(default_factory=list)
    #: A commit that has not reached the broker yet; a fence ends it either way.
    under_way: tuple[int, Completion, list[int]] | None = None

    # ----- the broker

    def _fence(self, *, lands: bool) -> int:
        """End what is open, one way or the other, and shut former owners out."""
        self._land(lands=lands)
        self.epoch += 1
        return self.epoch

    def _land(self, *, lands: bool) -> None:
        if self.under_way is None:
            return
        epoch, completion, group = self.under_way
        self.under_way = None
        if lands and epoch == self.epoch:
            self._apply(completion, group)

    def _apply(self, completion: Completion, group: list[int]) -> None:
        self.stale = self.committed
        self.committed = Completion.decode(completion.watermark, completion.encode())
        self.ends.update(group)

    # ----- what happens

    def take(self, *, lands: bool) -> None:
        """The group gives the partition to a process that has nothing of it."""
        if self.member is not None:
            self.others.append(self.member)
        self.member = self._new_owner(lands=lands)

    def _new_owner(self, *, lands: bool) -> Owner:
        epoch = self._fence(lands=lands)
        return Owner(epoch, self.restore(self.committed or Completion(0)), self.committed)

    def give_back(self, which: int, *, is_stale: bool, lands: bool) -> None:
        """The group gives the partition back to a process that has held on to its calls."""
        awake = [owner for owner in self.others if not owner.is_frozen]
        if not awake:
            return
        owner = awake[which % len(awake)]
        if self.member is not None:
            self.others.append(self.member)
        self.others.remove(owner)
        found = self.stale if is_stale else self.committed
        if may_adopt(found, committed=owner.committed, committing=owner.doubtful):
            self.member = owner
        else:
            self.member = self._new_owner(lands=lands)

    def let_go(self, which: int) -> None:
        """A former owner learns that it lost the partition, and forgets it."""
        awake = [owner for owner in self.others if not owner.is_frozen]
        if awake:
            self.others.remove(awake[which % len(awake)])

    def crash(self) -> None:
        """The owner dies; the group has nobody until somebody takes the partition."""
        self.member = None

    def freeze(self) -> None:
        """The owner sleeps past its session: the group gives it up, and it does not know."""
        if self.member is not None:
            self.member.is_frozen = True
            self.others.append(self.member)
            self.member = None

    def thaw(self, which: int) -> None:
        """A sleeper wakes and goes on with what it had under way."""
        asleep = [owner for owner in self.others if owner.is_frozen]
        if asleep:
            asleep[which % len(asleep)].is_frozen = False

    def fetch(self, most: int) -> None:
        """The group's member reads on."""
        owner = self.member
        if owner is None or owner.doubtful is not None:
            return  # nothing new is started while a commit is in doubt
        for offset in [one for one in self.log if one >= owner.tracker.next_fetch][:most]:
            if owner.tracker.room > 0 and owner.tracker.receive(offset):
                if owner.epoch == self.epoch:
                    assert not self.ends[offset], f"{offset} was committed and runs again"
                owner.running.append(offset)

    def finish(self, who: int, which: int) -> None:
        """A call ends, in whatever order."""
        owner = self._somebody(who)
        if owner is not None and owner.running:
            owner.finished.append(owner.running.pop(which % len(owner.running)))

    def commit(self, who: int, *, arrives: bool, is_answered: bool) -> None:
        """An owner commits what is finished; the request or its answer may be late or lost."""
        owner = self._somebody(who)
        if owner is None or owner.doubtful is not None or not owner.finished:
            return
        owner.group, owner.finished = owner.finished, []
        owner.tracker.settle(owner.group)
        owner.doubtful = owner.tracker.completion()
        self._send(owner, arrives=arrives, is_answered=is_answered)

    def _send(self, owner: Owner, *, arrives: bool, is_answered: bool) -> None:
        assert owner.doubtful is not None
        if owner.epoch != self.epoch:
            return  # fenced: the commit fails as a whole, and the owner is in doubt
        if not arrives:
            self.under_way = (owner.epoch, owner.doubtful, owner.group)
            return
        self._apply(owner.doubtful, owner.group)
        if is_answered:
            self._settled(owner)

    def _settled(self, owner: Owner) -> None:
        owner.committed, owner.doubtful, owner.group = owner.doubtful, None, []

    def recover(self, *, lands: bool) -> None:
        """The member in doubt fences itself anew and looks; others first ask the group."""
        owner = self.member
        if owner is None or owner.doubtful is None:
            return
        owner.epoch = self._fence(lands=lands)
        doubt = after_doubt(self.committed, doubtful=owner.doubtful, before=owner.committed)
        if doubt is Doubt.COMMITTED:
            self._settled(owner)
        elif doubt is Doubt.NOT_COMMITTED:
            self._send(owner, arrives=True, is_answered=True)
        else:
            self.member = self._new_owner(lands=False)

    def _somebody(self, who: int) -> Owner | None:
        awake = [owner for owner in self.others if not owner.is_frozen]
        everybody = [*([self.member] if self.member else []), *awake]
        return everybody[who % len(everybody)] if everybody else None

    # ----- what must hold

    def check(self) -> None:
        """Committed is at most the lowest unfinished, each end is one, and none is made up."""
        committed = self.committed or Completion(0)
        for offset in self.log:
            assert self.ends[offset] <= 1, f"{offset} has {self.ends[offset]} ends"
            assert committed.is_finished(offset) == (self.ends[offset] == 1), f"{offset} is lost"

    def finish_all(self) -> None:
        """One last owner works off the rest: then every record has its one end."""
        self.take(lands=True)
        owner = self.member
        assert owner is not None
        while any(offset >= owner.tracker.next_fetch for offset in self.log) or owner.running:
            self.fetch(50)
            while owner.running:
                self.finish(0, 0)
            self.commit(0, arrives=True, is_answered=True)
        self.check()
        assert all(self.ends[offset] == 1 for offset in self.log)
