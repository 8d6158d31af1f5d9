"""Acts in sentences: what changed, why, what it was to fix, and who said yes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from schemas.policy_log import Act, PolicyAct

__all__ = ["act_words", "applied_words", "approvals_of", "sentence_of"]

_WORDS: Mapping[Act, str] = {
    "propose": "proposed version {version}",
    "publish": "published version {version}",
    "approve": "approved proposal {of}: version {version}",
    "reject": "rejected proposal {of}: version {version}",
    "rollback": "rolled back to version {version}",
    "freeze": "froze releases{window}",
    "unfreeze": "ended freeze {of}",
    "start": "gave version {version} {percent} of {narrowed}",
    "step": "gave version {version} {percent} of its requests",
    "stop": "took all requests back from version {version}",
    "decide": "decided on the trial of act {of}: {decision}",
    "reviewed": "reviewed the policy",
    "applied": "noted that act {of} was in force {applied}",
}


def sentence_of(act: PolicyAct) -> str:
    """What somebody did, as one sentence without its full stop."""
    since = f" from {act.since:%Y-%m-%d %H:%M}" if act.since else ""
    until = f" until {act.until:%Y-%m-%d %H:%M} UTC" if act.until else ""
    of_what = " and ".join(
        f"the {what}{'s' if len(names) > 1 else ''} {', '.join(names)}"
        for what, names in (("task", act.tasks), ("plan", act.plans))
        if names
    )
    words = _WORDS[act.what].format(
        version=act.version,
        of=act.of,
        decision=act.decision,
        applied=applied_words(act),
        percent=f"{100 * (act.share or 0):.4g} %",
        narrowed=f"the requests of {of_what}" if of_what else "all requests",
        window=since + until,
    )
    passed = f", past a freeze: {act.break_glass}" if act.break_glass else ""
    return f"{act.who} {words}{passed}"


def applied_words(act: PolicyAct) -> str:
    """In how many processes an act was in force, and after how long."""
    processes = "1 process" if act.processes == 1 else f"{act.processes} processes"
    return f"in {processes} after {act.seconds or 0:.1f} s"


def approvals_of(acts: Iterable[PolicyAct], number: int) -> Sequence[str]:
    """Who said yes to the release of an act, by all acts that were not refused."""
    return [
        act.who
        for act in acts
        if (act.number == number and act.what in ("publish", "start"))
        or (act.of == number and act.what in ("approve", "start"))
    ]


def act_words(act: PolicyAct, acts: Sequence[PolicyAct], refusal: str | None) -> Iterator[str]:
    """An act and what belongs to it, a line each."""
    yield f"{act.number}. {sentence_of(act)}" + (f" (refused: {refusal})" if refusal else "")
    applied = [each for each in acts if each.what == "applied" and each.of == act.number]
    lines = {
        "why": act.why,
        "what it fixes": act.problem,
        "expected": act.expected,
        "way back": act.way_back,
        "changes": "; ".join(act.changes),
        "approved by": ", ".join(approvals_of(acts, act.number)),
        "in force": applied_words(applied[0]) if applied else "",
        "on trial until": f"{act.trial_until:%Y-%m-%d}" if act.trial_until else "",
        "key": act.key_id or "",
    }
    yield from (f"   {name}: {text}" for name, text in lines.items() if text)
