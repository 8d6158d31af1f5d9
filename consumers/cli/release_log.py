"""`tierline policy log`, `diff`, `review`, `keygen`: what changed, and what reviews look at."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from consumers import clock
from consumers.cli.common import (
    AsJson,
    KafkaAddress,
    UserError,
    asynchronous,
    read_settings,
    span_of,
)
from consumers.cli.past import Store, past_of, print_past
from consumers.cli.policy import app, checked
from consumers.cli.terminal import console, print_json, print_table
from consumers.files import read_text
from consumers.policy_file import policy_file, read_policy
from consumers.policy_log import LoggedAct, PolicyLog, policies_in, read_log
from consumers.rules import prompts_folder, read_folder
from consumers.settings import Settings
from consumers.signing import new_key
from consumers.texts import say
from router.releases.bundle import Bundle
from router.releases.difference import differences
from router.releases.history import act_words
from router.releases.rollout import overdue, reach_of, refusal_of_release, rollout_of
from router.releases.standing import KnownRelease, Standing
from router.reports.measures import MEASURES, Row, alarms, format_figure, format_value, names_of
from schemas.policy_log import PolicyAct
from schemas.spans import span_text

__all__ = ["app", "bundle_of", "bundle_of_file", "figures", "policy_in"]

_COLUMNS = ("calls", "per completed", "p95", "corrected", "by person", "escalated", "refused")
Version = Annotated[
    str | None,
    typer.Argument(metavar="[VERSION]", help="A version of the log, or a policy's file."),
]


@app.command()
@asynchronous
async def log(
    since: Annotated[
        str, typer.Option(metavar="SPAN", help="Look back this far, for example 24h or 30d.")
    ] = "7d",
    policy: Annotated[
        str, typer.Option(metavar="NAME", help="Show this policy, where the log has several.")
    ] = "",
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Show what changed, why, what it was to fix, and who said yes."""
    settings, now = read_settings(kafka), clock.now()
    begin, every = now - span_of(since, "--since"), read_policy(settings).review_every
    whole = await read_log(settings, await policy_in(settings, policy))
    shown = [logged for logged in whole.acts if logged.at >= begin]
    late = overdue(whole.standing, every, now)
    if as_json:
        print_json({**_facts(whole, shown), "overdue": late})
        return
    _print_acts(whole, shown)
    for words in (_standing_words(whole.standing), *(f"! {words}" for words in late)):
        console().print(words, soft_wrap=True)


@app.command()
@asynchronous
async def diff(
    before: Version = None,
    after: Version = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="Also decide the requests of this span again by both."),
    ] = None,
    store: Store = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Say what a release does otherwise: than the active one, or than another one."""
    settings = read_settings(kafka)
    whole = await read_log(settings, read_policy(settings).name)
    if after is None:
        before, after = None, before
    old = _bundle_named(before, whole, settings, whole.standing.active)
    new = _bundle_named(after, whole, settings, None)
    changes = differences(old.policy, new.policy, old.files, new.files)
    policies = (old.policy, new.policy)
    past = None if since is None else await past_of(settings, policies, since, store)
    if as_json:
        facts = {"before": old.label, "after": new.label, "changes": changes}
        print_json({**facts, "replay": past} if past else facts)
        return
    heading = f"from {old.label} to {new.label}:"
    for line in (heading, *(f"  {change}" for change in changes or ["nothing differs"])):
        console().print(line, soft_wrap=True)
    if past is not None:
        print_past(past)


@app.command()
@asynchronous
async def replay(
    candidate: Annotated[
        str,
        typer.Option(metavar="VERSION", help="Decide by this version of the log, or by a file."),
    ],
    since: Annotated[
        str, typer.Option(metavar="SPAN", help="Decide the requests of this span again.")
    ] = "7d",
    store: Store = None,
    kafka: KafkaAddress = None,
    as_json: AsJson = False,
) -> None:
    """Decide past requests again by another policy, and estimate what that would have cost.

    Nothing is sent to any model or topic.
    """
    settings = read_settings(kafka)
    whole = await read_log(settings, read_policy(settings).name)
    old = _bundle_named(None, whole, settings, whole.standing.active)
    new = _bundle_named(candidate, whole, settings, None)
    past = await past_of(settings, (old.policy, new.policy), since, store)
    (print_json if as_json else print_past)(past)


@app.command()
@asynchronous
async def review(kafka: KafkaAddress = None, as_json: AsJson = False) -> None:
    """Prepare a review: what changed since the last one, trials, and the figures of each route."""
    settings, now = read_settings(kafka), clock.now()
    policy = read_policy(settings)
    whole = await read_log(settings, policy.name)
    standing = whole.standing
    span = policy.review_every or timedelta(days=7)
    rows, total = await figures(settings, span)
    begin = standing.reviewed_at or now - span
    shown = [logged for logged in whole.acts if logged.at >= begin]
    late = overdue(standing, policy.review_every, now)
    warnings = [alarm.words for alarm in alarms(rows)]
    trials = {number: _compared(act, total) for number, (act, _) in standing.trials.items()}
    table = [{**names_of(row, ("task", "tier")), **_texts(row)} for row in rows]
    if as_json:
        facts = {"figures": table, "alarms": warnings, "trials": trials, "overdue": late}
        print_json({**_facts(whole, shown), **facts})
        return
    _print_acts(whole, shown)
    console().print(_standing_words(standing), soft_wrap=True)
    for number, lines in trials.items():
        print_table(lines, ("figure", "before", "now"), title=f"trial of act {number}")
    if table:
        print_table(table, ("task", "tier", *_COLUMNS), title=f"the last {span_text(span)}")
    for words in (*warnings, *late):
        console().print(f"! {words}", soft_wrap=True)
    say("Record the review with `tierline policy reviewed --why TEXT`.")


@app.command()
def keygen(
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="The key's id, in small letters: a person's name.")
    ],
    file: Annotated[
        Path, typer.Option("--file", metavar="FILE", help="Write the private key into this file.")
    ],
) -> None:
    """Make a key that signs acts, and print what the settings need."""
    public, name = new_key(file), f"TIERLINE_RELEASES__KEYS__{key_id.upper()}__"
    say(f"{file} holds the private key: keep it where only {key_id} can read it.")
    say(f'Every process needs:\n  {name}PUBLIC={public}\n  {name}MAY=["own"]')
    signing = f"TIERLINE_RELEASES__SIGN_AS={key_id} TIERLINE_RELEASES__KEY_FILE={file}"
    say(f"Where {key_id} acts, and nowhere else:\n  {signing}")


async def figures(settings: Settings, span: timedelta) -> tuple[Sequence[Row], Row]:
    """The figures of each task and tier in the last span of time, and of all of them."""
    from consumers.cli.read_model import read_model  # noqa: PLC0415  few commands need tables
    from consumers.readmodel.queries import figures_by  # noqa: PLC0415  as above

    read, now, policy = settings.kafka.topics.of_figures, clock.now(), read_policy(settings)
    async with read_model(settings, None, read, now - span) as model:
        begin = model.begin(now - span, now)
        return await model.ask(lambda tables: figures_by(tables, ("task", "tier"), policy, begin))


async def policy_in(settings: Settings, named: str) -> str:
    """The policy of the log, or the one of several that is named. Raises UserError."""
    names = await policies_in(settings)
    if named not in names and (named or len(names) > 1):
        msg = f"policies of the log: {', '.join(names) or 'none'}; name one of them with --policy"
        raise UserError(msg)
    return named or next(iter(names), read_policy(settings).name)


def bundle_of_file(file: Path | None, settings: Settings) -> Bundle:
    """A policy's file with the prompts in use, as a release. Raises UserError for a broken one."""
    path = file or policy_file(settings)
    texts = read_folder(prompts_folder(settings))
    bundle = Bundle.of_texts(read_text(path), texts, str(path))
    errors, _, outcomes = checked(path, bundle.policy)
    failed = [each for each in outcomes if not each.passed]
    errors = [*errors, *(f"example failed: {each.says}: {each.detail}" for each in failed)]
    if errors:
        raise UserError("\n".join((f"{path}: not released:", *errors)))
    return bundle


def bundle_of(whole: PolicyLog, known: KnownRelease) -> Bundle:
    """A release of the log. Raises UserError where its content is not what was proposed."""
    release = whole.release(known.digest)
    if release is None:
        msg = f"the log does not have the content of version {known.version} that was proposed"
        raise UserError(msg)
    bundle = Bundle.of_texts(release.policy, release.prompts, f"release {release.version}")
    if (why := refusal_of_release(known, release, reach_of(bundle.policy))) is not None:
        raise UserError(why)
    return bundle


def _bundle_named(
    name: str | None, whole: PolicyLog, settings: Settings, default: KnownRelease | None
) -> Bundle:
    """The release of a version or a file; without a name the default, else the one in use."""
    known = default if name is None else None
    for release in whole.standing.releases.values():
        known = release if release.version == name else known
    if known is not None:
        return bundle_of(whole, known)
    if name is not None and not Path(name).is_file():
        versions = ", ".join(each.version for each in whole.standing.releases.values()) or "none"
        msg = f"{name}: there is no such file, and no such version; the log has {versions}"
        raise UserError(msg)
    return bundle_of_file(None if name is None else Path(name), settings)


def _facts(whole: PolicyLog, shown: Sequence[LoggedAct]) -> dict[str, object]:
    acts = [
        {"appended_at": at, "refused": why, **act.model_dump(mode="json", exclude_defaults=True)}
        for act, at, why in shown
    ]
    rollout = rollout_of(whole.name, whole.standing, clock.now()) if whole.standing.last else None
    return {"standing": rollout and rollout.model_dump(mode="json"), "acts": acts}


def _print_acts(whole: PolicyLog, shown: Sequence[LoggedAct]) -> None:
    valid = [logged.act for logged in whole.acts if logged.refusal is None]
    for act, at, refusal in (each for each in shown if each.act.what != "applied"):
        for no, line in enumerate(act_words(act, valid, refusal)):
            when = f"{at:%Y-%m-%d %H:%M}" if no == 0 else " " * 16
            console().print(f"{when}  {line}", soft_wrap=True)


def _standing_words(standing: Standing) -> str:
    if standing.active is None:
        return "Nothing is published: every process uses its files."
    words = f"Version {standing.active.version} is active"
    if (candidate := standing.candidate) is not None:
        words += f", and {candidate.release.version} has {candidate.share:.4g} of the requests"
    if standing.proposals:
        words += f"; open proposals: {', '.join(map(str, standing.proposals))}"
    return f"{words}."


def _compared(act: PolicyAct, total: Row) -> list[Mapping[str, object]]:
    """The figures before a trial beside those of now."""
    before = act.baseline or {}
    known = [(each, before.get(each.name)) for each in MEASURES]
    return [
        {
            "figure": each.name,
            "before": format_figure(each.unit, value),
            "now": format_value(each, total),
        }
        for each, value in known
        if isinstance(value, (int, float))
    ]


def _texts(row: Row) -> dict[str, str]:
    return {each.name: format_value(each, row) for each in MEASURES if each.name in _COLUMNS}
