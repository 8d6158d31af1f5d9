"""What pyproject.toml asks for is what the lock files pin."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    return {canonicalize_name(name): version for name, version in PINNED.findall(text)}


def asked_for() -> Iterator[tuple[str, str]]:
    """Each requirement with the lock that must satisfy it."""
    said = project()
    extras = said["project"]["optional-dependencies"].values()
    for requirement in [
        *said["project"]["dependencies"],
        *(one for extra in extras for one in extra),
    ]:
        yield "requirements.lock", requirement
        yield "requirements-dev.lock", requirement
    for requirement in said["build-system"]["requires"]:
        yield "requirements.lock", requirement
    for requirement in said["dependency-groups"]["dev"]:
        yield "requirements-dev.lock", requirement


@pytest.mark.parametrize(("lock", "asked"), list(asked_for()))
def test_the_lock_satisfies_what_is_asked_for(lock: str, asked: str) -> None:
    requirement = Requirement(asked)
    pinned = pins(lock).get(canonicalize_name(requirement.name))

    assert pinned is not None, "run `make lock`"
    assert requirement.specifier.contains(pinned, prereleases=True), "run `make lock`"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_pin_has_hashes_and_none_names_a_place(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")

    unhashed = [entry for entry in re.split(r"\n(?=\S)", text) if "--hash=sha256:" not in entry]
    assert unhashed == []
    assert "://" not in text


def test_both_locks_pin_the_same_versions() -> None:
    run, dev = pins("requirements.lock"), pins("requirements-dev.lock")

    assert {name: dev.get(name) for name in run} == run
