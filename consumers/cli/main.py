"""`tierline`: the command line's entry."""

import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import typer

from consumers.cli import (
    answers,
    console,
    dead_letters,
    demo,
    explain,
    policy,
    prompts,
    provider,
    quality,
    replay_call,
    results,
    submit,
    tools,
    top,
    trace,
    trying,
    up,
)
from consumers.cli.common import FAILED
from consumers.cli.helping import Grouped
from consumers.cli.texts import say
from consumers.texts import plain
from schemas.errors import TierlineError

__all__ = ["app", "main"]

app = typer.Typer(
    cls=Grouped,
    help="Tierline routes LLM work over Kafka to the cheapest model that can defend its answer.",
    epilog="`tierline --install-completion` has bash, zsh and fish complete all of this.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
#: In the order of the help; groups of commands go behind the others.
_COMMANDS: Mapping[str, Mapping[str, Any]] = {
    "Run": {
        "demo": demo.demo,
        "try": trying.try_request,
        "up": up.up,
        "simulate": tools.simulate,
    },
    "Send and read": {
        "submit": submit.submit,
        "results": results.results,
        "feedback": answers.feedback,
    },
    "Understand": {
        "explain": explain.explain,
        "trace": trace.trace,
        "replay-call": replay_call.replay_call,
        "quality": quality.quality,
        "sample": answers.sample,
    },
    "People": {
        "console": console.console_command,
        "dead-letters": dead_letters.app,
        "evals": answers.evals_app,
    },
    "Operate": {
        "top": top.top,
        "doctor": tools.doctor,
        "settings": tools.list_settings,
        "topics": tools.topics_app,
        "version": tools.version,
    },
    "Policy and models": {
        "policy": policy.app,
        "prompts": prompts.app,
        "provider": provider.app,
    },
}
for _group, _commands in _COMMANDS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, cls=Grouped, rich_help_panel=_group)
        else:
            app.command(_name, rich_help_panel=_group)(_command)


#: They run until they are stopped; everything else says what it has to say by itself.
_SERVICES = ("up", "console", "simulate", "demo")


def _tell_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        say(f"tierline {version('tierline')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks, and log all there is to log.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_tell_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options before the command."""
    del version
    if debug:
        os.environ["TIERLINE_DEBUG"] = "1"
    from consumers.cli.logs import configure_logs

    if "TIERLINE_TEST_LOOPBACK" in os.environ:
        from consumers.runtime.loopback import stay_on_loopback

        stay_on_loopback()
    configure_logs(is_debug=debug, is_service=context.invoked_subcommand in _SERVICES)
    if "TIERLINE_FAILPOINT" in os.environ:
        from consumers.runtime.failpoints import check_failpoint

        check_failpoint()


def main() -> None:
    """Run a command; a user's mistake is one line, not a traceback."""
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except typer.Abort:
        say("Aborted!", is_error=True)
        sys.exit(FAILED)
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
    """Say what went wrong, in the error's own words where they are meant for people."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TierlineError):
        say(f"tierline: {error.for_people}", is_error=True)
        return error.exit_code
    name = type(error).__name__
    if name in ("ValidationError", "SettingsError"):
        from consumers.settings import settings_problems

        for problem in settings_problems(error):
            say(f"tierline: a setting cannot be used: {problem}", is_error=True)
        return FAILED
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        say(f"tierline: {where}{error.strerror or error}", is_error=True)
        return FAILED
    say(f"tierline: unexpected {name}: {error}", is_error=True)
    say("Run again with --debug for details.", is_error=True)
    return FAILED


if __name__ == "__main__":
    main()
