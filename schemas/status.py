"""The status: how a process is, published every few seconds."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import (
    Contract,
    Count,
    Identifier,
    Instant,
    Many,
    Milliseconds,
    Name,
    Offset,
    Seconds,
    Tier,
)

__all__ = [
    "BreakerState",
    "LimitedBy",
    "ModelStatus",
    "RefusedStatus",
    "StageStatus",
    "Status",
    "TaskBreaker",
    "TopicStatus",
]

#: Closed: calls are made. Open: none. Half open: one call probes.
BreakerState = Literal["closed", "open", "half_open"]
#: Why no more calls run at once: the configured maximum; no more were needed or tried yet; the
#: provider refused more; its replies became slower than their spread explains.
LimitedBy = Literal["most", "demand", "throttled", "slow"]


class TopicStatus(Contract):
    """What one stage in one process has to do in one of the topics that it reads."""

    topic: Name
    #: Partitions held.
    partitions: Count
    #: None: Kafka did not say where all of them end.
    lag: Offset | None = None
    #: None: nothing is unfinished.
    oldest_age_seconds: Seconds | None = None


class StageStatus(Contract):
    """One stage in one process."""

    stage: Name
    #: Partitions held.
    partitions: Count
    #: None: Kafka did not say where all of them end.
    lag: Offset | None = None
    #: None: nothing is unfinished.
    oldest_age_seconds: Seconds | None = None
    #: Offsets of its input that were finished since the process began, counted as in `lag`.
    passed: Offset = 0
    #: Records being processed, including those that wait for a provider.
    in_flight: Count
    #: Places for further records; 0: nothing is fetched now.
    free: Count
    #: The same by topic. Empty: earlier software, or no partition is held.
    topics: Many[TopicStatus] = Field(default_factory=list)


class TaskBreaker(Contract):
    """How a model is for a task whose failures count for itself alone."""

    task: Name
    breaker: BreakerState
    #: Seconds until the task may call it again; 0: now.
    wait_seconds: Seconds = 0


class ModelStatus(Contract):
    """One model as one process sees it. Counts begin with the process."""

    model: Name
    provider: Name
    breaker: BreakerState
    #: Seconds until it may be called again; 0: now.
    wait_seconds: Seconds = 0
    #: Calls under way.
    running: Count = 0
    #: How many calls may run at once; it grows with use.
    most_running: Count = 0
    #: Why no more may run.
    limited_by: LimitedBy = "demand"
    calls: Count = 0
    failures: Count = 0
    throttled: Count = 0
    #: Since the last status.
    calls_per_minute: Annotated[float, Field(ge=0, le=1e12)] = 0
    #: How it is for each task with a breaker of its own; `breaker` is that of all others.
    apart: Many[TaskBreaker] = Field(default_factory=list)


class RefusedStatus(Contract):
    """Requests that wait in a tier because the process does not have their release."""

    tier: Tier
    policy_version: Name
    #: The digest of the release. Empty where earlier software routed them.
    policy_digest: Name = ""
    waiting: Count


class Status(Contract):
    """One process at one moment."""

    process: Identifier
    started_at: Instant
    at: Instant
    #: The release that it applies to new requests. None: earlier software.
    policy_version: Name | None = None
    policy_digest: Name | None = None
    #: The last act about releases that it has applied, and since when. None: it follows none.
    policy_act: Count | None = None
    policy_since: Instant | None = None
    #: Why it does not do all of its work now; empty when it does.
    reasons: Many[Name] = Field(default_factory=list)
    stages: Many[StageStatus] = Field(default_factory=list)
    models: Many[ModelStatus] = Field(default_factory=list)
    refused: Many[RefusedStatus] = Field(default_factory=list)
    #: The longest that the event loop was late in the last minute. None: not measured.
    loop_lag_ms: Milliseconds | None = None
