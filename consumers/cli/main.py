"""`tierline`: the command line's entry."""

import os
import sys
from typing import Annotated

import typer

from consumers.cli import (
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
from consumers.cli.texts import say
from schemas.errors import TierlineError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Routes LLM work over Kafka to the cheapest model that can defend its answer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("try")(trying.try_request)
app.command("up")(up.up)
app.command("top")(top.top)
app.command("console")(console.console_command)
app.command("submit")(submit.submit)
app.command("results")(results.results)
app.command("explain")(explain.explain)
app.command("trace")(trace.trace)
app.command("replay-call")(replay_call.replay_call)
app.command("quality")(quality.quality)
app.command("feedback")(quality.feedback)
app.command("sample")(quality.sample)
app.add_typer(quality.evals_app, name="evals")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(policy.app, name="policy")
app.add_typer(prompts.app, name="prompts")
app.add_typer(provider.app, name="provider")
app.add_typer(tools.topics_app, name="topics")
app.command("settings")(tools.list_settings)
app.command("doctor")(tools.doctor)
app.command("simulate")(tools.simulate)
app.command("version")(tools.version)


#: They run until they are stopped; everything else says what it has to say by itself.
_SERVICES = ("up", "console", "simulate", "demo")


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")] = False,
) -> None:
    """Options before the command."""
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
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
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
