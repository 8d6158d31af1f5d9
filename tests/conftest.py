"""Safety rails for every test: no real provider, no leftovers from the developer's shell."""

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from consumers.runtime import loopback

settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")

#: A broker that the developer names may be anywhere; its tests are theirs to look after.
_IS_BROKER_ELSEWHERE = bool(os.environ.get("TIERLINE_TEST_BROKER"))

os.environ[loopback.VARIABLE] = "1"  # for the processes that tests start
loopback.stay_on_loopback()
loopback.guarding.clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first: beside others they take no time of their own."""
    items.sort(key=lambda item: item.path.parent.name != "nemesis")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tierline runs on asyncio, and one loop serves the fixtures of a whole session."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_leftovers(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Settings and keys of the shell stay out, those that choose the test broker come in."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))
    for name in list(os.environ):
        ours = name.startswith("TIERLINE_") and not name.startswith("TIERLINE_TEST_")
        if ours or name.endswith(("_API_KEY", "_API_TOKEN")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command sets up the logs of a process that it has to itself, and this one goes on."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _loopback_only(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A test talks to this machine alone, and so do its processes; what a session shares is fetched
    before."""
    is_elsewhere = _IS_BROKER_ELSEWHERE and request.node.get_closest_marker("kafka") is not None
    if is_elsewhere:
        monkeypatch.delenv(loopback.VARIABLE)
    else:
        loopback.guarding.set()
    yield
    loopback.guarding.clear()
