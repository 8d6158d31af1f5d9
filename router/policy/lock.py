"""The lock of a policy: the content of each version that was released.

Records carry the version for ever, so it must never stand for two contents.
"""

from collections.abc import Mapping

from router.errors import Problem
from router.policy.table import Policy

__all__ = ["LOCK_FILE", "lock_text", "read_lock", "reused"]

LOCK_FILE = "versions.lock"
_HEAD = "# What was released. Written by `tierline policy lock`, read by `tierline policy check`.\n"

#: The digest of a version's content, by the policy's name and the version.
Versions = Mapping[tuple[str, str], str]


def read_lock(text: str) -> Versions:
    """What a lock file holds. A line that cannot be read counts as none."""
    lines = (line.split() for line in text.splitlines())
    return {(line[1], line[2]): line[3] for line in lines if len(line) == 4 and line[0] == "policy"}


def lock_text(locked: Versions, policy: Policy) -> str:
    """The lock file with one more policy."""
    now = {**locked, (policy.name, policy.version): policy.digest}
    return _HEAD + "".join(
        f"policy {name} {version} {digest}\n" for (name, version), digest in sorted(now.items())
    )


def reused(locked: Versions, policy: Policy, line: int) -> Problem | None:
    """The problem where a policy's version was released with other content; else None.

    `line` is where the policy's file gives its version.
    """
    was = locked.get((policy.name, policy.version), policy.digest)
    if was == policy.digest:
        return None
    words = (
        f"{policy.version} was released with other content ({was}, and this is {policy.digest}); "
        "raise the version, or take the change back"
    )
    return Problem(line, "version", words)
