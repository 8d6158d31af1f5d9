"""`tierline policy`: check, show and explain the routing policy."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from consumers import clock
from consumers.cli.advise import advise
from consumers.cli.calibrate import calibrate
from consumers.cli.common import FAILED, AsJson, UserError, read_settings
from consumers.cli.terminal import console, print_json, print_table
from consumers.files import read_text
from consumers.policy_file import policy_file, read_policy, reused_version
from consumers.policy_log import read_log
from consumers.rules import since_the_lock, unready_rows
from consumers.texts import say
from router.checks import check_rows
from router.errors import PolicyError
from router.policy.cap_checks import cap_notes
from router.policy.load import load_policy
from router.policy.lock import LOCK_FILE, lock_text, read_lock, reused
from router.policy.table import Policy
from router.releases.rollout import overdue
from router.route.explain import explained, lead, sections, table_rows, unknown_names
from router.route.ladders import ladder_notes, ladders
from router.route.lint import ExampleOutcome, lint, run_examples
from schemas.errors import TierlineError
from schemas.intake import read_request_object

__all__ = ["PolicyFile", "app", "checked", "warn_of_unknown"]

app = typer.Typer(help="Check, show, explain and release the routing policy.", no_args_is_help=True)
app.command()(calibrate)
app.command()(advise)

#: What a check lists about a policy that can be read.
_LISTS = ("errors", "warnings", "notes", "ladders", "failed")
#: Columns of a terminal from which tasks are shown with their reasons.
_WIDE = 120

PolicyFile = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE]", help="The policy's file; by default, the one in use."),
]


@app.command()
def check(file: PolicyFile = None, as_json: AsJson = False) -> None:
    """Validate a policy, look for likely mistakes, and run its examples as tests."""
    path = file or _in_use()
    try:
        policy = load_policy(read_text(path), str(path))
    except PolicyError as error:
        problems = [{"file": error.file, **asdict(problem)} for problem in error.problems]
        if as_json:
            nothing: dict[str, object] = dict.fromkeys(_LISTS, ())
            print_json({"ok": False, "problems": problems, "version": None, **nothing})
            raise typer.Exit(FAILED) from None
        raise
    errors, warnings, outcomes = checked(path, policy)
    warnings += _overdue(policy)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    notes = [*ladder_notes(policy), *cap_notes(policy)]
    if as_json:
        print_json(
            {
                "ok": not failed and not errors,
                "problems": [],
                "errors": errors,
                "version": policy.version,
                "warnings": warnings,
                "notes": notes,
                "ladders": [row._asdict() for row in ladders(policy)],
                "examples": len(outcomes),
                "failed": [{"says": outcome.says, "detail": outcome.detail} for outcome in failed],
            }
        )
    else:
        out = console()
        for message in errors:
            out.print(message, soft_wrap=True)
        for warning in warnings:
            out.print(f"warning: {warning}")
        for note in notes:
            out.print(f"note: {note}")
        for outcome in failed:
            out.print(f"example failed: {outcome.says}: {outcome.detail}")
        passed = len(outcomes) - len(failed)
        counts = f"{len(policy.tasks)} tasks, {len(policy.rules)} rules"
        out.print(
            f"{path}: version {policy.version}, {counts}, "
            f"{passed} of {len(outcomes)} examples pass",
            soft_wrap=True,
        )
    raise typer.Exit(FAILED if failed or errors else 0)


@app.command()
def lock(file: PolicyFile = None) -> None:
    """Record the content of the policy's version: a change then requires a new version."""
    path = file or _in_use()
    policy, beside = load_policy(read_text(path), str(path)), path.with_name(LOCK_FILE)
    locked = read_lock(read_text(beside) if beside.is_file() else "")
    failed = [outcome for outcome in run_examples(policy, clock.now()) if not outcome.passed]
    problems = [f"example failed: {outcome.says}: {outcome.detail}" for outcome in failed]
    if (problem := reused(locked, policy, 1)) is not None:
        problems.append(f"{problem.path}: {problem.message}")
    problems += unready_rows(path, policy, read_settings(needs_kafka=False))
    if problems:
        raise UserError("\n".join((f"{path}: not locked:", *problems)))
    beside.write_text(lock_text(locked, policy), encoding="utf-8")
    say(f"{beside}: {policy.name} {policy.version} is {policy.digest}")


@app.command()
def show(file: PolicyFile = None, as_json: AsJson = False) -> None:
    """Print the policy to be read: who handles what, when it escalates, prices and thresholds."""
    path = file or _in_use()
    policy = load_policy(_released(path) or read_text(path), str(path))
    if as_json:
        identity = {"name": policy.name, "version": policy.version, "digest": policy.digest}
        print_json({**identity, "tasks": table_rows(policy), "policy": policy.content})
        return
    out = console()
    out.print(f"{policy.name} {policy.version} (policy {policy.digest}), decided by {policy.owner}")
    out.print(lead(policy))
    left_out = {"reason"} if out.width < _WIDE else set()
    for section in sections(policy):
        if not section.rows and not section.note:
            continue
        out.print(f"\n{section.title}", style="bold")
        if section.note:
            out.print(section.note)
        if columns := [name for name in next(iter(section.rows), ()) if name not in left_out]:
            print_table(section.rows, columns)
    out.print(
        '\nWhere a text would go, and why: tierline policy explain --text "I was charged twice"'
    )
    if left_out:
        say(
            "not shown at this width: reason (--json has them)",
            is_error=True,
        )


@app.command()
def checks(as_json: AsJson = False) -> None:
    """Print the checks that a task may name, with their reason codes and parameters."""
    rows = check_rows()
    if as_json:
        print_json({"checks": rows})
        return
    print_table(rows, tuple(rows[0]), title="checks of a reply")


@app.command()
def explain(  # noqa: PLR0913, PLR0917  one option per signal
    task: Annotated[str | None, typer.Option(metavar="TASK", help="Set its task.")] = None,
    plan: Annotated[str | None, typer.Option(metavar="PLAN", help="Set the plan.")] = None,
    text: Annotated[
        str, typer.Option(metavar="TEXT", help="Set the text of the request.")
    ] = "A plain request, number 1.",
    ambiguity: Annotated[
        float | None,
        typer.Option(metavar="SHARE", min=0, max=1, help="Set how ambiguous it is, from 0 to 1."),
    ] = None,
    blast_radius: Annotated[
        str | None,
        typer.Option(metavar="WORD", help="Set the harm of a mistake: low, medium or high."),
    ] = None,
    complexity: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", min=1, max=5, help="Set how hard it is, from 1 to 5."),
    ] = None,
    justification: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Set why premium may be used.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read this policy; by default, the one in use."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain in a sentence which rule sends a request to which tier, and why."""
    path = file or _in_use()
    policy = load_policy(read_text(path), str(path))
    fields: dict[str, Any] = {"input": text, "task": task, "plan": plan}
    fields |= {"justification": justification, "ambiguity": ambiguity}
    fields |= {"blast_radius": blast_radius, "complexity": complexity}
    present = {name: value for name, value in fields.items() if value is not None}
    request = read_request_object(present, {})
    warn_of_unknown(policy, task=task, plan=plan)
    facts = explained(request, policy, clock.now())
    if as_json:
        print_json(facts)
    else:
        console().print(facts["words"])


def checked(path: Path, policy: Policy) -> tuple[list[str], list[str], list[ExampleOutcome]]:
    """The errors and warnings of a policy that can be read, and what became of its examples."""
    now = clock.now()
    errors, changed = _since_the_locks(path, policy)
    return errors, [*lint(policy, now.date()), *changed], run_examples(policy, now)


def _overdue(policy: Policy) -> list[str]:
    """What the log says should have been done by now, where a review is asked for."""
    settings = read_settings(needs_kafka=False)
    if policy.review_every is None or settings.kafka.bootstrap is None:
        return []
    try:
        log = asyncio.run(read_log(settings, policy.name))
    except TierlineError as error:
        return [f"whether the policy's review is overdue is not known: {error}"]
    return overdue(log.standing, policy.review_every, clock.now())


def _since_the_locks(path: Path, policy: Policy) -> tuple[list[str], list[str]]:
    """Errors and warnings of a policy against its lock, and for the one in use of its prompts."""
    problem, warnings = reused_version(path, policy), list[str]()
    settings = read_settings(needs_kafka=False)
    errors = [] if problem is None else [problem]
    errors += unready_rows(path, policy, settings)
    if path.resolve() == policy_file(settings).resolve():
        changes, warned = since_the_lock(settings, policy)
        errors, warnings = [*errors, *changes], [*warned]
    return errors, warnings


def warn_of_unknown(policy: Policy, *, task: str | None, plan: str | None) -> None:
    """Warn on standard error of a name that the policy does not have, with what counts instead."""
    for words in unknown_names(policy, task=task, plan=plan):
        say(f"tierline: {words}", is_error=True)


def _released(version: Path) -> str | None:
    """The policy's text of a released version; None where there is such a file, or no log."""
    settings = read_settings(needs_kafka=False)
    if version.exists() or settings.kafka.bootstrap is None:
        return None
    log = asyncio.run(read_log(settings, read_policy(settings).name))
    known = [each for each in log.standing.releases.values() if each.version == str(version)]
    if (release := log.release(known[0].digest) if known else None) is None:
        msg = f"{version}: there is no such file, and the log has no such version"
        raise UserError(msg)
    return release.policy


def _in_use() -> Path:
    return policy_file(read_settings(needs_kafka=False))
