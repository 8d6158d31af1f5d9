"""What the command line says of itself, and that it says so at once."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from consumers.cli.group import Lazy
from consumers.cli.main import app

#: What no help and no command's start needs; each takes longer than the help itself.
_HEAVY = ("aiohttp", "aiokafka", "jinja2", "pydantic", "rich", "sqlalchemy", "structlog", "yaml")
_A_COLOUR = re.compile(rb"\x1b\[[0-9;]*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")


def tierline(*words: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "consumers.cli.main", *words],
        env={**os.environ, "COLUMNS": "80", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def on_a_terminal(*words: str, env: dict[str, str]) -> bytes:
    """All that a command writes to a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "consumers.cli.main", *words],
        env={**os.environ, "TERM": "xterm-256color", **env},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ):
        os.close(theirs)
        said = b""
        try:
            while more := os.read(ours, 1 << 16):
                said += more
        except OSError:  # the terminal is gone with the command
            pass
        os.close(ours)
    return said


def everything(command: Any, path: str = "tierline") -> Iterator[tuple[str, Any]]:
    """Every command, with its path."""
    yield path, command
    for name, one in getattr(command, "commands", {}).items():
        yield from everything(one.load() if isinstance(one, Lazy) else one, f"{path} {name}")


COMMANDS = list(everything(typer.main.get_command(app)))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[path for path, _ in COMMANDS])
def test_every_command_and_option_has_a_whole_sentence(path: str, command: Any) -> None:
    said = [(path, command.help)]
    said += [(f"{path} {one.opts[-1]}", one.help) for one in command.params]
    for what, sentence in said:
        assert sentence, what
        assert sentence[0].isupper(), f"{what}: {sentence}"
        assert sentence.rstrip()[-1] in ".…", f"{what}: {sentence}"
    for one in command.params:
        assert one.is_flag if hasattr(one, "is_flag") and not one.metavar else one.metavar, one.opts


def test_the_help_has_every_command_in_a_group_with_its_whole_sentence() -> None:
    said = " ".join(tierline("--help").split())
    for group in ("Run:", "Send and read:", "Understand:", "People:", "Operate:", "Policy"):
        assert group in said
    assert "Commands:" not in said
    for path, command in COMMANDS[1:]:
        if path.count(" ") == 1:
            assert " ".join(command.help.partition("\n\n")[0].split()) in said
    assert "..." not in said.partition("Options:")[2]


def test_the_help_loads_nothing_heavy() -> None:
    code = f"import sys, consumers.cli.main; print({set(_HEAVY)!r} & set(sys.modules))"
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_command_is_loaded_without_the_others() -> None:
    modules = {command.target.partition(":")[0] for command in _lazy_commands()}
    code = (
        "import sys\nfrom consumers.cli.main import main\nsys.argv = ['tierline', 'version']\n"
        f"try:\n    main()\nfinally:\n    print(sorted({modules!r} & set(sys.modules)))"
    )
    run = [sys.executable, "-c", code]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert len(modules) > 10
    assert said.splitlines()[-1] == "['consumers.cli.settings']"


def _lazy_commands() -> Iterator[Lazy]:
    root: Any = typer.main.get_command(app)
    return (command for command in root.commands.values() if isinstance(command, Lazy))


#: What no reading command loads: the providers' clients, and what leaves the process as telemetry.
_OF_SERVICES = {"aiohttp", "httpx", "opentelemetry.sdk"}
_STAGES, _PROMPTS, _POLICY = {"consumers.stages.work"}, {"jinja2"}, {"router.policy.table"}
_TABLES = {"sqlalchemy"}


@pytest.mark.parametrize(
    ("words", "unneeded"),
    [
        ("results", _STAGES | _PROMPTS | _POLICY | _TABLES),
        ("dead-letters list", _STAGES | _PROMPTS | _POLICY | _TABLES),
        ("explain r-1", _STAGES | _PROMPTS | _POLICY | _TABLES),
        ("sample", _STAGES | _PROMPTS | _POLICY),
        ("quality", _STAGES | _PROMPTS),
        ("policy show", _STAGES | _TABLES),
        ("version", _STAGES | _PROMPTS | _TABLES),
        ("topics list", _TABLES),
    ],
)
def test_what_reads_loads_only_what_it_needs(words: str, unneeded: set[str]) -> None:
    code = (
        "import sys\nfrom consumers.cli.main import main\n"
        f"sys.argv = ['tierline', *{words.split()!r}]\n"
        "try:\n    main()\nfinally:\n"
        f"    print(sorted({_OF_SERVICES | unneeded!r} & set(sys.modules)))"
    )
    env = {**os.environ, "TIERLINE_KAFKA__BOOTSTRAP": "127.0.0.1:1"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert run.stdout.endswith("[]\n"), run.stdout + run.stderr


@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        ("quality", "sqlalchemy", "console"),
        ("policy advise", "sqlalchemy", "console"),
        ("policy publish --why new --trial 14d", "sqlalchemy", "console"),
        ("prices check", "genai_prices", "prices"),
        ("policy keygen ann --file NEW", "cryptography", "signing"),
    ],
)
def test_a_command_whose_packages_are_not_installed_names_the_extra(
    words: str, package: str, extra: str, tmp_path: Path
) -> None:
    """Also where it loads them late."""
    given = words.replace("NEW", str(tmp_path / "ann.key")).split()
    code = (
        f"import sys\nsys.modules['{package}'] = None\n"
        f"from consumers.cli.main import main\nsys.argv = ['tierline', *{given!r}]\nmain()"
    )
    env = {**os.environ, "TIERLINE_KAFKA__BOOTSTRAP": "127.0.0.1:1"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    [line] = run.stderr.splitlines()
    assert line.endswith(f"{package} is missing: pip install 'tierline[{extra}]'")


def test_the_version_is_told() -> None:
    assert tierline("--version") == f"tierline {version('tierline')}\n"


@pytest.mark.parametrize(
    ("shell", "env"),
    [
        ("bash", {"COMP_WORDS": "tierline expl", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "tierline expl"}),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "tierline expl", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        ),
    ],
)
def test_shells_complete_commands(shell: str, env: dict[str, str]) -> None:
    code = "import sys; sys.argv[0] = 'tierline'; from consumers.cli.main import main; main()"
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "_TIERLINE_COMPLETE": f"complete_{shell}", **env},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert "explain" in said
    assert "trace" not in said


@pytest.mark.parametrize("words", [("policy", "show"), ("try", "Where is order 17?")])
def test_no_color_is_honoured_and_colours_are_there_without_it(words: tuple[str, ...]) -> None:
    plain = on_a_terminal(*words, env={"NO_COLOR": "1"})
    assert plain.strip()
    assert not _A_COLOUR.search(plain)
    assert _A_COLOUR.search(on_a_terminal(*words, env={}))


def test_logs_on_a_terminal_honour_no_color() -> None:
    code = (
        "import structlog\nfrom consumers.cli.logs import configure_logs\n"
        "configure_logs(is_debug=False)\nstructlog.get_logger().warning('told', n=1)"
    )
    for env, has_colour in (({"NO_COLOR": "1"}, False), ({}, True)):
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-c", code], env={**os.environ, **env}, stderr=theirs
        ):
            os.close(theirs)
            said = os.read(ours, 1 << 16)
            os.close(ours)
        assert b"told" in said
        assert bool(_A_COLOUR.search(said)) is has_colour
