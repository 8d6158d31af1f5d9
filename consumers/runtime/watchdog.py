"""When a stage stands still although there is work. No I/O.

The client library can hang without a word: no error, no fetch, no commit. A process that does
nothing for longer than a call may take is better started anew, because what it held is in Kafka.
"""

from dataclasses import dataclass, replace
from datetime import timedelta

__all__ = ["Alive", "Glance", "Pulse", "Stuck", "Watch", "default_patience"]

_LEAST_PATIENCE = timedelta(seconds=60)
#: A stopped process (SIGSTOP) is not stuck: one look counts for no more than this share of the
#: patience, however long ago the last look was.
_LARGEST_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Glance:
    """What is seen of one stage at one moment."""

    #: Monotonic seconds.
    now: float
    #: Records of our partitions whose outcome is not committed, fetched or not.
    lag: int
    #: Records being processed.
    in_flight: int
    #: Grows with every record committed and with every call begun or ended.
    moved: int
    #: Kafka does not answer or takes no commits of a group member: that is waited out, however long
    #: it takes.
    is_kafka_away: bool = False


@dataclass(frozen=True, slots=True)
class Alive:
    """Something moves, or there is nothing to do."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """There is work and nothing has moved for too long."""

    reason: str


Pulse = Alive | Stuck


@dataclass(frozen=True, slots=True)
class Watch:
    """What is remembered of one stage between two looks at it."""

    seen_at: float
    moved: int
    #: Seconds without movement although there was work.
    still: float = 0.0

    @classmethod
    def begin(cls, glance: Glance) -> "Watch":
        """What the first look gives: nothing has stood still yet."""
        return cls(glance.now, glance.moved)

    def next(self, glance: Glance, patience: timedelta) -> "Watch":
        """What a further look gives. Movement, or a time without work, starts the count again."""
        seen = replace(self, seen_at=glance.now, moved=glance.moved)
        has_work = glance.lag > 0 or glance.in_flight > 0
        if glance.moved != self.moved or not has_work or glance.is_kafka_away:
            return replace(seen, still=0.0)
        most = patience.total_seconds() * _LARGEST_SHARE
        passed = max(glance.now - self.seen_at, 0.0)
        return replace(seen, still=self.still + min(passed, most))

    def pulse(self, glance: Glance, patience: timedelta) -> Pulse:
        """Judge the stage by what is remembered, this look included."""
        if self.still < patience.total_seconds():
            return Alive()
        return Stuck(
            f"nothing has moved for {self.still:.0f} s, with {glance.in_flight} in flight and a "
            f"lag of {glance.lag}"
        )


def default_patience(call_timeout: timedelta) -> timedelta:
    """How long a stage may stand still: longer than a call and the wait before it take."""
    return max(_LEAST_PATIENCE, call_timeout * 1.5)
