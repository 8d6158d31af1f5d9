"""What stands in a log line when something of ours breaks: where, and never what was sent."""

import json

import pytest
import structlog

from consumers.cli.logs import configure_logs


@pytest.fixture(autouse=True)
def as_before():
    yield
    structlog.reset_defaults()


def test_an_exception_is_told_by_its_type_and_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(is_debug=False)
    log = structlog.get_logger("test")
    try:
        int("sk-canary")  # its message quotes what it was given
    except ValueError:
        log.exception("work failed", partition=3)

    line = capsys.readouterr().err
    assert "sk-canary" not in line
    told = json.loads(line)
    assert (told["event"], told["exception"], told["partition"]) == ("work failed", "ValueError", 3)
    assert "test_log_lines.py" in told["at"][-1]
