"""Where the console beside stages listens, and when it is served at all."""

import socket
from typing import Any

import pytest
from pydantic import ValidationError

from consumers.cli.beside import LOOPBACK, console_socket, listening_on
from consumers.cli.common import UserError
from consumers.cli.terminal import console
from consumers.settings import ConsoleSettings, Settings


def served(settings: Settings | None = None, **asked: Any) -> bool:
    with console_socket(settings or Settings(), console(), **asked) as listening:
        if listening is not None:
            assert listening.getsockname()[0] == LOOPBACK
        return listening is not None


@pytest.mark.parametrize(
    ("asked", "is_served"),
    [
        pytest.param({}, True, id="where all stages run"),
        pytest.param({"is_whole": False}, False, id="not beside one of them"),
        pytest.param({"is_wanted": False}, False, id="not where an option says no"),
        pytest.param({"is_whole": False, "is_wanted": True}, True, id="where an option says so"),
        pytest.param({"is_whole": False, "port": 0}, True, id="where an option names its port"),
    ],
)
def test_options_decide_before_what_runs(asked: dict[str, Any], is_served: bool) -> None:
    assert served(**asked) is is_served


def test_the_settings_may_leave_it_out_and_an_option_bring_it_back() -> None:
    settings = Settings(console=ConsoleSettings(beside_stages=False))

    assert not served(settings)
    assert served(settings, is_wanted=True)


def test_a_port_of_a_console_that_is_not_served_is_a_mistake() -> None:
    with pytest.raises(UserError, match="give one or the other"):
        served(is_wanted=False, port=9000)


def test_without_a_port_the_next_one_that_is_free_is_taken() -> None:
    with (
        listening_on(LOOPBACK, None, "--port") as first,
        listening_on(LOOPBACK, None, "--port") as second,
    ):
        assert first.getsockname()[1] < second.getsockname()[1] < 8100


def test_a_named_port_that_is_in_use_is_said_plainly() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"127.0.0.1 port {port}: .* port with --console-port"):
            listening_on(LOOPBACK, port, "--console-port")


def test_a_port_that_cannot_be_is_refused_by_the_settings() -> None:
    with pytest.raises(ValidationError):
        ConsoleSettings(port=70_000)
