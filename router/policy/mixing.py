"""Processes with different policies: which requests wait, and when they are routed again.

A worker applies only its own policy. A request that was routed under another one waits for a worker
of that policy while any router applies it. After that no such worker is expected, and the route is
taken back.
"""

from datetime import datetime, timedelta

from router.policy.table import Policy
from schemas.escalation import Assignment, Escalation, RouteTaken
from schemas.reasons import Reason
from schemas.status import Status

__all__ = ["Routers", "handed_back", "is_under"]

#: A router without a status for this long counts as gone.
_SILENT = timedelta(seconds=30)


def is_under(route: RouteTaken, policy: Policy) -> bool:
    """True when a route was made under this very policy."""
    if route.policy_digest is None:
        return route.policy_version == policy.version
    return route.policy_digest == policy.digest


class Routers:
    """The policies that the route stages apply, by the statuses of their processes."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[datetime, str | None]] = {}
        #: When a router last announced its end, by its policy.
        self._ended: dict[str | None, datetime] = {}

    def heard(self, status: Status, now: datetime) -> None:
        """Note a process's status. `now` is by our own clock: theirs may differ."""
        if any(stage.stage == "route" for stage in status.stages):
            self._heard[status.process] = now, status.policy_digest
        self._heard = {who: last for who, last in self._heard.items() if now - last[0] < _SILENT}

    def ended(self, process: str, now: datetime) -> None:
        """Note that a process has ended: it routes nothing more."""
        if process in self._heard:
            _, digest = self._heard.pop(process)
            self._ended[digest] = now

    def apply(self, digest: str | None, now: datetime) -> bool:
        """True when any router is known to apply the policy."""
        return any(applied == digest and now - at < _SILENT for at, applied in self._heard.values())

    def have_replaced(self, route: RouteTaken, policy: Policy, now: datetime) -> bool:
        """True once routers apply `policy`, and none the one under which a route was made.

        A router that made a route within the last 30 s counts as running unless it has ended since:
        it may not have sent its first status, and would be given the same request again and again.
        """
        of, digest = route.routed_at, route.policy_digest
        is_gone = now - of >= _SILENT or of <= self._ended.get(digest, of - _SILENT)
        return is_gone and not self.apply(digest, now) and self.apply(policy.digest, now)


def handed_back(assignment: Assignment) -> Escalation:
    """The escalation that takes an assignment's last route back, and keeps all before it."""
    taken, before = assignment.route, assignment.routes[:-1]
    fields = {name: getattr(assignment, name) for name in type(assignment).model_fields}
    # The task is found again with the new route, unless an answer was tried for it.
    has_task = bool(before) and before[-1].step == "answer"
    digest = f" ({taken.policy_digest})" if taken.policy_digest else ""
    return Escalation(
        **{
            **fields,
            "routes": before,
            "task": assignment.task if has_task else None,
            "reason": taken.code or Reason.POLICY_REPLACED,
            "detail": "",
            "tier": taken.tier if taken.rule == "review" else None,
            "replaced_policy": f"{taken.policy_version}{digest}",
        }
    )
