"""The policy and the prompts of this machine's files, together."""

from collections.abc import Sequence
from pathlib import Path

from consumers.files import read_text
from consumers.policy_file import deployed, policy_file
from consumers.settings import Settings
from router.errors import PromptError
from router.policy.lock import LOCK_FILE as POLICY_LOCK
from router.policy.lock import lock_text, unready
from router.policy.lock import read_lock as read_policy_lock
from router.policy.table import Policy
from router.policy.yaml_text import read_yaml
from router.prompts.lock import LOCK_FILE, changes_since, not_raised, parts_of, read_lock, unpaired
from router.prompts.rendering import Prompts
from router.releases.bundle import Bundle

__all__ = [
    "load_rules",
    "prompts_folder",
    "read_folder",
    "released_rules",
    "since_the_lock",
    "unready_rows",
]


def prompts_folder(settings: Settings) -> Path:
    """The prompts to use: as set, else here, else as shipped."""
    return settings.prompts or deployed("prompts")


def load_rules(settings: Settings) -> Bundle:
    """Read policy and prompts. Raises PolicyError, PromptError or OSError."""
    file = policy_file(settings)
    return Bundle.of_texts(read_text(file), read_folder(prompts_folder(settings)), str(file))


def released_rules(settings: Settings) -> Bundle:
    """The policy and prompts for processes that answer requests.

    Raises as `load_rules` does, and PromptError where a prompt differs from what was released under
    its version, which attempts carry.
    """
    rules, folder = load_rules(settings), prompts_folder(settings)
    files = read_folder(folder)
    now = parts_of(rules.prompts.contracts, files, rules.policy)
    errors = list(not_raised(read_lock(files.get(LOCK_FILE, "")), now, files))
    if errors:
        what = "nothing starts with prompts that differ from their lock: raise their versions"
        raise PromptError("\n".join((*(f"{folder}/{error}" for error in errors), what)))
    return rules


def since_the_lock(settings: Settings, policy: Policy) -> tuple[Sequence[str], Sequence[str]]:
    """Errors and warnings about the prompts in use, by a policy and by their lock."""
    folder = prompts_folder(settings)
    files = read_folder(folder)
    contracts = Prompts.load(files).contracts
    now, locked = parts_of(contracts, files, policy), read_lock(files.get(LOCK_FILE, ""))
    changed, warnings = changes_since(locked, now, contracts, files, policy)
    if LOCK_FILE not in files:
        why = "so nobody notices a prompt that has changed under its version"
        warnings = [f"{folder}/{LOCK_FILE} is missing, {why}; `tierline prompts lock` writes it"]
    return [f"{folder}/{error}" for error in (*unpaired(contracts, policy), *changed)], warnings


def unready_rows(
    file: Path, policy: Policy, settings: Settings, active: Policy | None = None
) -> list[str]:
    """What a policy's new tasks and models lack. Raises OSError.

    New is what the active release does not have; without one, what the lock beside the file lacks.
    """
    lock = file.with_name(POLICY_LOCK)
    if active is None and not lock.is_file():
        return []
    released = lock_text({}, active) if active else read_text(lock)
    prompts = {path.partition("/examples.")[0] for path in read_folder(prompts_folder(settings))}
    lines = read_yaml(read_text(file))[1]
    problems = unready(read_policy_lock(released), policy, prompts, lines)
    return [problem.at(str(file)) for problem in problems]


def read_folder(folder: Path) -> dict[str, str]:
    """The texts of a folder's files, by their path in it. Raises OSError."""
    return {
        path.relative_to(folder).as_posix(): read_text(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
