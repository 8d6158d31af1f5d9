"""Refusals: requests whose release this process does not have wait, and no model is called."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from consumers.policies import Policies
from consumers.runtime.shell import NotYetError
from consumers.stages.ports import Slot
from router.releases.bundle import Bundle
from router.route.requeue import release_in_words
from schemas.base import Tier
from schemas.escalation import Assignment, RouteTaken
from schemas.status import RefusedStatus

__all__ = ["Refusals", "awaited"]

_log = structlog.get_logger(__name__)
#: Seconds between two looks of a request; so much more for each thousand that wait.
_LOOK_SECONDS = 0.5
#: A release reaches every process within so long; a longer wait is worth a line in the log.
_USUAL = timedelta(seconds=5)


def awaited(
    policies: Policies, taken: RouteTaken, deadline: datetime, since: datetime, now: datetime
) -> Bundle | None:
    """The release of a route; None where nobody has it any more. Raises NotYetError."""
    if (bundle := policies.of(taken, now)) is not None:
        return bundle
    if now < policies.active.policy.bounded(deadline, since) and not policies.is_gone(taken, now):
        msg = f"release {release_in_words(taken)} is not here"
        raise NotYetError(msg)
    return None


@dataclass(slots=True)
class Refusals:
    """The requests of all tiers that a process keeps waiting."""

    policies: Policies
    clock: Callable[[], datetime]
    #: How often requests have looked: a stage whose requests wait is not stuck.
    looks: int = 0
    _waiting: Counter[tuple[Tier, str, str]] = field(default_factory=Counter)
    _logged: set[tuple[str, str]] = field(default_factory=set)

    async def release_of(self, assignment: Assignment, slot: Slot) -> Bundle | None:
        """The release that a request has, once it is here.

        None where it is to be routed again: nobody has its release any more. It is returned at the
        deadline, too, which route then sees. Other requests have its place meanwhile.
        """
        taken, now = assignment.routes[-1], self.clock()
        if (bundle := self.policies.of(taken, now)) is not None:
            return bundle
        policy, began = (taken.policy_version, taken.policy_digest or ""), now
        until = self.policies.active.policy.bounded(assignment.deadline, began)
        self._waiting[(taken.tier, *policy)] += 1
        try:
            while now < until and not self.policies.is_gone(taken, now):
                self.looks += 1
                await slot.wait(_LOOK_SECONDS * (1 + self._waiting.total() / 1000))
                now = self.clock()
                if (bundle := self.policies.of(taken, now)) is not None:
                    return bundle
                if now - began >= _USUAL:
                    self._log_once(policy, release_in_words(taken))
        finally:
            self._waiting[(taken.tier, *policy)] -= 1
        return None

    def waiting(self) -> Sequence[RefusedStatus]:
        """How many wait, by tier and release."""
        return [
            RefusedStatus(tier=tier, policy_version=version, policy_digest=digest, waiting=count)
            for (tier, version, digest), count in self._waiting.items()
            if count
        ]

    def words(self) -> Sequence[str]:
        """How many wait, and for what, in words."""
        mine = self.policies.active.label
        return [
            f"{group.waiting} in {group.tier} wait for release {group.policy_version} "
            f"({group.policy_digest}), this process applies {mine}"
            for group in self.waiting()
        ]

    def _log_once(self, policy: tuple[str, str], words: str) -> None:
        if policy in self._logged:
            return
        self._logged.add(policy)
        _log.error(
            "another release",
            routed_under=words,
            applied=self.policies.active.label,
            what="requests routed under it wait: publish it, or give all processes the same files. "
            "Once no process is expected to have it, they are routed anew.",
        )
