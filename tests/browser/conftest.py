"""Chromium without a window, and a console in a process of its own for it."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer
from playwright.sync_api import Browser, Page, sync_playwright

from schemas.codec import Headers
from schemas.topics import Topics
from tests.kafka.conftest import broker
from tests.kafka.flow import read_topics

__all__ = ["SHOTS", "Served", "broker", "console_of", "env_of", "flow_of", "topics_of"]

#: Pictures of what was seen, for people.
SHOTS = Path(__file__).parents[2] / "build" / "screenshots"

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
#: No sandbox, for containers have none to give; nothing is looked up anywhere else.
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_LIMIT_SECONDS = 60.0

_TIERLINE = str(Path(sys.executable).with_name("tierline"))


@dataclass(frozen=True, slots=True)
class Served:
    """A flow and a console over it, each in a process of its own."""

    url: str
    bootstrap: str
    topics: Topics

    def publish(self, topic: str, *records: tuple[bytes, bytes, Headers]) -> None:
        """Send records (key, value, headers) through a client that is not ours."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "log_level": 2})
        for key, value, headers in records:
            producer.produce(topic, value, key, partition=0, headers=list(headers))
        producer.flush(_LIMIT_SECONDS)

    def disputes(self, *names: str) -> list[str]:
        """Requests whose answers wait for approval; their cases' places, in order."""
        for name in names:
            body = {
                "id": name,
                "task": "billing_dispute",
                "input": f"You charged me twice for order {name}, I want a refund of 30.00",
            }
            self.publish(self.topics.intake, (name.encode(), orjson.dumps(body), ()))
        return [self.place_of(name) for name in names]

    def place_of(self, name: str) -> str:
        """The place of a request's dead letter, once it is there."""
        give_up = time.monotonic() + _LIMIT_SECONDS
        while time.monotonic() < give_up:
            for seen in read_topics(self.bootstrap, [self.topics.dead_letters]):
                if seen.header("tierline-request-id") == name:
                    return f"{seen.topic}-{seen.partition}-{seen.offset}"
        msg = f"no dead letter of {name}"
        raise TimeoutError(msg)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A browser; without one a line says so, and under CI that is a failure."""
    found = next((path for name in _CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        words = "no Chromium is on the path (Debian: apt install chromium)"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The flow and the console, running."""
    prefix = "browser."
    env = env_of(broker, tmp_path_factory.mktemp("home"), prefix)
    with topics_of(env), flow_of(env), console_of(env) as url:
        yield Served(url, broker, Topics(prefix))


def env_of(broker: str, home: Path, prefix: str) -> Mapping[str, str]:
    """The environment of commands with topics and files of their own."""
    # What only the tests read is no setting of a command's.
    inherited = {name: os.environ[name] for name in os.environ if name != "TIERLINE_SCREENSHOTS"}
    return {
        **inherited,
        "HOME": str(home),
        "XDG_DATA_HOME": str(home),
        "TIERLINE_KAFKA__BOOTSTRAP": broker,
        "TIERLINE_KAFKA__PREFIX": prefix,
    }


def topics_of(env: Mapping[str, str]) -> contextlib.AbstractContextManager[str]:
    return _process(env, "topics", "create", said="all topics exist")


def flow_of(env: Mapping[str, str]) -> contextlib.AbstractContextManager[str]:
    return _process(env, "up", "--simulate", "--no-console", said="Ctrl-C")


@contextlib.contextmanager
def console_of(env: Mapping[str, str], port: int = 0) -> Iterator[str]:
    """A console; its address."""
    with _process(env, "console", "--port", str(port), said="at ") as line:
        url = line.rpartition(" ")[2].strip()
        _wait_for(int(url.rpartition(":")[2]))
        yield url


def _wait_for(port: int) -> None:
    """Until something listens: a console tells where it is before it does."""
    give_up = time.monotonic() + _LIMIT_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > give_up:
                raise
        else:
            return


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A new window, with nothing remembered."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


@contextlib.contextmanager
def _process(env: Mapping[str, str], *words: str, said: str) -> Iterator[str]:
    """A command, from when it has said something until it is told to end; the line it said."""
    with subprocess.Popen(
        [_TIERLINE, *words], env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if said in line)
        try:
            yield line
        finally:
            process.terminate()
            process.communicate(timeout=_LIMIT_SECONDS)
