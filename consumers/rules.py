"""The policy and the prompts in use: where they are, and their content."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from consumers.files import read_text
from consumers.settings import Settings
from router.attempt.fallback import missing_texts
from router.errors import PromptError
from router.policy.load import load_policy
from router.policy.lock import LOCK_FILE as VERSIONS_FILE
from router.policy.lock import read_lock as read_versions
from router.policy.lock import reused
from router.policy.table import Policy
from router.policy.yaml_text import read_yaml
from router.prompts.lock import LOCK_FILE, changes_since, not_raised, parts_of, read_lock, unpaired
from router.prompts.rendering import Prompts

__all__ = [
    "Rules",
    "load_rules",
    "policy_file",
    "prompts_folder",
    "read_folder",
    "released_rules",
    "reused_version",
    "since_the_lock",
]

_CHECKOUT = Path(__file__).resolve().parent.parent / "deploy"
_SHIPPED = Path(__file__).resolve().parent / "_deploy"


@dataclass(frozen=True, slots=True)
class Rules:
    """The policy and the prompts."""

    policy: Policy
    prompts: Prompts


def policy_file(settings: Settings) -> Path:
    """The policy to use: as set, else here, else as shipped."""
    return settings.policy or _first(Path("deploy/policy"), "policy") / "routing.yaml"


def prompts_folder(settings: Settings) -> Path:
    """The prompts to use: as set, else here, else as shipped."""
    return settings.prompts or _first(Path("deploy/prompts"), "prompts")


def load_rules(settings: Settings) -> Rules:
    """Read policy and prompts. Raises PolicyError, PromptError or OSError."""
    file, folder = policy_file(settings), prompts_folder(settings)
    policy = load_policy(read_text(file), str(file))
    prompts = Prompts.load(read_folder(folder))
    if missing := missing_texts(policy, prompts):
        raise PromptError("\n".join(missing))
    return Rules(policy, prompts)


def released_rules(settings: Settings) -> Rules:
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


def reused_version(file: Path, policy: Policy) -> str | None:
    """The problem of a policy's version by the lock beside its file, if any. Raises OSError."""
    lock = file.with_name(VERSIONS_FILE)
    if not lock.is_file():
        return None
    problem = reused(
        read_versions(read_text(lock)), policy, read_yaml(read_text(file))[1].get(("version",), 1)
    )
    return None if problem is None else problem.at(str(file))


def since_the_lock(settings: Settings, policy: Policy) -> tuple[Sequence[str], Sequence[str]]:
    """Errors and warnings about the prompts in use, by a policy and by their lock."""
    folder = prompts_folder(settings)
    files = read_folder(folder)
    contracts = Prompts.load(files).contracts
    errors: list[str] = [*unpaired(contracts, policy)]
    warnings: Sequence[str] = ()
    if LOCK_FILE in files:
        now, locked = parts_of(contracts, files, policy), read_lock(files[LOCK_FILE])
        changed, warnings = changes_since(locked, now, contracts, files, policy)
        errors += changed
    return [f"{folder}/{error}" for error in errors], warnings


def read_folder(folder: Path) -> dict[str, str]:
    """The texts of a folder's files, by their path in it. Raises OSError."""
    return {
        path.relative_to(folder).as_posix(): read_text(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _first(here: Path, name: str) -> Path:
    return next((path for path in (here, _CHECKOUT / name) if path.is_dir()), _SHIPPED / name)
