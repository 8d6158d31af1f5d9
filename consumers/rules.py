"""The policy and the prompts in use: where they lie, and what they say."""

from dataclasses import dataclass
from pathlib import Path

from consumers.files import read_text
from consumers.settings import Settings
from router.errors import PromptError
from router.policy.load import load_policy
from router.policy.table import Policy
from router.prompts import Prompts
from router.voice import unspoken

__all__ = ["Rules", "load_rules", "policy_file", "prompts_folder", "read_folder"]

_CHECKOUT = Path(__file__).resolve().parent.parent / "deploy"
_SHIPPED = Path(__file__).resolve().parent / "_deploy"


@dataclass(frozen=True, slots=True)
class Rules:
    """What people wrote: the policy and the prompts."""

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
    if missing := unspoken(policy, prompts):
        raise PromptError("\n".join(missing))
    return Rules(policy, prompts)


def read_folder(folder: Path) -> dict[str, str]:
    """The texts of a folder's files, by their path in it. Raises OSError."""
    return {
        path.relative_to(folder).as_posix(): read_text(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _first(here: Path, name: str) -> Path:
    return next((path for path in (here, _CHECKOUT / name) if path.is_dir()), _SHIPPED / name)
