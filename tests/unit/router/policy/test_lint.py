"""Second looks, examples as tests, and the policy in words."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from router.policy.load import load_policy
from router.policy.table import Plan, Rule, When
from router.request.signals import measure
from router.route import explain
from router.route.explain import (
    explain_route,
    lead,
    plan_words,
    rule_words,
    sections,
    table_rows,
    threshold_rows,
    unknown_names,
)
from router.route.lint import lint, run_examples
from router.route.routing import route
from schemas.intake import read_request_object

SHIPPED = (Path(__file__).parents[4] / "deploy/policy/routing.yaml").read_text(encoding="utf-8")
TODAY, NOW = date(2026, 11, 20), datetime(2026, 11, 20, tzinfo=UTC)


def policy_with(old: str, new: str):
    assert old in SHIPPED
    return load_policy(SHIPPED.replace(old, new, 1), "routing.yaml")


def explained(**fields) -> str:
    policy = load_policy(SHIPPED, "routing.yaml")
    request = read_request_object({"input": "How do I export invoice 12?", **fields}, {})
    return explain_route(route(request, policy, NOW), request, measure(request), policy)


def test_the_shipped_policy_needs_no_second_look():
    policy = load_policy(SHIPPED, "routing.yaml")

    assert list(lint(policy, TODAY)) == []
    assert len(policy.examples) >= 12
    assert [outcome for outcome in run_examples(policy, NOW) if not outcome.passed] == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("when: {text: [angry]}", "when: {}", "rule several_sources can never match: upset_cust"),
        ("{ambiguity_from: 0.6}", "{blast_radius: [high], ambiguity_from: 0.6}", "unclear_input"),
        ("{complexity_from: 5}", "{ambiguity_from: 0.7}", "very_complex can never match: unclear"),
        ("[sim-small, sim-small-b]", "[sim-small]", "model sim-small-b is in no tier"),
        ("as_of: 2026-11-01", "as_of: 2026-01-01", "price of sim-small is from 2026-01-01"),
        (
            "{input: 0.10,",
            "{input: 0.10, cache_write: 0.20, cache_write_1h: 0.15,",
            "price of sim-small: to cache for an hour costs less",
        ),
        ("    format: label\n", "", "format label is used by no task"),
        ("law: policy_question, ", "", "speaks_of leaves out law"),
        ("{provider: simulated,", "{provider: simulatd,", "is it simulated?"),
        ("request: {task: critique", "request: {task: general", "task critique has no example"),
        (
            "    tier: premium\n    risk: risky",
            "    tier: balanced\n    risk: risky",
            "task critique is risky",
        ),
        (
            "    tier: premium\n    risk: risky",
            "    tier: premium\n    risk: risky\n    backup: sim-large-b",
            "task critique allows no other model to stand in unseen",
        ),
        (
            "    format: label\n    reason",
            "    format: label\n    models: [sim-large]\n    reason",
            "task classification: sim-large costs more than sim-medium of balanced",
        ),
    ],
)
def test_a_probable_mistake_is_told(old, new, words):
    assert any(words in warning for warning in lint(policy_with(old, new), TODAY))


@pytest.mark.parametrize(
    "when",
    ["{ambiguity_from: 0.5}", "{text: [angry, urgent]}", "{plans: [free], text: [angry]}"],
)
def test_a_rule_that_can_still_match_is_left_alone(when):
    policy = policy_with("when: {ambiguity_from: 0.6}", f"when: {when}")
    warnings = " ".join(lint(policy, TODAY))

    assert ("unclear_input can never" in warnings) == (when == "{plans: [free], text: [angry]}")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "tier: low, rule: clear_small_job",
            "tier: premium",
            "expected premium by any rule, got low",
        ),
        (
            "tier: low, rule: clear_small_job",
            "tier: low, rule: nope",
            "expected low by nope, got low",
        ),
        ("request: {task: rewrite", "request: {tsk: 1, task: 7", "task"),
        ("request: {task: critique, plan: internal", "request: {task: critique, plan: free", "low"),
        (
            "classified_as: general",
            "classified_as: general, rule: nope",
            "got balanced by high_bla",
        ),
        (
            "tier: balanced, task: billing_dispute",
            "tier: balanced, task: general",
            "task billing_dispute, not general",
        ),
        (
            "task: billing_dispute, approval: person}",
            "task: billing_dispute, approval: person_first}",
            "approval person, not person_first",
        ),
    ],
)
def test_an_example_that_fails_says_what_was_found(old, new, words):
    failed = [outcome for outcome in run_examples(policy_with(old, new), NOW) if not outcome.passed]

    assert len(failed) == 1
    assert words in failed[0].detail


def test_the_table_has_a_full_row_for_every_task():
    policy = load_policy(SHIPPED, "routing.yaml")
    rows = table_rows(policy)

    assert [row["task"] for row in rows] == list(policy.tasks)
    assert all(all(row.values()) for row in rows)


def test_the_table_names_the_first_model_and_its_backup():
    policy = load_policy(SHIPPED, "routing.yaml")
    row = next(row for row in table_rows(policy) if row["task"] == "support_answer")

    assert row["model"] == "sim-medium (balanced)"
    assert row["backup"] == "sim-medium-b"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"task": "triage"}, "triage goes to low (sim-small) by clear_small_job"),
        ({"task": "support_answer", "plan": "enterprise"}, "may climb to premium"),
        ({"task": "support_answer"}, "does not climb"),
        ({"task": "critique", "plan": "enterprise"}, "may climb to premium"),
        ({"task": "critique", "plan": "enterprise"}, "Away from its task's own tier by: plan."),
        (
            {"task": "triage", "complexity": 5, "ambiguity": 0.5},
            "own tier by: task_complexity, plan.",
        ),
        ({"task": "general", "input": "I want a refund"}, "waits for a person to approve it"),
        ({"task": "critique", "plan": "internal"}, "premium needs a justification"),
        ({}, "to be classified first"),
        ({"task": "triage", "deadline": "2020-01-01T00:00:00Z"}, "A person decides"),
        ({"task": "triage", "plan": "free", "input": "word " * 9_000}, "over the plan's limit"),
        ({"task": "triage", "ambiguity": 0.2}, "(estimated: blast_radius, complexity)"),
    ],
)
def test_a_route_is_explained_in_a_sentence(fields, words):
    assert words in explained(**fields)


def test_without_its_justification_an_internal_request_does_not_climb_to_premium():
    fields = {"task": "support_answer", "plan": "internal"}

    assert "does not climb" in explained(**fields)
    assert "may climb to premium" in explained(**fields, justification="board paper")


def test_the_policy_is_shown_as_a_product_manager_asks_for_it():
    policy = load_policy(SHIPPED, "routing.yaml")
    shown = " ".join(str(section) for section in sections(policy))

    for name, task in policy.tasks.items():
        assert all(words in shown for words in (name, task.trigger, task.reason, task.owner))
    for tier, row in policy.tiers.items():
        assert f"{tier.capitalize()}: {row.job}" in shown
        assert f"Asks {', then '.join(row.models)}" in shown
        assert (
            f"'tier': <Tier.{tier.name}: '{tier}'>, 'task': '', 'publishes from': {row.accept}"
            in shown
        )
    for rule in policy.rules:
        assert rule.name in shown
        assert rule.reason in shown
    for name, plan in policy.plans.items():
        assert f"{name}', 'what it allows': '{plan.says}" in shown
    for model in policy.models.values():
        assert f"'input': Decimal('{model.price.input}')" in shown
    assert "'health', 'what counts': 'a person approves the answer'" in shown
    assert "'money', 'what counts': 'billing_dispute, unless the task" in shown


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("slots: 5", "has 5 calls at once at most, in each process."),
        ("overflow: balanced", "goes to balanced when its tier cannot take it in time."),
        ("breaker: own", "has failures of its own put models out for it alone."),
        ("deadline: 6h", "is given 6h."),
    ],
)
def test_what_a_task_has_beside_its_tier_is_shown(fields, words):
    reason = "    reason: a person reads it next to the thread"
    policy = policy_with(reason, f"    {fields}\n{reason}")
    [beside] = [section for section in sections(policy) if section.name == "beside"]
    rows = {row["task"]: row["what it says"] for row in beside.rows}

    assert rows["brief"].endswith(words)
    assert "a wrong answer, $0.05, has 20% of its requests climb" in rows["batch_enrichment"]
    assert "rewrite" not in rows


def test_how_often_the_policy_is_reviewed_is_said():
    assert lead(load_policy(SHIPPED, "routing.yaml")).endswith(" It is reviewed every 7d.")


def test_a_task_whose_backup_is_not_its_tiers_says_so():
    text = SHIPPED.replace("[sim-medium, sim-medium-b]", "[sim-medium, sim-large-b, sim-medium-b]")
    policy = load_policy(text.replace("[sim-large, sim-large-b]", "[sim-large]"), "routing.yaml")
    shown = " ".join(section.note for section in sections(policy))

    assert "support_answer sim-medium, then sim-medium-b, then sim-large-b" in shown
    assert "rag_answer " not in shown


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "as agreed: starts at low at most and goes no higher than premium."),
        ({"start": "low"}, "as agreed: starts at low at least, starts at low at most and goes"),
        ({"ceiling": "low"}, "as agreed: goes no higher than low."),
        ({"justify_above": "low"}, "higher than premium and needs a justification above low."),
        (
            {"context": {"history": 2000, "total": 6000}},
            "and takes 2,000 history and 6,000 total tokens at most.",
        ),
        (
            {"context": {"history": 2000, "total": 6000, "over": {"history": "trim"}}},
            "2,000 history (over it, the oldest is left out) and 6,000 total tokens at most.",
        ),
    ],
)
def test_a_plan_is_a_sentence(fields, words):
    given = {"says": "as agreed", "start_at_most": "low", "ceiling": "premium", **fields}

    assert words in plan_words(Plan.model_validate(given))


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({"tasks": ["triage", "rewrite", "brief"]}, "the task is triage, rewrite or brief"),
        ({"plans": ["free"]}, "the plan is free"),
        ({"blast_radius": ["high"]}, "the blast radius is high"),
        ({"risk": ["risky", "unclear"]}, "the task's risk is risky or unclear"),
        ({"ambiguity_below": 0.3}, "the ambiguity is below 0.3"),
        ({"ambiguity_from": 0.6}, "the ambiguity is 0.6 or more"),
        ({"complexity_at_most": 2}, "the complexity is 2 or less"),
        ({"complexity_from": 4}, "the complexity is 4 or more"),
        ({"context_tokens_from": 900}, "it has 900 tokens or more"),
        ({"text": ["several_sources"]}, "the text shows several sources"),
        ({"deadline_within": "90s"}, "no more than 1m30s is left until its deadline"),
        (
            {"plans": ["free"], "complexity_from": 4, "text": ["angry"]},
            "the plan is free, the complexity is 4 or more and the text shows angry",
        ),
    ],
)
def test_a_rule_is_a_sentence(when, words):
    rule = Rule.model_validate({"name": "one", "when": when, "tier": "low", "reason": "it is so"})
    assert rule.when.asked is not None  # once asked for, it is kept in the model

    assert rule_words(rule) == f"When {words}, a request starts at least at low: it is so."


def test_every_condition_has_its_words():
    assert {*When.model_fields} == {*explain._CONDITIONS}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Every request starts where its task says: it is so."),
        ({"tier": "low", "sets": "at_most"}, "Every request starts at most at low: it is so."),
        ({"tier": "low", "sets": "exactly"}, "Every request starts at low: it is so."),
        ({"approval": "person"}, "A person approves the answer: it is so."),
        (
            {"tier": "low", "sets": "exactly", "approval": "person_first"},
            "Every request starts at low and a person has the request before any model: it is so.",
        ),
    ],
)
def test_a_rule_without_conditions_is_about_every_request(fields, words):
    assert rule_words(Rule(name="one", when=When(), reason="it is so", **fields)) == words


def test_thresholds_are_those_of_tiers_and_of_tasks_that_differ():
    rows = threshold_rows(load_policy(SHIPPED, "routing.yaml"))

    assert [tuple(row.values())[:3] for row in rows] == [
        ("low", "", 0.75),
        ("balanced", "", 0.7),
        ("premium", "", 0.6),
        ("balanced", "rag_answer", 0.75),
    ]
    assert all(row["how it came about"] for row in rows)


def test_a_name_that_the_policy_does_not_have_is_told_with_what_counts_instead():
    policy = load_policy(SHIPPED, "routing.yaml")

    assert list(unknown_names(policy, task="triage", plan=None)) == []
    task, plan = unknown_names(policy, task="triag", plan="gold")
    assert task.startswith("the policy has no task 'triag': it counts as untagged")
    assert "triage" in task
    assert plan.startswith("the policy has no plan 'gold': the plan standard counts")
