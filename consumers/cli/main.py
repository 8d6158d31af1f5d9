"""`tierline`: the entry point of the command line."""

import os
import re
import sys
from functools import partial
from importlib.metadata import requires
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from consumers.cli.group import Grouped, Lazy
from consumers.texts import plain, say
from schemas.errors import TierlineError

__all__ = ["app", "main"]

#: In the order of the help: a command's group and name, where it is, and the first sentence of its
#: docstring.
_COMMANDS = Path(__file__).with_name("commands.txt")
#: These run until they are stopped, and log; other commands print.
_SERVICES = ("up", "console", "simulate", "demo")


class _Tierline(Grouped):
    """The root group; each command is loaded when it is called."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        for line in _COMMANDS.read_text("utf-8").splitlines():
            group, name, target, sentence = line.split(" | ")
            self.add_command(Lazy(name, f"consumers.cli.{target}", group, sentence))


app = typer.Typer(
    cls=_Tierline,
    help="Tierline routes LLM work over Kafka to the cheapest model that can defend its answer.",
    epilog="`tierline --install-completion` sets up completion for bash, zsh and fish.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        say(f"tierline {installed('tierline')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, Option("--debug", help="Show tracebacks, and log everything.")] = False,
    version: Annotated[
        bool,
        Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Apply the options before the command."""
    from consumers.cli.logs import configure_logs  # noqa: PLC0415  no help needs it
    from consumers.failpoints import check_failpoint  # noqa: PLC0415  no help needs it
    from consumers.runtime.loopback import stay_on_loopback  # noqa: PLC0415  for tests

    del version
    if debug:
        os.environ["TIERLINE_DEBUG"] = "1"
    if "TIERLINE_TEST_LOOPBACK" in os.environ:
        stay_on_loopback()
    configure_logs(is_debug=debug, is_service=context.invoked_subcommand in _SERVICES)
    check_failpoint()


def main() -> None:
    """Run a command; a user's mistake prints one line, not a traceback."""
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except typer.Abort:
        say("Aborted!", is_error=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if (words := getattr(error, "format_message", None)) is not None:  # of the usage
            error.format_message = partial(plain, words())  # type: ignore[attr-defined]
            error.show()  # type: ignore[attr-defined]
            sys.exit(error.exit_code)  # type: ignore[attr-defined]
        if os.environ.get("TIERLINE_DEBUG"):
            raise
        sys.exit(_report(error))


def _report(error: BaseException) -> int:
    """Print what went wrong; return the exit code."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ModuleNotFoundError):
        error = _missing(error)
    if isinstance(error, TierlineError):
        say(f"tierline: {error.for_people}", is_error=True)
        return error.exit_code
    name = type(error).__name__
    if name in ("ValidationError", "SettingsError"):
        from consumers.variables import settings_problems  # noqa: PLC0415  no help needs it

        for problem in settings_problems(error):
            say(f"tierline: a setting cannot be used: {problem}", is_error=True)
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        say(f"tierline: {where}{error.strerror or error}", is_error=True)
    else:
        say(f"tierline: unexpected {name}: {error}", is_error=True)
        say("Run again with --debug for details.", is_error=True)
    return 1


def _missing(error: ModuleNotFoundError) -> BaseException:
    """What is said where a package is not installed, with the extra of ours that installs it."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "consumers", "router", "schemas"):
        return error
    extra = re.compile(rf"{package.replace('_', '[-_]')}\b.*extra == .(\w+)", re.IGNORECASE)
    extras = [named[1] for line in requires("tierline") or () if (named := extra.match(line))]
    words = f"a package that this needs is not installed: {package} is missing"
    return TierlineError(words, advice=f"pip install 'tierline[{(*extras, 'console')[0]}]'")


if __name__ == "__main__":
    main()
