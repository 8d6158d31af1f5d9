"""What stands after all acts: the active release, the candidate and its share, what is open."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from schemas.policy_log import PolicyAct
from schemas.request import Request

__all__ = [
    "NO_KEYS",
    "Candidate",
    "Keys",
    "KnownRelease",
    "Proposal",
    "Right",
    "SignedAct",
    "Standing",
    "arm_key",
    "holds",
    "release_for",
]

#: `own`: decide, and everything else. `propose`: propose. `guard`: stop a candidate, take it to the
#: next of its steps, roll back.
Right = Literal["own", "propose", "guard"]


@dataclass(frozen=True, slots=True)
class Keys:
    """Whose signatures count, and for what."""

    #: What each key may, by its id. Empty: nobody signs, and everybody may do everything.
    may: Mapping[str, frozenset[Right]] = field(default_factory=dict)
    #: When a key ended: what it signed before still counts.
    ended: Mapping[str, datetime] = field(default_factory=dict)
    #: Acts that were appended before count without a signature. None: no act does.
    signed_since: datetime | None = None
    #: Whether a signature is good: of this key, the signature, what it signs.
    is_good: Callable[[str, bytes, bytes], bool] = lambda _key, _signature, _signed: False


NO_KEYS = Keys()


class SignedAct(NamedTuple):
    """An act as it was written: the exact bytes and the signature over them."""

    act: PolicyAct
    raw: bytes = b""
    signature: bytes = b""

    @property
    def by(self) -> str:
        """Whose approval it is: the key's, or a person's where nobody signs."""
        return self.act.key_id or self.act.who


class KnownRelease(NamedTuple):
    """A release that was proposed."""

    digest: str
    version: str
    seal: str
    #: What it can use that asks for a second approval when it is new.
    reach: frozenset[str]


class Proposal(NamedTuple):
    """A proposal that waits for a decision."""

    act: PolicyAct
    release: KnownRelease
    #: Who has approved it: the ids of keys, or names where nobody signs.
    approved_by: frozenset[str] = frozenset()


class Candidate(NamedTuple):
    """A release that a share of the requests is given."""

    release: KnownRelease
    share: float
    #: The shares to come.
    steps: tuple[float, ...]
    #: What started it, and when its share was last set.
    act: PolicyAct
    since: datetime

    def takes(self, task: str | None, plan: str) -> bool:
        """True for requests that it can be given."""
        tasks, plans = self.act.tasks, self.act.plans
        return (not tasks or task in tasks) and (not plans or plan in plans)


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands after all acts so far."""

    #: The number of the last act that was not refused.
    last: int = 0
    #: When that was appended.
    at: datetime | None = None
    #: The releases that were active, the present one last; rolling back shortens it.
    history: tuple[KnownRelease, ...] = ()
    #: Every release that was ever proposed, by its digest.
    releases: Mapping[str, KnownRelease] = field(default_factory=dict)
    candidate: Candidate | None = None
    #: Open proposals by the numbers of their acts.
    proposals: Mapping[int, Proposal] = field(default_factory=dict)
    #: Freezes by the numbers of their acts, each with its `since` and `until`.
    freezes: Mapping[int, PolicyAct] = field(default_factory=dict)
    #: Trials without a decision, by the numbers of the acts that say until when, and how it was.
    trials: Mapping[int, tuple[PolicyAct, KnownRelease]] = field(default_factory=dict)
    #: When the policy was last reviewed; until then, when its first act was appended.
    reviewed_at: datetime | None = None

    @property
    def active(self) -> KnownRelease | None:
        """The release of all requests that the candidate is not given."""
        return self.history[-1] if self.history else None

    @property
    def previous(self) -> KnownRelease | None:
        """What a rollback returns to."""
        return self.history[-2] if len(self.history) > 1 else None

    def frozen_by(self, now: datetime) -> PolicyAct | None:
        """The freeze that holds now."""
        return next((act for act in self.freezes.values() if holds(act, now)), None)


def holds(freeze: PolicyAct, now: datetime) -> bool:
    """True within the window of a freeze."""
    return (freeze.since or freeze.at) <= now and freeze.until is not None and now < freeze.until


def arm_key(request: Request, request_id: str) -> str:
    """What an arm is drawn by: the conversation within its tenant, so that nobody bounces."""
    return f"{request.tenant}\0{request.conversation_id or request_id}"


def release_for(standing: Standing, key: str, task: str | None, plan: str) -> str | None:
    """The digest of the release that decides a request. None: nothing was ever published."""
    candidate = standing.candidate
    if candidate is not None and candidate.takes(task, plan):
        drawn = hashlib.blake2b(f"{candidate.act.salt}\0{key}".encode(), digest_size=6).digest()
        if int.from_bytes(drawn) / 2**48 < candidate.share:
            return candidate.release.digest
    return None if standing.active is None else standing.active.digest
