"""The status: what a process says of itself every few seconds, for those who watch all of them."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Contract, Identifier, Instant

__all__ = ["BreakerState", "LimitedBy", "ModelStatus", "StageStatus", "Status"]

#: Closed: anybody calls. Open: nobody. Half open: one call finds out.
BreakerState = Literal["closed", "open", "half_open"]
#: Why no more calls run at once: the most that is configured; no more was needed or tried yet; the
#: provider refused more; its replies became slower than their spread explains.
LimitedBy = Literal["most", "demand", "throttled", "slow"]

_Count = Annotated[int, Field(ge=0)]
_Amount = Annotated[float, Field(ge=0)]


class StageStatus(Contract):
    """One stage in one process."""

    stage: str
    #: Partitions held.
    partitions: _Count
    #: None: Kafka did not say where all of them end.
    lag: _Count | None = None
    #: None: nothing is unfinished.
    oldest_age_seconds: _Amount | None = None
    #: Offsets of its input that are done, since the process has begun: what lag counts, too.
    passed: _Count = 0
    #: Records worked on, those included that wait for their provider.
    in_flight: _Count
    #: Places for further records; 0: nothing is fetched now.
    free: _Count


class ModelStatus(Contract):
    """One model as one process knows it. Counts begin with the process."""

    model: str
    provider: str
    breaker: BreakerState
    #: Until it may be called again; 0: now.
    wait_seconds: _Amount = 0
    #: Calls under way.
    running: _Count = 0
    #: How many calls may run at once; it grows as it is made use of.
    most_running: _Count = 0
    #: Why no more may.
    limited_by: LimitedBy = "demand"
    calls: _Count = 0
    failures: _Count = 0
    throttled: _Count = 0
    #: Since the status before.
    calls_per_minute: _Amount = 0


class Status(Contract):
    """One process at one moment."""

    process: Identifier
    started_at: Instant
    at: Instant
    #: Why it does not do all of its work now; empty when it does.
    reasons: list[str] = Field(default_factory=list)
    stages: list[StageStatus] = Field(default_factory=list)
    models: list[ModelStatus] = Field(default_factory=list)
    #: The longest that the event loop was late in the last minute. None: not measured.
    loop_lag_ms: _Amount | None = None
