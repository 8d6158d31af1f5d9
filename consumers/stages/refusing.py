"""Refusals: requests routed under another policy wait, and no model is called for them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from consumers.stages.attempts import Slot
from router.policy.mixing import Routers
from router.policy.table import Policy
from schemas.base import Tier
from schemas.escalation import Assignment
from schemas.status import RefusedStatus, Status

__all__ = ["Refusals"]

_log = structlog.get_logger(__name__)
#: Seconds between two looks of a request at the routers; so much more for each thousand that wait.
_LOOK_SECONDS = 1.0


@dataclass(slots=True)
class Refusals:
    """The requests of all tiers that a process keeps waiting."""

    policy: Policy
    clock: Callable[[], datetime]
    routers: Routers = field(default_factory=Routers)
    #: How often requests have looked: a stage whose requests wait is not stuck.
    looks: int = 0
    _waiting: Counter[tuple[Tier, str, str]] = field(default_factory=Counter)
    _logged: set[tuple[str, str]] = field(default_factory=set)

    def heard(self, status: Status) -> None:
        """Take the status of a process."""
        self.routers.heard(status, self.clock())

    def ended(self, process: str) -> None:
        """Note that a process has announced its end."""
        self.routers.ended(process, self.clock())

    async def wait(self, assignment: Assignment, slot: Slot) -> None:
        """Return when a request is to be routed again: no router applies its policy any more.

        It also returns at the deadline, which route then sees. Other requests have its place
        meanwhile.
        """
        taken = assignment.route
        policy = taken.policy_version, taken.policy_digest or ""
        self._log_once(policy)
        self._waiting[(taken.tier, *policy)] += 1
        try:
            while (now := self.clock()) < assignment.deadline:
                if self.routers.have_replaced(taken, self.policy, now):
                    return
                self.looks += 1
                await slot.wait(_LOOK_SECONDS * (1 + self._waiting.total() / 1000))
        finally:
            self._waiting[(taken.tier, *policy)] -= 1

    def waiting(self) -> Sequence[RefusedStatus]:
        """How many wait, by tier and policy."""
        return [
            RefusedStatus(tier=tier, policy_version=version, policy_digest=digest, waiting=count)
            for (tier, version, digest), count in self._waiting.items()
            if count
        ]

    def words(self) -> Sequence[str]:
        """How many wait, and for what, in words."""
        mine = f"{self.policy.version} ({self.policy.digest})"
        return [
            f"{group.waiting} in {group.tier} wait for a worker with policy {group.policy_version} "
            f"({group.policy_digest}), this one has {mine}"
            for group in self.waiting()
        ]

    def is_outdated(self) -> bool:
        """True when requests wait and no router applies our policy: this process is out of date."""
        return bool(self.waiting()) and not self.routers.apply(self.policy.digest, self.clock())

    def _log_once(self, policy: tuple[str, str]) -> None:
        if policy in self._logged:
            return
        self._logged.add(policy)
        _log.error(
            "another policy",
            routed_under=f"{policy[0]} ({policy[1]})",
            applied=f"{self.policy.version} ({self.policy.digest})",
            what="requests routed under it wait: give route and work the same policy file and "
            "start the older ones again. Once no router applies it, they are routed anew.",
        )
