"""The rollout: what an act changes, and why an act is not allowed.

Every process folds the acts by itself, in the order in which they were appended, and comes to the
same: an act that is refused changes nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from router.policy.table import Policy
from router.releases.standing import (
    NO_KEYS,
    Candidate,
    Keys,
    KnownRelease,
    Proposal,
    SignedAct,
    Standing,
    holds,
)
from schemas.policy_log import Act, PolicyAct, Release, Rollout

__all__ = ["folded", "overdue", "reach_of", "refusal_of_release", "rollout_of"]

_GUARDS: frozenset[Act] = frozenset(("stop", "step", "rollback", "applied"))
#: What brings a release to requests, and so is refused during a freeze.
_PUBLISHES: frozenset[Act] = frozenset(("publish", "approve", "start", "step"))
_NOTHING_BEFORE = "no release was active before this one"


def folded(
    standing: Standing, signed: SignedAct, now: datetime, keys: Keys = NO_KEYS
) -> tuple[Standing, str | None]:
    """What stands after an act that was appended at `now`, and why it is not allowed, in words.

    An act that is not allowed changes nothing.
    """
    outcome = _outcome(standing, signed, now, keys)
    return (standing, outcome) if isinstance(outcome, str) else (outcome, None)


def reach_of(policy: Policy) -> frozenset[str]:
    """What a policy can use that asks for a second approval when it is new: its providers."""
    return frozenset(f"provider {model.provider}" for model in policy.models.values())


def refusal_of_release(known: KnownRelease, release: Release, reach: frozenset[str]) -> str | None:
    """Why a release's content is not what was approved, in words; None when it is.

    `reach` is that of the policy in it.
    """
    if (release.version, release.digest, release.seal) != (known.version, known.digest, known.seal):
        return f"release {release.version} was changed after it was proposed"
    if reach != known.reach:
        return f"release {release.version} can use more, or less, than its proposal says"
    return None


def overdue(standing: Standing, every: timedelta | None, now: datetime) -> list[str]:
    """What should have been done by now: the policy's review, and decisions on trials."""
    late = [
        f"the trial of version {release.version} ended on {act.trial_until:%Y-%m-%d} and waits for "
        f"a decision: `tierline policy decide {number} keep|change|remove`"
        for number, (act, release) in standing.trials.items()
        if act.trial_until is not None and act.trial_until <= now
    ]
    reviewed_at = standing.reviewed_at
    if every is not None and reviewed_at is not None and now - reviewed_at > every:
        due = f"the policy's review was due on {reviewed_at + every:%Y-%m-%d}"
        late.append(f"{due}: `tierline policy review` prepares it")
    return late


def rollout_of(name: str, standing: Standing, now: datetime) -> Rollout:
    """What stands, as a record for readers that do not fold. There has been an act."""
    active, previous, candidate = standing.active, standing.previous, standing.candidate
    frozen = standing.frozen_by(now)
    return Rollout(
        name=name,
        number=standing.last,
        at=standing.at or now,
        active=active and active.digest,
        active_version=active and active.version,
        previous=previous and previous.digest,
        candidate=candidate and candidate.release.digest,
        candidate_version=candidate and candidate.release.version,
        share=candidate.share if candidate else 0.0,
        tasks=candidate.act.tasks if candidate else [],
        plans=candidate.act.plans if candidate else [],
        salt=candidate.act.salt if candidate else "",
        frozen_until=frozen.until if frozen else None,
    )


def _outcome(standing: Standing, signed: SignedAct, now: datetime, keys: Keys) -> Standing | str:
    """What stands after the act, or why it is not allowed."""
    act = signed.act
    if act.number != standing.last + 1:
        return f"act {act.number} is not the next one, which is {standing.last + 1}"
    refusal = _unsigned(signed, now, keys) or _unentitled(standing, act, keys)
    if refusal is not None:
        return refusal
    frozen = standing.frozen_by(now) if act.what in _PUBLISHES and not act.break_glass else None
    if frozen is not None:
        return (
            f"releases are frozen until {frozen.until:%Y-%m-%d %H:%M} UTC ({frozen.why}); only a "
            "recorded break-glass (--break-glass REASON) goes past it"
        )
    if act.trial_until is not None and not act.baseline:
        return "a trial needs the figures from before the change, as its baseline"
    outcome = _OUTCOMES[act.what](standing, signed, now, keys)
    if isinstance(outcome, str):
        return outcome
    return replace(outcome, last=act.number, at=now, reviewed_at=outcome.reviewed_at or now)


def _unsigned(signed: SignedAct, now: datetime, keys: Keys) -> str | None:
    key = signed.act.key_id
    if not keys.may or (key is None and keys.signed_since and now < keys.signed_since):
        return None
    if key is None:
        return "it is not signed, and the settings list keys"
    if key not in keys.may:
        return f"the settings list no key {key}"
    if key in keys.ended and now >= keys.ended[key]:
        return f"key {key} has ended"
    if not keys.is_good(key, signed.signature, signed.raw):
        return f"its signature is not the one of key {key} over these bytes"
    return None


def _unentitled(standing: Standing, act: PolicyAct, keys: Keys) -> str | None:
    rights = keys.may.get(act.key_id or "")
    if rights is None or "own" in rights or (act.what == "propose" and "propose" in rights):
        return None
    if "guard" in rights and act.what in _GUARDS and not act.break_glass:
        steps = standing.candidate.steps if standing.candidate else ()
        if act.what != "step" or act.share in steps[:1]:
            return None
        return f"key {act.key_id} may only go to the next share that was agreed"
    return f"key {act.key_id} may not {act.what}: it may {' and '.join(sorted(rights))}"


def _proposed(standing: Standing, act: PolicyAct) -> Proposal | str:
    """The proposal that an act makes or is about, or why there is none."""
    if act.what in ("approve", "reject") or (act.what == "start" and act.of is not None):
        proposal = standing.proposals.get(act.of or 0)
        if proposal is None:
            return f"there is no open proposal {act.of}"
        same = act.seal == proposal.release.seal
        return proposal if same else f"it is about other content than proposal {act.of}"
    if act.version is None or act.digest is None or act.seal is None:
        return "it names no release: a version, its digest and its seal were expected"
    release = KnownRelease(act.digest, act.version, act.seal, frozenset(act.reach))
    for known in standing.releases.values():
        if known != release and (known.version == act.version or known.digest == act.digest):
            return (
                f"version {known.version} was proposed with other content ({known.digest}, and "
                f"this is {act.digest}); raise the version, or take the change back"
            )
    for number, proposal in standing.proposals.items():
        if proposal.release == release:
            return f"version {act.version} is proposed already, by act {number}"
    return Proposal(act, release)


def _propose(standing: Standing, signed: SignedAct, now: datetime, keys: Keys) -> Standing | str:
    """`propose`, `publish`, `approve`, `start`: enough approvals bring the release to requests."""
    act, running = signed.act, standing.candidate
    proposal = _proposed(standing, act)
    if isinstance(proposal, str):
        return proposal
    release, number = proposal.release, proposal.act.number
    if release == standing.active:
        return f"version {release.version} is active already"
    standing = replace(standing, releases={**standing.releases, release.digest: release})
    if act.what == "propose":
        return replace(standing, proposals={**standing.proposals, number: proposal})
    if running is not None:
        return f"version {running.release.version} is on its way: take it to 100 %, or stop it"
    if act.what == "approve" and signed.by in proposal.approved_by:
        return f"{signed.by} has approved proposal {number} already"
    proposal = proposal._replace(approved_by=proposal.approved_by | {signed.by})
    others = {no: other for no, other in standing.proposals.items() if no != number}
    is_more = bool(keys.may and standing.active and release.reach - standing.active.reach)
    is_enough = len(proposal.approved_by) > is_more
    if act.what == "start":
        refusal = None if is_enough else "it can use what is new: a second person approves it first"
        return refusal or _started(replace(standing, proposals=others), release, act, now)
    if is_enough:
        return _activated(replace(standing, proposals=others), release, act, proposal.act)
    return replace(standing, proposals={**others, number: proposal})


def _started(
    standing: Standing, release: KnownRelease, act: PolicyAct, now: datetime
) -> Standing | str:
    """The release is the candidate from now on."""
    if standing.active is None:
        return "nothing is active that a share could be compared with: publish a first release"
    shares = (act.share or 0.0, *act.steps)
    if not (0 < shares[0] < 1 and act.salt and list(shares) == sorted(set(shares))):
        return "shares that rise from above 0 %, such as 5 %, 15 % and 100 %, were expected"
    return replace(standing, candidate=Candidate(release, shares[0], shares[1:], act, now))


def _activated(standing: Standing, release: KnownRelease, *acts: PolicyAct) -> Standing:
    """The release is active from now on, on trial where one of its acts says so."""
    trial = next((act for act in acts if act.trial_until is not None), None)
    trials = {} if trial is None else {trial.number: (trial, release)}
    return replace(
        standing,
        history=(*standing.history, release),
        trials={**standing.trials, **trials},
        candidate=None,
    )


def _reject(standing: Standing, signed: SignedAct, _now: datetime, _keys: Keys) -> Standing | str:
    proposal = _proposed(standing, signed.act)
    if isinstance(proposal, str):
        return proposal
    others = {no: other for no, other in standing.proposals.items() if other != proposal}
    return replace(standing, proposals=others)


def _move(standing: Standing, signed: SignedAct, now: datetime, _keys: Keys) -> Standing | str:
    """`step` and `stop`."""
    act, candidate, share = signed.act, standing.candidate, signed.act.share or 0.0
    if candidate is None or candidate.release.digest != act.digest:
        return "no candidate is on its way" if candidate is None else "it names another candidate"
    if act.what == "stop":
        return replace(standing, candidate=None)
    if share == 1:
        return _activated(standing, candidate.release, act, candidate.act)
    if not share:
        return "a share above 0 % and up to 100 % was expected"
    steps = tuple(step for step in candidate.steps if step > share)
    moved = candidate._replace(share=share, steps=steps, since=now)
    return replace(standing, candidate=moved)


def _roll_back(
    standing: Standing, signed: SignedAct, _now: datetime, _keys: Keys
) -> Standing | str:
    digests = [release.digest for release in standing.history]
    if not digests or signed.act.digest not in digests:
        return f"release {signed.act.digest} was never active before the one that is"
    if signed.act.digest == digests[-1] and standing.candidate is None:
        return "it is active already, and no candidate is on its way"
    last = len(digests) - digests[::-1].index(signed.act.digest)
    return replace(standing, history=standing.history[:last], candidate=None)


def _freeze(standing: Standing, signed: SignedAct, now: datetime, _keys: Keys) -> Standing | str:
    """`freeze` and `unfreeze`."""
    act, freeze = signed.act, standing.freezes.get(signed.act.of or 0)
    if act.what == "freeze":
        if act.until is None or act.until <= max(now, act.since or now):
            return "a freeze that ends after it begins, and after now, was expected"
        freeze = act.model_copy(update={"since": act.since or now})
        return replace(standing, freezes={**standing.freezes, act.number: freeze})
    if freeze is None:
        return f"there is no freeze {act.of}"
    if holds(freeze, now) and not act.break_glass:
        return f"freeze {act.of} holds now ({freeze.why}): it takes --break-glass REASON to end it"
    left = {number: other for number, other in standing.freezes.items() if number != act.of}
    return replace(standing, freezes=left)


def _decide(standing: Standing, signed: SignedAct, _now: datetime, _keys: Keys) -> Standing | str:
    act, history, candidate = signed.act, standing.history, standing.candidate
    trial = standing.trials.get(act.of or 0)
    if trial is None or act.decision is None:
        open_ones = ", ".join(map(str, standing.trials)) or "none"
        return f"act {act.of} began no trial that waits for keep, change or remove: {open_ones} did"
    if act.decision == "remove" and standing.active == trial[1]:
        history, candidate = history[:-1], None  # it was compared with what is removed
    left = {number: other for number, other in standing.trials.items() if number != act.of}
    if not history:
        return _NOTHING_BEFORE
    return replace(standing, trials=left, history=history, candidate=candidate)


def _note(standing: Standing, signed: SignedAct, now: datetime, _keys: Keys) -> Standing | str:
    """`reviewed`, and `applied`, which only tells."""
    return replace(standing, reviewed_at=now) if signed.act.what == "reviewed" else standing


_OUTCOMES: Mapping[Act, Callable[[Standing, SignedAct, datetime, Keys], Standing | str]] = {
    "propose": _propose,
    "publish": _propose,
    "approve": _propose,
    "start": _propose,
    "reject": _reject,
    "step": _move,
    "stop": _move,
    "rollback": _roll_back,
    "freeze": _freeze,
    "unfreeze": _freeze,
    "decide": _decide,
    "reviewed": _note,
    "applied": _note,
}
