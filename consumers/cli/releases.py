"""`tierline policy`: the acts by which the policy changes under traffic, a command each."""

import getpass
import inspect
import time
import uuid
from collections.abc import Callable, Mapping
from copy import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import typer
from pydantic import ValidationError

from consumers import clock
from consumers.cli.canary import pairs, show
from consumers.cli.common import UserError, asynchronous, read_settings, span_of
from consumers.cli.release_log import app, bundle_of, bundle_of_file, figures, policy_in
from consumers.cli.terminal import console, print_json
from consumers.policy_file import policy_file
from consumers.policy_log import Draft, PolicyLog, write_act
from consumers.records import why_not_taken
from consumers.rules import unready_rows
from consumers.runtime.clients import Clients
from consumers.runtime.processes import Processes
from consumers.runtime.status import pass_on
from consumers.runtime.topic_reader import topic_reader
from consumers.settings import Settings
from router.releases.bundle import Bundle
from router.releases.difference import differences
from router.releases.history import applied_words, sentence_of
from router.releases.rollout import reach_of, rollout_of
from router.releases.standing import Candidate, KnownRelease
from router.reports.measures import values_of
from schemas.base import is_identifier, read_instant
from schemas.policy_log import PolicyAct

__all__ = ["app"]

#: Seconds for every process to report that it has applied an act: each reports every five.
_REPORTED_WITHIN = 12.0
_SILENT_AFTER = timedelta(seconds=15)
_BASELINE_OF = timedelta(days=7)
_MOST_CHANGES = 200
#: The acts after which processes decide otherwise.
_IS_APPLIED = ("publish", "approve", "rollback", "start", "step", "stop", "decide")

canary = typer.Typer(help="Give a release a share of the requests first.", no_args_is_help=True)
app.add_typer(canary, name="canary")
canary.command()(show)
canary.command()(pairs)


def _text(words: str, metavar: str = "TEXT", default: Any = ..., *names: str) -> tuple[type, Any]:
    return str, typer.Option(default, *names, metavar=metavar, help=words)


#: The options of acts, each written once: its type, and how it is given.
_OPTIONS: Mapping[str, tuple[Any, Any]] = {
    "number": (
        int,
        typer.Argument(..., metavar="NUMBER", help="The act's number, as `policy log` shows it."),
    ),
    "decision": (
        str,
        typer.Argument(..., metavar="DECISION", help="What becomes of it: keep, change, remove."),
    ),
    "file": (
        Path | None,
        typer.Argument(None, metavar="[FILE]", help="The policy's file; else the one in use."),
    ),
    "why": _text("Say why, and what for."),
    "problem": _text("Say what is wrong today."),
    "expected": _text("Say what shall be better, and by how much."),
    "way_back": _text("Say how to go back, and on what sign."),
    "break_glass": _text("Go past a freeze, for this reason, which is recorded.", "REASON", ""),
    "trial": _text(
        "Put it on trial for so long, for example 14d, beside the last week's figures.", "SPAN", ""
    ),
    "about": _text("Act on this policy, where the log has several.", "NAME", "", "--policy"),
    "to": _text("Go back to this version; by default, to the last.", "VERSION", ""),
    "span": _text("Freeze for so long, for example 3d.", "SPAN", ..., "--for"),
    "begin": _text("Begin then; by default, now.", "TIME", "", "--from"),
    "proposal": (
        int | None,
        typer.Option(None, metavar="NUMBER", help="Take this proposal instead of a file."),
    ),
    "share": _text("Go to this share.", "SHARE", ""),
    "steps": _text("Agree on the shares to come.", "SHARES", "15%,25%,100%"),
    "tasks": (
        list[str] | None,
        typer.Option(None, "--task", metavar="TASK", help="Take only requests of this task."),
    ),
    "plans": (
        list[str] | None,
        typer.Option(None, "--plan", metavar="PLAN", help="Take only requests of this plan."),
    ),
    "who": _text("Act as this person; by default, as your login.", "NAME", ""),
    "kafka": _text("Use this Kafka, else the one that is set or running.", "HOST:PORT", ""),
    "as_json": (bool, typer.Option(False, "--json", help="Print JSON for machines.")),
}
#: What goes into an act as it is given.
_FIELDS = (PolicyAct.model_fields.keys() & _OPTIONS.keys()) - {"number", "share", "steps", "who"}


class Given(NamedTuple):
    """What an act is made of before the log is known."""

    settings: Settings
    options: Mapping[str, Any]
    #: The files' policy and prompts, where the command takes a file.
    bundle: Bundle | None


_About = Callable[[Given, PolicyLog], Draft]


def _act(group: typer.Typer, *names: str, **defaults: Any) -> Callable[[_About], _About]:
    """Make a command of a function that says what an act is about, once the log is known.

    Its name is what is done. It has the options that are named here, and those of every act. Where
    no file says which policy it is about, the log does.
    """
    of_log = ("about",) if "file" not in names or "proposal" in names else ()

    def decorate(about: _About) -> _About:
        async def command(**options: Any) -> None:
            await _carry_out(about, options)

        parameters = []
        for name in (*names, *of_log, "who", "kafka", "as_json"):
            kind, info = _OPTIONS[name]
            if name in defaults:
                info = copy(info)
                info.default = defaults[name]
            how = inspect.Parameter.KEYWORD_ONLY
            parameters.append(inspect.Parameter(name, how, annotation=kind, default=info))
        # Typer reads the options from it; mypy knows no such attribute.
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__doc__ = about.__doc__
        group.command(about.__name__)(asynchronous(command))
        return about

    return decorate


@_act(app, "file", "why", "problem", "expected", "way_back")
def propose(given: Given, log: PolicyLog) -> Draft:
    """Propose a policy with its prompts; whoever owns the policy decides."""
    return _of_release(given, log)


@_act(
    app, "file", "why", "problem", "expected", "way_back", "trial", "break_glass",
    problem="", expected="", way_back="",
)  # fmt: skip
def publish(given: Given, log: PolicyLog) -> Draft:
    """Publish a policy with its prompts: a proposal and its approval in one act."""
    return _of_release(given, log)


@_act(app, "number", "why", "trial", "break_glass", why="")
def approve(given: Given, log: PolicyLog) -> Draft:
    """Approve a proposal: its release is used from now on."""
    return _of_proposal(given.options["number"], log)


@_act(app, "number", "why")
def reject(given: Given, log: PolicyLog) -> Draft:
    """Reject a proposal."""
    return _of_proposal(given.options["number"], log)


@_act(app, "why", "to")
def rollback(given: Given, log: PolicyLog) -> Draft:
    """Send all requests back to the release before, or from a canary to the active one."""
    standing, to = log.standing, given.options["to"]
    target = standing.active if standing.candidate else standing.previous
    if to:
        target = next((each for each in standing.history[::-1] if each.version == to), None)
    if target is None:
        what = f"version {to} was not" if to else "no release was"
        msg = f"{what} active before the present one: `tierline policy log --since 365d` shows all"
        raise UserError(msg)
    return _named(target)


@_act(app, "why", "span", "begin")
def freeze(given: Given, _log: PolicyLog) -> Draft:
    """Refuse new releases for a time; a rollback stays allowed."""
    begin, now = given.options["begin"], clock.now()
    try:
        since = read_instant(begin).astimezone(UTC) if begin else now
    except (ValueError, OverflowError):
        msg = f"--from {begin}: a time was expected, for example 2026-12-18T18:00:00Z"
        raise UserError(msg) from None
    until = since + span_of(given.options["span"], "--for")
    return Draft({"since": since if begin else None, "until": until})


@_act(app, "number", "why", "break_glass")
def unfreeze(given: Given, _log: PolicyLog) -> Draft:
    """Take a freeze back; one that holds now needs --break-glass."""
    return Draft({"of": given.options["number"]})


@_act(app, "number", "decision", "why")
def decide(given: Given, _log: PolicyLog) -> Draft:
    """End a trial with its one decision: keep, change, or remove and go back."""
    if given.options["decision"] not in ("keep", "change", "remove"):
        msg = f"{given.options['decision']}: one of keep, change, remove was expected"
        raise UserError(msg)
    return Draft({"of": given.options["number"]})


@_act(
    canary, "file", "proposal", "why", "share", "steps", "tasks", "plans", "trial", "break_glass",
    share="5%",
)  # fmt: skip
def start(given: Given, log: PolicyLog) -> Draft:
    """Give a release a share of the requests: the same conversations all the time."""
    options, proposal = given.options, given.options["proposal"]
    draft = _of_release(given, log) if proposal is None else _of_proposal(proposal, log)
    share, steps = _share(options["share"]), map(_share, filter(None, options["steps"].split(",")))
    to_come = [step for step in steps if step > share]
    fields = {"share": share, "steps": to_come, "salt": uuid.uuid4().hex[:12]}
    return draft._replace(fields={**draft.fields, **fields})


@_act(canary, "share", "why", "break_glass", why="")
def step(given: Given, log: PolicyLog) -> Draft:
    """Give the candidate its next share, or this one; with 100 % it becomes the active release."""
    candidate, share = _candidate(log), given.options["share"]
    return _named(
        candidate.release, share=_share(share) if share else next(iter(candidate.steps), 1.0)
    )


@_act(app, "why")
def reviewed(_given: Given, _log: PolicyLog) -> Draft:
    """Record that the policy was reviewed, and what came of it."""
    return Draft({})


@_act(canary, "why")
def stop(_given: Given, log: PolicyLog) -> Draft:
    """Take all requests back from the candidate."""
    return _named(_candidate(log).release)


async def _carry_out(about: _About, options: Mapping[str, Any]) -> None:
    """Write an act, wait until every process has applied it, and print what stands."""
    who = options["who"] or getpass.getuser()
    if not is_identifier(who):
        msg = f"--who {who!r}: a name without blanks was expected, for example an e-mail address"
        raise UserError(msg)
    settings = read_settings(options["kafka"] or None)
    bundle = None
    if "file" in options and options.get("proposal") is None:
        bundle = bundle_of_file(options["file"], settings)
    given = Given(settings, options, bundle)
    fields = {name: value for name, value in options.items() if name in _FIELDS and value}
    fields |= {"what": about.__name__, "who": who}
    if options.get("trial"):
        until = clock.now() + span_of(options["trial"], "--trial")
        _, total = await figures(settings, _BASELINE_OF)
        fields |= {"trial_until": until, "baseline": dict(values_of(total))}

    def draft(log: PolicyLog) -> Draft:
        named = about(given, log)
        return named._replace(fields={**named.fields, **fields})

    name = bundle.policy.name if bundle else await policy_in(settings, options["about"])
    written, log = await write_act(settings, name, draft)
    act, standing = written.act, log.standing
    took = await _applied(settings, act, written.at) if act.what in _IS_APPLIED else None
    applied = None
    if took is not None:
        noted = {"what": "applied", "who": who, "of": act.number, **took}
        applied = (await write_act(settings, name, lambda _: Draft(noted)))[0].act
    if options["as_json"]:
        fields = act.model_dump(mode="json", exclude_defaults=True)
        rollout = rollout_of(name, standing, written.at).model_dump(mode="json")
        print_json({"act": fields, "applied": took, "standing": rollout})
        return
    lines = [f"{act.number}. {sentence_of(act)}.", *(f"  {change}" for change in act.changes)]
    if act.number in standing.proposals:
        lines.append(f"It waits for an approval: `tierline policy approve {act.number}`.")
    elif applied is not None:
        lines.append(f"In force {applied_words(applied)}.")
    for line in lines:
        console().print(line, soft_wrap=True)


async def _applied(settings: Settings, act: PolicyAct, at: datetime) -> dict[str, float] | None:
    """After how long every process had applied an act, and how many; None where not all report it.

    Processes that do not run say nothing, and apply what stands when they start.
    """
    processes, give_up = Processes(), time.monotonic() + _REPORTED_WITHIN
    clients, topic = Clients(settings.kafka), settings.kafka.topics.status
    async with topic_reader(clients, [topic], since=at - _SILENT_AFTER) as reader:
        async for record in reader.until_end():
            _ = why_not_taken(lambda record: pass_on(record, processes), record)
        while statuses := processes.statuses:
            if all((status.policy_act or 0) >= act.number for status in statuses):
                since = [status.policy_since or status.at for status in statuses]
                seconds = max(0.0, (max(since) - at).total_seconds())
                return {"seconds": seconds, "processes": len(statuses)}
            if time.monotonic() > give_up:
                break
            async for record in reader.follow(0.5):
                _ = why_not_taken(lambda record: pass_on(record, processes), record)
    return None


def _of_release(given: Given, log: PolicyLog) -> Draft:
    """The files' release, with its difference to the active one.

    A release that the log has already is taken as it is there: comments may differ.
    """
    bundle = given.bundle
    if bundle is None:
        msg = "a policy's file was expected"
        raise UserError(msg)
    policy, active, release = bundle.policy, log.standing.active, None
    known = log.standing.releases.get(bundle.digest)
    if known is None or known.version != policy.version:
        try:
            release = bundle.release
        except ValidationError:
            msg = "the policy or a prompt is too long for a release: 262,144 characters at most"
            raise UserError(msg) from None
        known = KnownRelease(release.digest, release.version, release.seal, reach_of(policy))
    changes: list[str] = []
    if active is not None:
        before = bundle_of(log, active)
        file = given.options["file"] or policy_file(given.settings)
        if problems := unready_rows(file, policy, given.settings, before.policy):
            raise UserError("\n".join((f"{file}: not released:", *problems)))
        changes = differences(before.policy, policy, before.files, bundle.files)[:_MOST_CHANGES]
    return _named(known, reach=sorted(known.reach), changes=changes)._replace(release=release)


def _of_proposal(number: int, log: PolicyLog) -> Draft:
    """A proposal, whose content its approver has: the signature covers its seal."""
    proposal = log.standing.proposals.get(number)
    if proposal is None:
        open_ones = ", ".join(map(str, log.standing.proposals)) or "none"
        msg = f"there is no open proposal {number}; open are: {open_ones}"
        raise UserError(msg)
    bundle_of(log, proposal.release)
    return _named(proposal.release, of=number)


def _named(release: KnownRelease, **fields: Any) -> Draft:
    named = {"version": release.version, "digest": release.digest, "seal": release.seal}
    return Draft({**named, **fields})


def _candidate(log: PolicyLog) -> Candidate:
    if log.standing.candidate is None:
        msg = "no candidate is on its way: `tierline policy canary start` starts one"
        raise UserError(msg)
    return log.standing.candidate


def _share(text: str) -> float:
    """A share as people give it: `5%` or `0.05`. Raises UserError."""
    try:
        share = float(text.strip().rstrip("%")) / (100 if "%" in text else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        msg = f"{text}: a share above 0 % and up to 100 % was expected, for example 5%"
        raise UserError(msg)
    return share
