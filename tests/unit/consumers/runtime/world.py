"""A partition, its group and its owners without Kafka: what the runtime's rules are tried against.

The log has holes. A commit's answer may be late or lost, owners crash, freeze and thaw, and the
group gives the partition away while calls run. What an owner does here is what `Partition` and
`Stage` do with the same pure modules.

Every call costs money, and its line stands in the ledger once: in the transaction with its outcome,
or beside it when the owner learns that it has lost the partition.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from consumers.runtime.offsets import CommitId, Completion, OffsetTracker
from consumers.runtime.ownership import CommitOutcome, may_adopt, resolve_commit

__all__ = ["Owner", "World"]

Restore = Callable[[Completion], OffsetTracker]
#: An offset, and the number of the call that was paid for it.
Paid = tuple[int, int]


@dataclass(slots=True, eq=False)
class Owner:
    """One process that has, or believes it has, the partition."""

    epoch: int
    tracker: OffsetTracker
    committed: Completion | None
    nonce: int = 0
    running: list[int] = field(default_factory=list)
    finished: list[Paid] = field(default_factory=list)
    #: A commit whose answer has not come: what it takes with it, and as what.
    group: list[Paid] = field(default_factory=list)
    doubtful: Completion | None = None
    commits: int = 0
    is_frozen: bool = False


@dataclass(slots=True)
class World:
    """The broker's truth, and everybody's belief."""

    log: list[int]
    restore: Restore = OffsetTracker.restore
    #: False: commits are told apart by what they say alone.
    has_identities: bool = True
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
    under_way: tuple[int, Completion, list[Paid]] | None = None
    owners: int = 0
    #: How many calls were made, those of the dead, and how often each stands in the ledger.
    calls: int = 0
    died: set[int] = field(default_factory=set)
    ledger: Counter[int] = field(default_factory=Counter)

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

    def _apply(self, completion: Completion, group: list[Paid]) -> None:
        self.stale = self.committed
        self.committed = Completion.decode(completion.watermark, completion.encode())
        self.ends.update(offset for offset, _ in group)
        self.ledger.update(call for _, call in group)

    # ----- what happens

    def take(self, *, lands: bool) -> None:
        """The group gives the partition to a process that has nothing of it."""
        if self.member is not None:
            self.others.append(self.member)
        self.member = self._new_owner(lands=lands)

    def _new_owner(self, *, lands: bool) -> Owner:
        epoch, found = self._fence(lands=lands), self.committed
        self.owners += 1
        return Owner(epoch, self.restore(found or Completion(0)), found, self.owners)

    def _give_up(self, owner: Owner) -> None:
        """An owner has lost the partition, and knows: it books what no commit took with it."""
        if self.under_way is not None and self.under_way[2] is owner.group:
            self._land(lands=True)  # whoever looks into the ledger waits for its end
        self.ledger.update(call for _, call in owner.group if not self.ledger[call])
        self.ledger.update(call for _, call in owner.finished)

    def give_back(self, which: int, *, is_stale: bool, lands: bool) -> None:
        """The group gives the partition back to a process that has held on to its calls."""
        if not self._awake:
            return
        owner = self._awake[which % len(self._awake)]
        if self.member is not None:
            self.others.append(self.member)
        self.others.remove(owner)
        found = self.stale if is_stale else self.committed
        if may_adopt(found, committed=owner.committed, committing=owner.doubtful):
            self.member = owner
        else:
            self.member = self._new_owner(lands=lands)
            self._give_up(owner)

    def cancel_all(self, which: int) -> None:
        """A former owner learns that it lost the partition, and forgets it."""
        if self._awake:
            self.others.remove(owner := self._awake[which % len(self._awake)])
            self._give_up(owner)

    def crash(self) -> None:
        """The owner dies; the group has nobody until somebody takes the partition."""
        if self.member is not None:
            self.died.update(call for _, call in [*self.member.group, *self.member.finished])
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

    def overtake(self, *, is_in_doubt: bool) -> None:
        """The owner sleeps with replies in hand, another does the same work, and it comes back."""
        owner = self.member
        if owner is None or owner.doubtful is not None:
            return
        while owner.running:
            self.finish(0, 0)
        if is_in_doubt:
            self.commit(0, arrives=False, is_answered=False)
        self.freeze()
        self.take(lands=False)
        assert self.member is not None
        position = self.member.tracker.next_fetch
        self.fetch(sum(position <= one < owner.tracker.next_fetch for one in self.log))
        while self.member.running:
            self.finish(0, 0)
        self.commit(0, arrives=True, is_answered=True)
        owner.is_frozen = False
        which = self._awake.index(owner)
        if owner.doubtful is None:
            self.commit(1 + which, arrives=True, is_answered=True)
        self.give_back(which, is_stale=False, lands=True)
        self.recover(lands=True)

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
            self.calls += 1
            owner.finished.append((owner.running.pop(which % len(owner.running)), self.calls))

    def commit(self, who: int, *, arrives: bool, is_answered: bool) -> None:
        """An owner commits what is finished; the request or its answer may be late or lost."""
        owner = self._somebody(who)
        if owner is None or owner.doubtful is not None or not owner.finished:
            return
        owner.group, owner.finished = owner.finished, []
        owner.tracker.settle(offset for offset, _ in owner.group)
        owner.commits += 1
        identity = CommitId(owner.nonce, owner.commits) if self.has_identities else None
        owner.doubtful = owner.tracker.completion(identity)
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
        doubt = resolve_commit(self.committed, doubtful=owner.doubtful, before=owner.committed)
        if doubt is CommitOutcome.COMMITTED:
            self._settled(owner)
        elif doubt is CommitOutcome.NOT_COMMITTED:
            self._send(owner, arrives=True, is_answered=True)
        else:
            self.member = self._new_owner(lands=False)
            self._give_up(owner)

    @property
    def _awake(self) -> list[Owner]:
        return [owner for owner in self.others if not owner.is_frozen]

    def _somebody(self, who: int) -> Owner | None:
        everybody = [*([self.member] if self.member else []), *self._awake]
        return everybody[who % len(everybody)] if everybody else None

    # ----- what must hold

    def check(self) -> None:
        """Committed is at most the lowest unfinished, each end is one, and none is made up."""
        committed = self.committed or Completion(0)
        for offset in self.log:
            assert self.ends[offset] <= 1, f"{offset} has {self.ends[offset]} ends"
            assert committed.is_finished(offset) == (self.ends[offset] == 1), f"{offset} is lost"
        for call, count in self.ledger.items():
            assert count == 1, f"call {call} is booked {count} times"

    def finish_all(self) -> None:
        """One last owner works off the rest: then every record has its one end."""
        self.take(lands=True)
        owner = self.member
        assert owner is not None
        for other in self.others:  # sleepers wake, and all are told
            self._give_up(other)
        while any(offset >= owner.tracker.next_fetch for offset in self.log) or owner.running:
            self.fetch(50)
            while owner.running:
                self.finish(0, 0)
            self.commit(0, arrives=True, is_answered=True)
        self.check()
        assert all(self.ends[offset] == 1 for offset in self.log)
        for call in set(range(1, self.calls + 1)) - self.died:
            assert self.ledger[call] == 1, f"call {call} is not booked"
