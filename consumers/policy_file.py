"""The policy in use: where its file is, and its content."""

from pathlib import Path

from consumers.files import read_text
from consumers.settings import Settings
from router.policy.load import load_policy
from router.policy.lock import LOCK_FILE, read_lock, reused
from router.policy.table import Policy
from router.policy.yaml_text import read_yaml

__all__ = ["deployed", "policy_file", "read_policy", "reused_version", "shipped"]

_CHECKOUT = Path(__file__).resolve().parent.parent / "deploy"
_SHIPPED = Path(__file__).resolve().parent / "_deploy"


def policy_file(settings: Settings) -> Path:
    """The policy to use: as set, else here, else as shipped."""
    return settings.policy or deployed("policy") / "routing.yaml"


def read_policy(settings: Settings) -> Policy:
    """Read the policy. Raises PolicyError or OSError."""
    file = policy_file(settings)
    return load_policy(read_text(file), str(file))


def reused_version(file: Path, policy: Policy) -> str | None:
    """The problem of a policy's version by the lock beside its file, if any. Raises OSError."""
    lock = file.with_name(LOCK_FILE)
    if not lock.is_file():
        return None
    problem = reused(
        read_lock(read_text(lock)), policy, read_yaml(read_text(file))[1].get(("version",), 1)
    )
    return None if problem is None else problem.at(str(file))


def deployed(name: str) -> Path:
    """A folder of `deploy`: the one here, else ours."""
    here = Path("deploy") / name
    return here if here.is_dir() else shipped(name)


def shipped(name: str) -> Path:
    """A folder of our own `deploy`: that of a checkout, else the one in the wheel."""
    checkout = _CHECKOUT / name
    return checkout if checkout.is_dir() else _SHIPPED / name
