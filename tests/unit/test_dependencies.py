"""Dependencies are few, each has its reason, and everything that is installed is pinned by hash."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
_LOCKS = (
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-uv.lock",
    "tests/bench/litellm.lock",
    "tests/bench/quix.lock",
    "tests/telemetry/phoenix.lock",
)


def _names(wanted: list[str]) -> list[str]:
    return [re.split(r"[\[<>=;, ]", one)[0].lower() for one in wanted]


def test_there_are_at_most_fifteen_direct_ones():
    assert len(_PROJECT["dependencies"]) <= 15


def test_each_has_its_reason():
    reasons = (_ROOT / "docs/adr/0005-dependencies.md").read_text("utf-8")
    extras = [one for wanted in _PROJECT["optional-dependencies"].values() for one in wanted]

    assert [one for one in _names(_PROJECT["dependencies"] + extras) if one not in reasons] == []


@pytest.mark.parametrize("lock", _LOCKS)
def test_every_package_of_a_lock_has_hashes(lock):
    text = (_ROOT / lock).read_text("utf-8").replace("\\\n", " ")
    packages = [line for line in text.splitlines() if line.strip() and line[0] not in "# "]

    assert packages
    assert [one for one in packages if "==" not in one or "--hash=sha256:" not in one] == []


@pytest.mark.parametrize("lock", _LOCKS[:2])
def test_a_lock_holds_every_direct_dependency(lock):
    packages = (_ROOT / lock).read_text("utf-8")
    extras = [one for wanted in _PROJECT["optional-dependencies"].values() for one in wanted]
    names = _names(_PROJECT["dependencies"] + extras)

    assert [one for one in names if not re.search(rf"(?m)^{one}==", packages)] == []


def test_the_console_is_imported_without_a_warning():
    command = [sys.executable, "-W", "error", "-c", "import consumers.console.app"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_installed_without_hashes():
    """What is ours is installed from where it lies, without dependencies."""
    listed = subprocess.run(
        ["git", "ls-files", "Makefile", ".ci", "*.py", "*.yml", "*.yaml", "*.sh", "*ockerfile*"],
        cwd=_ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    found = [
        f"{path}: {line.strip()}"
        for path in listed
        if path != "tests/unit/test_dependencies.py"
        for line in (_ROOT / path).read_text("utf-8").splitlines()
        if "pip" in line and re.search(r"pip\S*\s+(-q\s+)?install\b|\"pip\".*\"install\"", line)
        if not re.search(r"--require-hashes|--no-deps|pip install '?tierline", line)
    ]

    assert found == []
