"""What tests of commands share."""

import gc
import sys
from collections.abc import Callable, Iterator

import pytest

from consumers.cli.main import main


@pytest.fixture
def tierline(monkeypatch, capsys, tmp_path) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs a command as a shell would: exit code, standard output, standard error."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tierline", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    thresholds = gc.get_threshold()
    yield run
    # A command sets up the collector of a process that it has to itself.
    gc.set_threshold(*thresholds)
    gc.unfreeze()
