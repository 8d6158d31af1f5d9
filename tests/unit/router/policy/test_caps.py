"""Caps as rows of the policy: what is refused, where, and what a reader is told."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from router.errors import PolicyError
from router.policy.cap_checks import cap_notes
from router.policy.caps import Cap, Facts, caps_of, domain_of
from router.policy.load import load_policy
from router.policy.table import Policy
from router.route.explain import cap_rows, sections
from router.route.lint import lint
from schemas.base import Tier

SHIPPED = (Path(__file__).parents[4] / "deploy/policy/routing.yaml").read_text(encoding="utf-8")
DAILY = {"per": "day", "dollars": 5, "at_cap": "refuse", "because": "tests"}


def with_caps(**rows: str) -> str:
    """The shipped policy with these caps, each in a line of its own at its end."""
    lines = "".join(f"  {name}: {row}\n" for name, row in rows.items())
    return f"{SHIPPED.rstrip()}\ncaps:\n{lines}"


def a_row(**fields: Any) -> str:
    row = {**DAILY, **fields}
    return "{" + ", ".join(f"{n}: {v}" for n, v in row.items() if v is not None) + "}"


def policy_of(**rows: str) -> Policy:
    return load_policy(with_caps(**rows), "routing.yaml")


def a_cap(**fields: Any) -> Cap:
    return Cap.model_validate({n: v for n, v in {**DAILY, **fields}.items() if v is not None})


def facts(**fields: Any) -> Facts:
    others = {"tenant": "acme", "plan": "free", "tier": Tier.LOW, "request": "r1"}
    return Facts(**{**others, "task": "general", **fields})


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        ({"dollars": None}, "caps.c", "exactly one of dollars, tokens and premium_share"),
        ({"tokens": 100_000}, "caps.c", "exactly one of dollars, tokens and premium_share"),
        ({"dollars": "0.1234567"}, "caps.c", "at most six decimals"),
        ({"dollars": "much"}, "caps.c.dollars", "a number of US dollars"),
        ({"dollars": "-1"}, "caps.c.dollars", "at least 0"),
        ({"per": "year"}, "caps.c.per", "'hour', 'day'"),
        ({"at_cap": "refus"}, "caps.c.at_cap", "did you mean refuse?"),
        ({"scope": "[usr]"}, "caps.c.scope.0", "did you mean user?"),
        ({"where": "{plans: free}"}, "caps.c.where.plans", "did you mean plan?"),
        ({"where": "{plan: []}"}, "caps.c.where.plan", "at least 1"),
        ({"zone": "Europe/Berln"}, "caps.c.zone", "did you mean Europe/Berlin?"),
        ({"zone": "../etc/passwd"}, "caps.c.zone", "no time zone"),
        ({"zone": "Europe"}, "caps.c.zone", "no time zone"),
        ({"hold_for": "0s"}, "caps.c.hold_for", "longer than 0s"),
        ({"least": 5}, "caps.c", "least belongs to premium_share"),
        ({"because": None}, "caps.c.because", "required"),
        ({"per": "request", "at_cap": "hold"}, "caps.c", "does not get its own money back"),
        (
            {"dollars": None, "premium_share": 0.2, "scope": "[tier]"},
            "caps.c",
            "neither tier nor per: request",
        ),
        ({"dollars": "0.02"}, "caps.c.dollars", "one call of sim-large-b may take"),
        ({"dollars": None, "tokens": 500}, "caps.c.tokens", "may take 1,024 tokens"),
        ({"dollars": "0.0001", "where": "{plan: free}"}, "caps.c.dollars", "one call of sim-small"),
    ],
)
def test_a_cap_that_cannot_be_is_refused_with_its_line(fields, path, words):
    text = with_caps(first=a_row(), c=a_row(**fields))
    with pytest.raises(PolicyError) as caught:
        load_policy(text, "routing.yaml")

    (problem,) = caught.value.problems
    assert problem.line == len(text.splitlines())
    assert problem.path == path
    assert words in problem.message


@pytest.mark.parametrize(
    "fields",
    [
        # The plan ends below the dear models, or the cap is not for their tier.
        {"dollars": "0.001", "where": "{plan: free}"},
        {"dollars": "0.001", "where": "{tier: low}"},
        {"dollars": None, "premium_share": 0.01},
    ],
)
def test_a_small_cap_is_taken_where_the_calls_it_covers_fit(fields):
    assert list(policy_of(c=a_row(**fields)).caps) == ["c"]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("{plan: fre}", "cap c: the policy has no plan 'fre'; did you mean free?"),
        ("{task: [general, nothing]}", "cap c: the policy has no task 'nothing'"),
        ("{plan: free, tier: premium}", "nothing can reach cap c"),
    ],
)
def test_a_cap_that_nothing_reaches_is_a_warning(where, words):
    assert any(warning.startswith(words) for warning in _warnings(c=a_row(where=where)))


def test_a_cap_that_requests_reach_is_none():
    assert _warnings(c=a_row(where="{plan: [free, standard], tier: low}"), d=a_row()) == []


def _warnings(**rows: str) -> list[str]:
    return list(lint(policy_of(**rows), date(2026, 11, 20)))


def test_each_cap_is_told_its_budget_domain():
    apart = policy_of(a=a_row(scope="[tenant]"), b=a_row(scope="[user]"), c=a_row(per="request"))
    together = policy_of(a=a_row(scope="[tenant]"), b=a_row(scope="[plan]"))

    assert {domain_of(apart, tenant) for tenant in ("x", "y")} == {"x", "y"}
    assert {domain_of(together, tenant) for tenant in ("x", "y")} == {""}
    assert next(cap_notes(apart)) == "cap a belongs to the budget domain of each tenant"
    assert list(cap_notes(together)) == [
        "cap a belongs to one budget domain of all, as b is shared by tenants",
        "cap b belongs to one budget domain of all, as it is shared by tenants",
    ]


def test_a_route_has_the_caps_that_are_for_it():
    policy = policy_of(
        all=a_row(),
        premium=a_row(where="{tier: premium}"),
        free=a_row(where="{plan: [free, trial]}"),
        flow=a_row(where="{workflow: w}"),
        share=a_row(dollars=None, premium_share=0.2),
    )

    def touching(**fields: Any) -> list[str]:
        return [named.name for named in caps_of(policy, facts(**fields))]

    assert touching() == ["all", "free", "share"]
    assert touching(tier=Tier.PREMIUM, plan="standard") == ["all", "premium", "share"]
    assert touching(workflow="w", task=None) == ["all", "free", "flow"]  # it is classified
    assert caps_of(load_policy(SHIPPED, "routing.yaml"), facts()) == ()


def test_users_and_conversations_are_kept_by_their_tenant_in_one_order():
    assert a_cap(scope=["conversation", "plan"]).kept_by == ["tenant", "plan", "conversation"]
    assert a_cap(scope=["tier", "task"]).kept_by == ["task", "tier"]


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"dollars": "0.000001"}, 1),
        ({"dollars": 123_456}, 123_456_000_000),
        ({"dollars": 0.1}, 100_000),
        ({"dollars": None, "tokens": 7}, 7),
        ({"dollars": None, "premium_share": 0.29}, 290_000),
    ],
)
def test_a_limit_is_a_whole_number(fields, limit):
    assert a_cap(**fields).limit == limit
    assert type(a_cap(**fields).limit) is int


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, ["$5.00", "day", "all together", "", "refuse", "tests"]),
        ({"per": "request"}, ["$5.00", "request", "request", "", "refuse", "tests"]),
        (
            {"scope": "[user]", "where": "{tier: [low, balanced], plan: free}", "per": "hour"}
            | {"dollars": None, "tokens": 20_000, "zone": "Europe/Berlin", "at_cap": "hold"},
            [
                *("20,000 tokens", "hour (Europe/Berlin)", "tenant, user"),
                *("tier is low or balanced and plan is free", "hold", "tests"),
            ],
        ),
        (
            {"dollars": None, "premium_share": 0.2, "least": 50},
            ["premium for 0.2, from 50 requests on", "day", "all together", "", "refuse", "tests"],
        ),
    ],
)
def test_a_cap_is_read_as_a_row(fields, shown):
    (row,) = cap_rows(policy_of(c=a_row(**fields)))

    assert list(row.values()) == ["c", *shown]


def test_the_policy_in_words_has_its_caps():
    shown = {section.name: section for section in sections(policy_of(c=a_row()))}

    assert [row["cap"] for row in shown["caps"].rows] == ["c"]
    assert "caps" not in {s.name for s in sections(load_policy(SHIPPED, "routing.yaml"))}
