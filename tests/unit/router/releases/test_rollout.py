"""Acts about releases: what each changes, what is refused, and that all folds are the same."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.releases.rollout import folded, overdue, rollout_of
from router.releases.standing import NO_KEYS, Keys, SignedAct, Standing, release_for
from schemas.policy_log import PolicyAct
from tests.builders import NOON

_OWNERS = Keys(
    may={
        "ann": frozenset(("own",)),
        "bob": frozenset(("own",)),
        "carl": frozenset(("propose",)),
        "guard": frozenset(("guard",)),
    },
    is_good=lambda key, signature, _: signature == key.encode(),
)


def an_act(what: str, number: int = 1, who: str = "ann", **fields: Any) -> PolicyAct:
    release = fields.pop("release", None)
    if release is not None:
        version, content = release.split("/")
        fields |= {"version": version, "digest": content * 12, "seal": content * 64}
    return PolicyAct.model_validate(
        {"policy": "support", "number": number, "what": what, "who": who, "at": NOON, **fields}
    )


def signed(act: PolicyAct, key: str | None = None) -> SignedAct:
    if key is None:
        return SignedAct(act)
    return SignedAct(act.model_copy(update={"key_id": key}), b"", key.encode())


class Fold:
    """Acts one after the other, an hour apart, each with the next number."""

    def __init__(self, keys: Keys = NO_KEYS) -> None:
        self.keys, self.standing, self.now = keys, Standing(), NOON

    def act(self, what: str, key: str | None = None, **fields: Any) -> str | None:
        """Why it is refused, or None where it was done."""
        number = fields.pop("number", self.standing.last + 1)
        act = signed(an_act(what, number, **fields), key)
        self.now += timedelta(hours=1)
        self.standing, refusal = folded(self.standing, act, self.now, self.keys)
        return refusal

    def active(self) -> str | None:
        return self.standing.active.version if self.standing.active else None


def test_a_proposal_is_used_once_it_is_approved() -> None:
    fold = Fold()
    assert fold.act("propose", who="carl", release="1/a") is None
    assert fold.active() is None

    assert fold.act("approve", of=1, release="1/a") is None
    assert fold.active() == "1"
    assert fold.standing.proposals == {}
    assert rollout_of("support", fold.standing, fold.now).active == "a" * 12


def test_a_rejected_proposal_cannot_be_approved() -> None:
    fold = Fold()
    fold.act("propose", release="1/a")
    assert fold.act("reject", of=1, release="1/a") is None

    assert fold.act("approve", of=1, release="1/a") == "there is no open proposal 1"


def test_an_approval_is_of_the_content_that_was_proposed() -> None:
    fold = Fold()
    fold.act("propose", release="1/a")

    assert fold.act("approve", of=1, release="1/b") == "it is about other content than proposal 1"


def test_a_version_with_other_content_is_refused() -> None:
    fold = Fold()
    fold.act("propose", release="1/a")

    assert "raise the version" in (fold.act("publish", release="1/b") or "")
    assert fold.act("publish", release="2/b") is None
    assert fold.active() == "2"


def test_rolling_back_goes_one_further_back_each_time() -> None:
    fold = Fold()
    for release in ("1/a", "2/b", "3/c"):
        fold.act("publish", release=release)

    assert fold.act("rollback", release="2/b") is None
    assert fold.act("rollback", release="3/c") is not None  # forward is no way back
    assert fold.act("rollback", release="1/a") is None
    assert fold.active() == "1"
    assert fold.act("rollback", release="1/a") is not None
    assert fold.act("publish", release="3/c") is None  # what was taken back may come again
    assert fold.active() == "3"


def test_a_canary_goes_up_its_steps_and_becomes_active() -> None:
    fold = Fold()
    fold.act("publish", release="1/a")
    assert fold.act("start", release="2/b", share=0.05, steps=[0.15, 1.0], salt="s") is None
    assert fold.active() == "1"
    assert "is on its way" in (fold.act("publish", release="3/c") or "")

    assert fold.act("step", release="2/b", share=0.15) is None
    assert fold.standing.candidate is not None
    assert fold.standing.candidate.steps == (1.0,)
    assert fold.act("step", release="2/b", share=1.0) is None
    assert fold.active() == "2"
    assert fold.standing.candidate is None


@pytest.mark.parametrize("what", ["stop", "rollback"])
def test_a_canary_ends_with_all_requests_on_the_active_release(what: str) -> None:
    fold = Fold()
    fold.act("publish", release="1/a")
    fold.act("start", release="2/b", share=0.05, salt="s")

    assert fold.act(what, release="2/b" if what == "stop" else "1/a") is None
    assert (fold.active(), fold.standing.candidate) == ("1", None)


@pytest.mark.parametrize(
    "fields",
    [{"share": 0.0}, {"share": 1.0}, {"share": 0.2, "steps": [0.1]}, {"share": 0.1, "salt": ""}],
)
def test_a_canary_needs_shares_that_rise_and_a_salt(fields: dict[str, Any]) -> None:
    fold = Fold()
    fold.act("publish", release="1/a")

    assert "shares that rise" in (fold.act("start", release="2/b", **{"salt": "s", **fields}) or "")


def test_nothing_is_published_in_a_freeze_but_taken_back() -> None:
    fold = Fold()
    fold.act("publish", release="1/a")
    fold.act("publish", release="2/b")
    fold.act("propose", release="3/c")
    until = fold.now + timedelta(days=1)
    assert fold.act("freeze", why="peak", until=until) is None

    assert "peak" in (fold.act("publish", release="4/d") or "")
    assert "peak" in (fold.act("approve", of=3, release="3/c") or "")
    assert fold.act("propose", release="4/d") is None
    assert fold.act("rollback", release="1/a") is None
    assert "break-glass" in (fold.act("unfreeze", of=4) or "")
    assert fold.act("approve", of=3, release="3/c", break_glass="outage") is None
    assert fold.active() == "3"


def test_a_freeze_ends_and_one_to_come_can_be_taken_back() -> None:
    fold = Fold()
    later = fold.now + timedelta(days=2)
    fold.act("freeze", why="peak", since=later, until=later + timedelta(days=1))
    assert fold.act("publish", release="1/a") is None
    assert fold.act("unfreeze", of=1) is None

    fold.act("freeze", why="peak", until=fold.now + timedelta(hours=3))
    assert fold.act("publish", release="2/b") is not None
    fold.now += timedelta(hours=2)
    assert fold.act("publish", release="2/b") is None


def test_a_trial_needs_a_baseline_and_gets_one_decision() -> None:
    fold = Fold()
    fold.act("publish", release="1/a")
    until = fold.now + timedelta(days=14)
    assert "baseline" in (fold.act("publish", release="2/b", trial_until=until) or "")
    assert fold.act("publish", release="2/b", trial_until=until, baseline={"p95": 9.0}) is None

    assert overdue(fold.standing, None, fold.now) == []
    [late] = overdue(fold.standing, None, until)
    assert "decide 2" in late
    assert fold.act("decide", of=2, decision="remove") is None
    assert fold.active() == "1"
    assert fold.act("decide", of=2, decision="keep") is not None
    assert overdue(fold.standing, None, until) == []


def test_a_review_is_overdue_a_span_after_the_last_one() -> None:
    fold = Fold()
    fold.act("publish", release="1/a")
    week = timedelta(days=7)
    assert overdue(fold.standing, week, fold.now + week) == []
    assert overdue(fold.standing, week, fold.now + 2 * week) != []

    fold.now += 2 * week
    fold.act("reviewed")
    assert overdue(fold.standing, week, fold.now + week) == []


@pytest.mark.parametrize(
    ("key", "what", "fields"),
    [
        (None, "publish", {"release": "2/b"}),
        ("dora", "publish", {"release": "2/b"}),
        ("carl", "publish", {"release": "2/b"}),
        ("carl", "approve", {"release": "1/a", "of": 1}),
        ("guard", "propose", {"release": "2/b"}),
        ("guard", "freeze", {"until": NOON + timedelta(days=9)}),
    ],
)
def test_a_key_may_do_what_it_may(key: str | None, what: str, fields: dict[str, Any]) -> None:
    fold = Fold(_OWNERS)
    assert fold.act("publish", "ann", release="1/a") is None

    assert fold.act(what, key, **fields) is not None
    assert fold.standing.last == 1


def test_the_guard_goes_no_further_than_was_agreed_and_takes_everything_back() -> None:
    fold = Fold(_OWNERS)
    fold.act("publish", "ann", release="1/a")
    fold.act("start", "ann", release="2/b", share=0.05, steps=[0.15, 1.0], salt="s")

    assert "next share" in (fold.act("step", "guard", release="2/b", share=1.0) or "")
    assert fold.act("step", "guard", release="2/b", share=0.15) is None
    assert fold.act("stop", "guard", release="2/b") is None


def test_a_new_provider_needs_two_approvals_where_keys_are_listed() -> None:
    fold = Fold(_OWNERS)
    more: dict[str, Any] = {"release": "2/b", "reach": ["provider a", "provider b"]}
    fold.act("publish", "ann", release="1/a", reach=["provider a"])
    assert fold.act("publish", "ann", **more) is None
    assert fold.active() == "1"

    assert "has approved" in (fold.act("approve", "ann", of=2, release="2/b") or "")
    assert fold.act("approve", "bob", of=2, release="2/b") is None
    assert fold.active() == "2"

    unsigned = Fold()
    unsigned.act("publish", release="1/a", reach=["provider a"])
    unsigned.act("publish", **more)
    assert unsigned.active() == "2"


def test_unsigned_acts_count_from_before_keys_were_listed_and_ended_keys_too() -> None:
    since = NOON + timedelta(hours=2)
    keys = Keys(_OWNERS.may, {"bob": since}, since, _OWNERS.is_good)
    fold = Fold(keys)
    assert fold.act("publish", release="1/a") is None
    assert "not signed" in (fold.act("publish", release="2/b") or "")
    assert "has ended" in (fold.act("publish", "bob", release="2/b") or "")
    assert fold.act("publish", "ann", release="2/b") is None


_RELEASES = st.sampled_from(["1/a", "1/b", "2/b", "3/c"])
_SHARES = st.sampled_from([0.0, 0.05, 0.15, 1.0])
_ACTS = st.builds(
    lambda what, skip, key, release, of, share, steps, glass, days: (
        skip,
        key,
        an_act(
            what,
            release=release,
            of=of,
            share=share,
            steps=steps,
            salt="s",
            break_glass=glass,
            until=NOON + timedelta(days=days),
            decision="remove",
        ),
    ),
    st.sampled_from(
        (
            *("propose", "publish", "approve", "reject", "rollback", "freeze", "unfreeze"),
            *("start", "step", "stop", "decide", "reviewed", "applied"),
        )
    ),
    st.integers(-1, 1),
    st.sampled_from([None, "ann", "bob", "carl", "guard"]),
    _RELEASES,
    st.integers(1, 4),
    _SHARES,
    st.lists(_SHARES, max_size=2),
    st.sampled_from(["", "", "outage"]),
    st.integers(0, 2),
)


def _folded(acts: Sequence[tuple[int, SignedAct]], keys: Keys) -> tuple[Standing, list[int]]:
    standing, done = Standing(), list[int]()
    for at, act in acts:
        now = NOON + timedelta(hours=at)
        before = standing
        standing, refusal = folded(standing, act, now, keys)
        if refusal is None:
            done.append(at)
            assert standing.last == before.last + 1
        else:
            assert standing == before
    return standing, done


@given(st.lists(_ACTS, max_size=30), st.sampled_from([NO_KEYS, _OWNERS]))
def test_refused_acts_change_nothing_and_every_fold_comes_to_the_same(
    drawn: list[tuple[int, str | None, PolicyAct]], keys: Keys
) -> None:
    standing, log = Standing(), list[tuple[int, SignedAct]]()
    for at, (skip, key, act) in enumerate(drawn):
        number = max(1, standing.last + 1 + skip)
        log.append((at, signed(act.model_copy(update={"number": number}), key)))
        standing, _ = folded(standing, log[-1][1], NOON + timedelta(hours=at), keys)

    everything, done = _folded(log, keys)
    without, _ = _folded([(at, act) for at, act in log if at in done], keys)

    assert everything == without == standing
    versions = [release.version for release in everything.releases.values()]
    assert len(versions) == len({*versions})
    if everything.candidate is not None:
        assert 0 < everything.candidate.share < 1
        assert everything.active not in (None, everything.candidate.release)


def test_an_arm_has_its_share_of_conversations_and_keeps_them() -> None:
    fold = Fold()
    fold.act("publish", release="1/a")
    fold.act("start", release="2/b", share=0.05, steps=[0.15], salt="s", tasks=["triage"])
    keys = [f"default\0conversation-{number}" for number in range(10_000)]

    def arm() -> set[str]:
        return {
            key for key in keys if release_for(fold.standing, key, "triage", "free") == "b" * 12
        }

    small = arm()
    assert abs(len(small) / len(keys) - 0.05) < 0.01
    assert arm() == small
    fold.act("step", release="2/b", share=0.15)
    assert small < arm()
    assert release_for(fold.standing, min(small), "critique", "free") == "a" * 12
