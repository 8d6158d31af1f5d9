"""The lock of prompts: what was released, and what has changed since then.

One line per part: its kind, name, version and a digest of its content; also for the examples, by
which a release was tested. A prompt and its output format are a pair with one version. Prompt,
model and format should change one at a time, so that an effect can be traced to its cause.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from router.policy.table import Policy, digest_of
from router.policy.yaml_text import read_yaml
from router.prompts.files import DEFAULT, PromptContract
from schemas.base import Tier

__all__ = [
    "LOCK_FILE",
    "Part",
    "changes_since",
    "lock_text",
    "not_raised",
    "parts_of",
    "read_lock",
    "unpaired",
]

LOCK_FILE = "versions.lock"
_EXAMPLES = "{}/examples.yaml"
_HEAD = (
    "# What was released. Written by `tierline prompts lock`, read by `tierline policy check`.\n"
)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a release. Examples, formats and models have no version of their own: 0."""

    version: int
    digest: str


Parts = Mapping[tuple[str, str], Part]


def parts_of(
    contracts: Mapping[str, PromptContract], files: Mapping[str, str], policy: Policy
) -> Parts:
    parts: dict[tuple[str, str], Part] = {}
    for name, contract in contracts.items():
        # Its texts are for customers, not for models.
        content = contract.model_dump(mode="json", exclude={"version", "variants", "texts"})
        parts["prompt", name] = Part(contract.version, digest_of(content))
        for tier, version in contract.variants.items():
            path = f"{name}/{tier}"
            parts["variant", path] = Part(version, digest_of(files[f"{path}.j2"]))
        if (text := files.get(_EXAMPLES.format(name))) is not None:
            parts["examples", name] = Part(0, digest_of(text))
    for name, schema in policy.formats.items():
        parts["format", name] = Part(0, digest_of(schema))
    rows = {tier.value: row.models for tier, row in policy.tiers.items()}
    rows |= {f"tasks/{name}": row.models for name, row in policy.tasks.items() if row.models}
    for name, named in rows.items():
        models = [policy.models[model] for model in named]
        parts["models", name] = Part(0, digest_of([[m.provider, m.id] for m in models]))
    return parts


def lock_text(parts: Parts) -> str:
    lines = (f"{kind} {name} {part.version} {part.digest}" for (kind, name), part in parts.items())
    return _HEAD + "".join(f"{line}\n" for line in sorted(lines))


def read_lock(text: str) -> Parts:
    """The parts of a lock file. A line that cannot be read counts as none."""
    parts = {}
    for line in text.splitlines():
        match line.split():
            case [kind, name, version, digest] if version.isdecimal():
                parts[kind, name] = Part(int(version), digest)
            case _:
                continue
    return parts


def unpaired(contracts: Mapping[str, PromptContract], policy: Policy) -> Iterator[str]:
    """Prompts written for another format than their task has, as `file:line: what`."""
    for name, task in policy.tasks.items():
        contract = contracts.get(name)
        if contract is not None and contract.format != task.format:
            yield (
                f"{name}/contract.yaml:1: format: it was written for {contract.format}, "
                f"and the task's format is {task.format}"
            )


def changes_since(
    locked: Parts,
    now: Parts,
    contracts: Mapping[str, PromptContract],
    files: Mapping[str, str],
    policy: Policy,
) -> tuple[Sequence[str], Sequence[str]]:
    """Errors and warnings: versions that had to be raised, and what changed together."""
    changed = _changed(locked, now)
    errors = list(not_raised(locked, now, files))
    warnings = [
        f"prompt {name}: its examples have changed since the last lock"
        for (kind, name), part in locked.items()
        if kind == "examples" and now.get((kind, name)) != part
    ]
    for name in (*policy.tasks, "classify"):
        contract = contracts.get(name)
        row = policy.tasks.get(name)
        if contract is None or (row is None and policy.classify is None):
            continue
        pair = ("format", row.format if row else name)
        key = ("prompt", name)
        is_raised = key not in locked or contract.version > locked[key].version
        if pair in changed and not is_raised:
            line = _line(files, f"{name}/contract.yaml", "version")
            what = f"the format {pair[1]} has changed since version {contract.version}"
            errors.append(f"{line}: {what}; raise it: a prompt and its format are a pair")
        tiers = _tiers(policy, name)
        parts = {
            "prompt": {key, *(_variant(contract, name, tier) for tier in policy.tiers)},
            "format": {pair},
            "models": {("models", tier.value) for tier in tiers},
        }
        moved = [what for what, keys in parts.items() if keys & changed]
        if len(moved) > 1:
            warnings.append(
                f"task {name}: its {' and '.join(moved)} have changed together since the last "
                "lock; change one at a time"
            )
    return errors, warnings


def _changed(locked: Parts, now: Parts) -> set[tuple[str, str]]:
    return {key for key, part in now.items() if key in locked and part.digest != locked[key].digest}


def not_raised(locked: Parts, now: Parts, files: Mapping[str, str]) -> Iterator[str]:
    """Prompts that have changed since their version was released, as `file:line: what`."""
    changed = _changed(locked, now)
    for (kind, name), part in now.items():
        if kind not in ("prompt", "variant") or (kind, name) not in locked:
            continue
        folder, _, tier = name.partition("/")
        line = _line(
            files, f"{folder}/contract.yaml", *(("variants", tier) if tier else ("version",))
        )
        was = locked[kind, name].version
        if part.version < was:
            yield f"{line}: version {part.version} is lower than {was}, which was released"
        elif (kind, name) in changed and part.version == was:
            what = f"{tier}.j2" if tier else "the text"
            yield f"{line}: {what} has changed since version {was}; raise the version"


def _line(files: Mapping[str, str], path: str, *steps: str) -> str:
    _, lines, _ = read_yaml(files.get(path, ""))
    return f"{path}:{lines.get(steps, 1)}"


def _tiers(policy: Policy, name: str) -> Sequence[Tier]:
    row = policy.tasks.get(name)
    if row is not None:
        return (row.tier, *row.escalation)
    return (policy.classify.tier,) if policy.classify else ()


def _variant(contract: PromptContract, name: str, tier: Tier) -> tuple[str, str]:
    return "variant", f"{name if tier in contract.variants else DEFAULT}/{tier}"
