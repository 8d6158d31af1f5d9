"""The lock of a policy: what was released, which is the content of each version, and its rows.

Records carry the version for ever, so it must never stand for two contents. A task or a model that
no version had before needs reasons of its own: then it is new.
"""

from collections.abc import Collection, Iterator, Mapping

from router.errors import Problem
from router.policy.table import Policy
from router.policy.yaml_text import Path

__all__ = ["LOCK_FILE", "lock_text", "read_lock", "reused", "unready"]

LOCK_FILE = "versions.lock"
_HEAD = "# What was released. Written by `tierline policy lock`, read by `tierline policy check`.\n"

#: By kind, the policy's name, and a version, a task or a model: the digest of the version, or the
#: version in which the row was first released.
Released = Mapping[tuple[str, str, str], str]


def read_lock(text: str) -> Released:
    """What a lock file holds. A line that cannot be read counts as none."""
    lines = (line.split() for line in text.splitlines())
    kinds = ("policy", "task", "model")
    return {
        (line[0], line[1], line[2]): line[3]
        for line in lines
        if len(line) == 4 and line[0] in kinds
    }


def lock_text(locked: Released, policy: Policy) -> str:
    """The lock file with one more policy."""
    first = {("task", policy.name, name): policy.version for name in policy.tasks}
    first |= {("model", policy.name, name): policy.version for name in policy.models}
    now = {**first, **locked, ("policy", policy.name, policy.version): policy.digest}
    return _HEAD + "".join(f"{' '.join(key)} {held}\n" for key, held in sorted(now.items()))


def reused(locked: Released, policy: Policy, line: int) -> Problem | None:
    """The problem where a policy's version was released with other content; else None.

    `line` is where the policy's file gives its version.
    """
    was = locked.get(("policy", policy.name, policy.version), policy.digest)
    if was == policy.digest:
        return None
    words = (
        f"{policy.version} was released with other content ({was}, and this is {policy.digest}); "
        "raise the version, or take the change back"
    )
    return Problem(line, "version", words)


def unready(
    locked: Released, policy: Policy, prompts: Collection[str], lines: Mapping[Path, int]
) -> Iterator[Problem]:
    """What tasks and models lack that no released version has: rows that were never thought out.

    `prompts` are the tasks with a versioned prompt and examples; `lines` are those of the policy's
    file. Where nothing was released yet, nothing counts as new.
    """
    known = {(kind, row) for kind, name, row in locked if name == policy.name and kind != "policy"}
    new = [("tasks", name) for name in policy.tasks if known and ("task", name) not in known]
    new += [("models", name) for name in policy.models if known and ("model", name) not in known]
    for path in new:
        for field, words in _lacking(policy, *path, prompts):
            at = lines.get((*path, field)) or lines.get(path, 1)
            yield Problem(at, ".".join((*path, field)), f"{path[1]} is new: {words}")


def _lacking(
    policy: Policy, kind: str, name: str, prompts: Collection[str]
) -> Iterator[tuple[str, str]]:
    """The fields that a new row lacks, with what to write."""
    row = policy.tasks[name] if kind == "tasks" else policy.models[name]
    if not any(sign.isdecimal() for sign in row.problem or ""):
        example = "answers take 2 s and should take less than 500 ms"
        yield "problem", f"write its problem in one sentence with a target, such as `{example}`"
    if kind == "models":
        return
    if "failure_limit" not in row.model_fields_set:
        yield "failure_limit", "write how many failed attempts are enough, such as 3"
    if not row.model_fields_set & {"checks", "verify", "agreement"}:
        words = "write the one or two checks that would catch a wrong answer"
        yield "checks", f"{words} (`tierline policy checks`)"
    if name not in prompts:
        folder = f"{name}/contract.yaml and {name}/examples.yaml"
        yield "format", f"write its prompt and examples: {folder} among the prompts"
