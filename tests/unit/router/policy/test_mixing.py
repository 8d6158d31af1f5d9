"""Requests of another policy: when they wait, and when and how they are routed anew."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from router.attempt.escalation import climb
from router.policy.load import load_policy
from router.policy.mixing import Routers, handed_back, is_under
from router.policy.table import Policy
from router.route.routing import GiveUp, Route, route
from schemas.base import Tier
from schemas.escalation import Assignment, Classification, RouteTaken
from schemas.reasons import Reason
from schemas.status import StageStatus, Status
from tests.builders import (
    NOON,
    POLICY_FILE,
    a_request,
    a_route,
    an_assignment,
    an_attempt,
    the_policy,
)

_TEXT = POLICY_FILE.read_text(encoding="utf-8")
MINE = the_policy()


def _edited(old: str, new: str) -> Policy:
    assert old in _TEXT
    return load_policy(_TEXT.replace(old, new, 1), "edited")


OTHER = _edited("accept: 0.75}\n  balanced", "accept: 0.99}\n  balanced")


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        pytest.param("# Who handles what", "# Who does what", True, id="a comment"),
        pytest.param("says: a plain label is low work", "says: labels", True, id="an example"),
        pytest.param(
            "{attempts: 6, escalations: 2", "{escalations: 2, attempts: 6", True, id="order"
        ),
        pytest.param("approval: person", "approval: none", False, id="who approves"),
        pytest.param("input: 0.10", "input: 0.11", False, id="a price"),
        pytest.param(
            "minLength: 1}\n      confidence",
            "minLength: 2}\n      confidence",
            False,
            id="a format",
        ),
        pytest.param('\nversion: "', '\nversion: "x', False, id="the version"),
    ],
)
def test_a_digest_stands_for_what_decides(old: str, new: str, is_same: bool) -> None:
    assert (_edited(old, new).digest == MINE.digest) is is_same


@pytest.mark.parametrize(
    ("digest", "version", "expected"),
    [
        pytest.param(MINE.digest, MINE.version, True, id="the same"),
        pytest.param(OTHER.digest, MINE.version, False, id="other content under the same version"),
        pytest.param(None, MINE.version, True, id="earlier software, the same version"),
        pytest.param(None, "2026-10-01", False, id="earlier software, another version"),
    ],
)
def test_whose_policy_a_route_was_made_under(
    digest: str | None, version: str, expected: bool
) -> None:
    taken = a_route(policy_digest=digest, policy_version=version)
    assert is_under(taken, MINE) is expected


def _status_of(process: str, policy: Policy | None, stage: str = "route") -> Status:
    digest = policy.digest if policy else None
    work = StageStatus(stage=stage, partitions=1, in_flight=0, free=1)
    return Status(process=process, started_at=NOON, at=NOON, policy_digest=digest, stages=[work])


@pytest.mark.parametrize(
    ("heard", "seconds", "expected"),
    [
        pytest.param([], 60, False, id="nobody is heard: perhaps they are only not heard yet"),
        pytest.param([("new", MINE, 59)], 60, True, id="only routers of my policy"),
        pytest.param([("old", OTHER, 59)], 60, False, id="only routers of the other"),
        pytest.param([("new", MINE, 59), ("old", OTHER, 59)], 60, False, id="both: a deploy"),
        pytest.param([("new", MINE, 59), ("old", OTHER, 10)], 60, True, id="that one is silent"),
        pytest.param([("new", MINE, 10)], 60, False, id="mine is silent"),
        pytest.param([("new", MINE, 4)], 5, False, id="the route is fresh: its router is there"),
        pytest.param([("plain", None, 59), ("new", MINE, 59)], 60, True, id="earlier software"),
    ],
)  # fmt: skip
def test_a_route_is_replaced_once_its_policy_is_applied_no_more(
    heard: Sequence[tuple[str, Policy | None, int]], seconds: int, expected: bool
) -> None:
    routers = Routers()
    for process, policy, at in heard:
        routers.heard(_status_of(process, policy), NOON + timedelta(seconds=at))
    routers.heard(_status_of("worker", OTHER, "work.low"), NOON + timedelta(seconds=seconds))
    taken = a_route(policy_digest=OTHER.digest, routed_at=NOON)

    assert routers.have_replaced(taken, MINE, NOON + timedelta(seconds=seconds)) is expected


def test_a_router_that_has_ended_applies_nothing() -> None:
    routers = Routers()
    routers.heard(_status_of("one", MINE), NOON)
    assert routers.apply(MINE.digest, NOON)
    routers.ended("one", NOON)
    assert not routers.apply(MINE.digest, NOON)


@pytest.mark.parametrize(
    ("routed", "expected"),
    [(9, True), (11, False)],
    ids=["before it ended", "by another one"],
)
def test_a_router_that_says_that_it_ends_is_waited_for_no_longer(
    routed: int, expected: bool
) -> None:
    routers = Routers()
    routers.heard(_status_of("old", OTHER), NOON)
    routers.heard(_status_of("new", MINE), NOON)
    routers.ended("old", NOON + timedelta(seconds=10))
    at = NOON + timedelta(seconds=routed)
    taken = a_route(policy_digest=OTHER.digest, routed_at=at)

    assert routers.have_replaced(taken, MINE, NOON + timedelta(seconds=12)) is expected


GONE = f"2026-10-01 ({OTHER.digest})"


def _anew(assignment: Assignment, **fields: object) -> Route | GiveUp:
    return climb(handed_back(assignment), a_request(**fields), MINE, NOON)


def _under(tier: Tier, **fields: object) -> RouteTaken:
    return a_route(tier, policy_digest=OTHER.digest, policy_version="2026-10-01", **fields)


def test_a_first_route_is_made_anew_as_at_first() -> None:
    decided = _anew(an_assignment(routes=[_under(Tier.LOW)]))

    assert isinstance(decided, Route)
    first = route(a_request(), MINE, NOON)
    assert isinstance(first, Route)
    assert (decided.tier, decided.rule, decided.task) == (first.tier, first.rule, first.task)
    assert decided.reason.endswith(f"policy {GONE} is no longer applied")


def test_an_escalation_is_made_anew_from_where_it_came() -> None:
    """It has climbed once, not twice, and what was paid for stays."""
    routes = [
        a_route(Tier.BALANCED),
        _under(Tier.PREMIUM, rule="escalation", code=Reason.LOW_CONFIDENCE),
    ]
    assignment = an_assignment(routes=routes, attempts=[an_attempt()], attempts_left=5)
    back = handed_back(assignment)
    decided = climb(back, a_request(), MINE, NOON)

    assert isinstance(decided, Route)
    assert (decided.tier, decided.code) == (Tier.PREMIUM, Reason.LOW_CONFIDENCE)
    assert (back.routes, back.attempts, back.attempts_left) == (routes[:1], [an_attempt()], 5)


def test_a_classified_request_keeps_what_was_found() -> None:
    classification = Classification(task="rewrite", ambiguity=0.2)
    routes = [a_route(Tier.LOW, step="classify"), _under(Tier.LOW, code=Reason.CLASSIFIED)]
    assignment = an_assignment(routes=routes, task="rewrite", classification=classification)
    decided = _anew(assignment, task=None)

    assert isinstance(decided, Route)
    assert (decided.task, decided.code) == ("rewrite", Reason.CLASSIFIED)


def test_what_could_not_be_classified_is_guessed_anew() -> None:
    routes = [a_route(Tier.LOW, step="classify"), _under(Tier.BALANCED, code=Reason.EMPTY)]
    decided = _anew(an_assignment(routes=routes, task="general"), task=None)

    assert isinstance(decided, Route)
    assert (decided.tier, decided.task) == (Tier.BALANCED, "general")


def test_a_reviewers_tier_is_kept() -> None:
    taken = _under(Tier.PREMIUM, rule="review", code=Reason.REQUEUED)
    decided = _anew(an_assignment(routes=[taken], generation=2))

    assert isinstance(decided, Route)
    assert (decided.tier, decided.rule) == (Tier.PREMIUM, "review")


def test_a_deadline_that_passed_meanwhile_says_what_was_waited_for() -> None:
    late = an_assignment(routes=[_under(Tier.LOW)], deadline=NOON - timedelta(seconds=1))
    decided = _anew(late)

    assert isinstance(decided, GiveUp)
    assert decided.reason is Reason.DEADLINE_PASSED
    assert decided.detail.endswith(f"it waited for a worker with policy {GONE}")
