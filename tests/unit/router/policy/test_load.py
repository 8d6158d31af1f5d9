"""A policy is read whole or refused whole, with every mistake's line and the nearest name."""

import time
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import PolicyError
from router.policy.load import load_policy
from schemas.base import Tier
from tests.builders import NOON

SHIPPED = (Path(__file__).parents[4] / "deploy/policy/routing.yaml").read_text(encoding="utf-8")
ACCEPT = "accept: 0.75}"
CONTEXT = "context_tokens: 16000"
PRICE = "input: 0.10"
OVER, OVER_USER = "over: {history: trim", "over: {user: trim"


def problems_of(text: str):
    with pytest.raises(PolicyError) as caught:
        load_policy(text, "routing.yaml")
    return caught.value.problems


def edited(old: str, new: str) -> str:
    assert old in SHIPPED
    return SHIPPED.replace(old, new, 1)


def line_of(text: str, words: str) -> int:
    return text[: text.index(words)].count("\n") + 1


def test_no_deadline_is_later_than_any_request_may_have():
    policy = load_policy(SHIPPED, "routing.yaml")
    latest = NOON + policy.longest_deadline
    for asked, bounded in ((latest + timedelta(days=9), latest), (NOON, NOON)):
        assert policy.bounded(asked, NOON) == bounded


def test_the_shipped_policy_is_read():
    policy = load_policy(SHIPPED, "routing.yaml")

    assert set(policy.tiers) == set(Tier)
    assert policy.default_plan in policy.plans


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "empty"),
        ("# only a comment\n", 1, "empty"),
        ("- a\n- b\n", 1, "fields"),
        ("a: [1\nb: 2\n", 2, "not YAML"),
        ("a:\n\tb: 1\n", 2, "not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ('a: "\0"', 1, "not YAML"),
        ('a: "\ud800"', 1, "not YAML"),
        ("a: &x 1\n", 1, "anchors"),
        ("a: 1\nb: *x\n", 2, "anchors"),
        ("a: &a [*a]\n", 1, "anchors"),
        ("a: 1\n? [b]\n: 1\n", 2, "a key must be a word"),
        ("a: " + "[" * 200_000, 1, "24 levels"),
        ("".join(f"{' ' * depth}a:\n" for depth in range(300)), 25, "24 levels"),
    ],
)
def test_text_that_is_no_plain_yaml_is_refused_with_its_line(text, line, words):
    problem = problems_of(text)[0]

    assert problem.line == line
    assert words in problem.message


def test_an_alias_bomb_is_refused_at_once():
    row = ",".join(["*a"] * 9)
    bomb = "a0: &a0 [x]\n" + "".join(
        f"a{n}: &a{n} [{row.replace('*a', f'*a{n - 1}')}]\n" for n in range(1, 30)
    )
    started = time.perf_counter()
    problems = problems_of(bomb)

    assert time.perf_counter() - started < 0.05
    assert "anchors" in problems[0].message


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir",
        "!!python/name:os.system",
        "!!int",
        "!!binary",
        "!ours",
        "!",
    ],
)
def test_tags_are_refused_and_nothing_is_constructed(tag, tmp_path):
    marker = tmp_path / "made"
    problem = problems_of(f"name: x\nowner: {tag} ['{marker}']\n")[0]

    assert problem.line == 2
    assert "tag" in problem.message
    assert not marker.exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\nversion:", "\nname: other\nversion:"),
        ("\nversion:", '\n"name": other\nversion:'),
        (ACCEPT, "accept: 0.75, accept: 0.9}"),
        ("  triage:\n", "  classification: {}\n  triage:\n"),
    ],
)
def test_a_key_named_twice_is_refused(old, new):
    assert any(
        "named twice; first on line" in problem.message for problem in problems_of(edited(old, new))
    )


@pytest.mark.parametrize("value", ["no", "YES", "off", "n", "True", "NULL", ".nan", "-.inf", "NaN"])
@pytest.mark.parametrize("field", [ACCEPT, CONTEXT, "approval: person"])
def test_words_that_yaml_reads_as_something_else_are_refused(field, value):
    text = edited(field, f"{field.partition(':')[0]}: {value}{'}' if field == ACCEPT else ''}")

    assert "could mean several things" in problems_of(text)[0].message


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("yes", "write true or false"),
        (".nan", "a finite number was expected"),
        ("12:30:00", "a duration is written 30s, 15m or 6h"),
        ("1_000", "write a number plainly, for example 1000"),
        ("1.5", "at most 1 was expected; found 1.5"),
        ("high", "a number was expected; found 'high'"),
    ],
)
def test_a_wrong_threshold_is_told_what_was_expected(value, words):
    text = edited(ACCEPT, f"{ACCEPT.partition(':')[0]}: {value}}}")

    assert words in problems_of(text)[0].message


@pytest.mark.parametrize(
    "value",
    [
        "12:30:00",
        "1_000",
        "0x10",
        "0o17",
        "017",
        "+5",
        "1e3",
        "16000.0",
        '"16000"',
        "true",
        "null",
        "0",
        "-1",
        "9" * 30,
        "[1]",
        "{}",
        "16000 tokens",
    ],
)
def test_a_count_is_a_plain_whole_number(value):
    text = edited(CONTEXT, f"context_tokens: {value}")

    assert problems_of(text)[0].line == line_of(text, "  sim-small:")


@pytest.mark.parametrize(
    "value",
    [
        ".nan",
        ".inf",
        "-.inf",
        "nan",
        '"nan"',
        "inf",
        "1.0e999",
        "-0.1",
        "-1",
        "1.01",
        "7",
        '"0.5"',
        "",
        "true",
        "0.5.0",
    ],
)
def test_a_threshold_lies_between_0_and_1(value):
    problem = problems_of(edited(ACCEPT, f"accept: {value}}}"))[0]

    assert problem.path == "tiers.low.accept"


@pytest.mark.parametrize(
    "value",
    [
        ".nan",
        '"nan"',
        '"sNaN"',
        '"inf"',
        '"-0.1"',
        "-1",
        "1.0e400",
        '"1e400"',
        "true",
        "null",
        "abc",
        '"\uff11"',
        "[1]",
        "cheap",
    ],
)
def test_a_price_is_a_number_of_dollars(value):
    problem = problems_of(edited(PRICE, f"input: {value}"))[0]

    assert problem.path == "models.sim-small.price.input"


@pytest.mark.parametrize(
    "value", ["120", "2 minutes", "2w", "0s", "-5s", "²m", "m", "1.5", "999999h", "-PT2M"]
)
def test_a_duration_names_its_unit(value):
    problem = problems_of(edited("deadline: 2m", f"deadline: {value}"))[0]

    assert problem.path == "tasks.triage.deadline"
    assert "for example 30s" in problem.message


LABEL = "tasks.classification"
ROW = f"{LABEL}.checks.0"


@pytest.mark.parametrize(
    ("old", "new", "path", "words"),
    [
        ("[sim-small,", "[sim-smal,", "tiers.low.models.0", "mean sim-small?"),
        ("[sim-small, sim-small-b]", "[]", "tiers.low.models", "at least 1"),
        ("[sim-medium, sim-medium-b]", "[sim-medium, sim-small]", "tiers.balanced.models.1", "low"),
        ("[sim-small, sim", "[sim-small, sim-small, sim", "tiers.low.models.1", "once"),
        ("  premium:  {job", "  premum:  {job", "tiers.premum", "mean premium?"),
        ("    tier: low", "    tier: lo", "tasks.classification.tier", "mean low?"),
        ("balanced: 0.75", "balancd: 0.75", "tasks.rag_answer.accept.balancd", "mean balanced?"),
        (
            "failure_limit: 2",
            "failure_limt: 2",
            "tasks.batch_enrichment.failure_limt",
            "failure_limit",
        ),
        ("ambiguity_below: 0.3", "ambiguity_belw: 0.3", "rules.2.when.ambiguity_belw", "_below"),
        ("format: label", "format: labl", "tasks.classification.format", "mean label?"),
        ("format: label", "checks: [schma]", "tasks.classification.checks.0", "mean schema?"),
        ("format: label", "checks: [empty, empty]", "tasks.classification.checks.1", "twice"),
        ("format: label", "checks: [{lenght: {}}]", ROW, "mean length?"),
        (
            "format: label",
            "checks: [{length: {most_wrds: 9}}]",
            f"{ROW}.length.most_wrds",
            "_words",
        ),
        (
            "format: label",
            "checks: [{length: {most_words: x}}]",
            f"{ROW}.length.most_words",
            "a whole number was expected; found 'x'",
        ),
        ("format: label", "checks: [{length: }]", f"{ROW}.length", "at least one limit"),
        ("format: label", "checks: [required]", f"{ROW}.required", "phrases or when"),
        ("format: label", "checks: [{empty: , schema: }]", ROW, "one check's name"),
        ("format: label", "checks: [{empty: {most: 1}}]", f"{ROW}.empty.most", "not a field"),
        (
            "format: label",
            "checks: [{language: {must_be: eng}}]",
            f"{ROW}.language.must_be",
            "mean en?",
        ),
        ("format: label", "checks: [3]", ROW, "one check's name"),
        (
            "format: label",
            "format: label\n    agreement: {fields: [labl]}",
            "tasks.classification.agreement.fields.0",
            "mean label?",
        ),
        (
            "format: label",
            "format: label\n    agreement: {samples: 3, fields: [label]}",
            "tasks.classification.agreement.samples",
            "low has 2 models",
        ),
        (
            "format: label",
            "format: label\n    verify: {tier: premum}",
            "tasks.classification.verify.tier",
            "mean premium?",
        ),
        (
            "backup: sim-medium-b",
            "backup: sim-large",
            "tasks.support_answer.backup",
            "balanced tier",
        ),
        (
            "unknown_outcome: park",
            "unknown_outcome: prk",
            "tasks.billing_dispute.unknown_outcome",
            "park",
        ),
        (
            "format: label",
            "format: label\n    models: [sim-smal]",
            f"{LABEL}.models.0",
            "sim-small?",
        ),
        (
            "format: label",
            "format: label\n    models: [sim-small, sim-small]",
            f"{LABEL}.models.1",
            "named twice",
        ),
        ("format: label", "format: label\n    overflow: low", f"{LABEL}.overflow", "another tier"),
        ("format: label", "format: label\n    overflow: tap", f"{LABEL}.overflow", "no tier"),
        ("classified_as: general", "classified_as: g", "examples.21.classified_as", "no task"),
        (
            "approval: person\n    reason: the",
            "approval: persn\n    reason: the",
            "rules.8.approval",
            "mean person?",
        ),
        ("{task: rewrite,", "{task: rewrit,", "examples.3.request.task", "mean rewrite?"),
        ("default_plan: standard", "default_plan: standrd", "default_plan", "mean standard?"),
        ("otherwise: general", "otherwise: generl", "classify.otherwise", "mean general?"),
        ("name: risky_words", "name: high_blast_radius", "rules.1.name", "two rules"),
        ("text: [angry]", "text: [angri]", "rules.4.when.text.0", "mean angry?"),
        ("text: [angry]", "plans: [fre]", "rules.4.when.plans.0", "mean free?"),
        ("[summarization,", "[summarisation,", "rules.3.when.tasks.0", "mean summarization?"),
        (CONTEXT, "context_tokens: 500", "models.sim-small.context_tokens", "max_output_tokens"),
        ("escalations: 2", "escalations: 1", "tasks.extraction.escalation", "climbs 2 times"),
        (
            "as_of: 2026-11-01",
            "as_of: 2026-13-45",
            "models.sim-small.price.as_of",
            "year-month-day",
        ),
        ("start_at_most: low", "start_at_most: balanced", "plans.free.ceiling", "below"),
        (
            "    start_at_most: low",
            "    start: premium\n    start_at_most: low",
            "plans.free.start",
            "above",
        ),
        ("  classify: #", "  clasify: #", "classify", "format named classify"),
    ],
)
def test_a_wrong_reference_names_its_place_and_the_nearest_name(old, new, path, words):
    text = edited(old, new)
    by_path = {problem.path: problem for problem in problems_of(text)}

    assert words in by_path[path].message
    assert by_path[path].line > 1
    assert (
        by_path[path].at("routing.yaml").startswith(f"routing.yaml:{by_path[path].line}: {path}: ")
    )


def test_a_model_without_a_price_is_refused():
    start = SHIPPED.index("  price: {")
    text = SHIPPED[:start] + SHIPPED[SHIPPED.index("}", start) + 1 :]
    problem = problems_of(text)[0]

    assert (problem.path, problem.message) == ("models.sim-small.price", "is required and missing")


@pytest.mark.parametrize(
    "schema",
    [
        "{type: strin}",
        '{type: string, pattern: "("}',
        '{$ref: "#/nowhere"}',
        '{$ref: "http://localhost:1/a.json"}',
        '{$ref: "file:///etc/hostname"}',
    ],
)
def test_a_format_is_a_json_schema_whole_in_itself(schema):
    problem = problems_of(edited("answer: {type: string, minLength: 1}", f"answer: {schema}"))[0]

    assert problem.path == "formats.answer"


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines():
    text = edited(ACCEPT, "accept: 7}").replace("failure_limit: 2", "failure_limit: 0")
    text = text.replace("owner: finance", "ownr: finance")
    problems = problems_of(text)

    assert len(problems) == 4
    assert [problem.line for problem in problems] == sorted(problem.line for problem in problems)


@given(st.sampled_from(Tier), st.lists(st.sampled_from(Tier), max_size=4))
def test_an_escalation_path_is_accepted_exactly_when_it_climbs(first, path):
    steps = [tier.rank for tier in (first, *path)]
    climbs = all(low < high for low, high in pairwise(steps))
    text = edited(
        "tier: low\n    escalation: [balanced]\n    format: label",
        f"tier: {first}\n    escalation: [{', '.join(path)}]\n    format: label",
    )
    if climbs:
        assert load_policy(text, "routing.yaml").tasks["classification"].escalation == path
    else:
        paths = {problem.path for problem in problems_of(text)}
        assert any(path.startswith("tasks.classification.escalation") for path in paths)


@given(st.text() | st.text(alphabet="ab:{}[]&*!|>-#\n '\"0123456789.,?%@"))
def test_no_text_whatsoever_is_answered_with_anything_but_problems(text):
    assert problems_of(text)


@pytest.mark.parametrize(
    ("old", "new", "path", "words"),
    [
        (
            "    reason: a wrong label",
            "    worth: 2\n    reason: a wrong label",
            "tasks.classification.worth",
            "`right` must say how often low and balanced is right",
        ),
        (
            "    reason: a wrong label",
            "    worth: 2\n    right: {low: 0.9, source: a test}\n    reason: a wrong label",
            "tasks.classification.worth",
            "how often balanced is right",
        ),
        (OVER, f"{OVER_USER}, history: trim", "plans.free.context.over.user", "has no limit"),
        ("history: 2000,", "history: 2000, user: 9,", "plans.free.context.over.user", "trimmed"),
        (OVER, "over: {histroy: trim", "plans.free.context.over.histroy", "did you mean history"),
    ],
)  # fmt: skip
def test_what_a_climb_or_a_limit_lacks_is_named(old, new, path, words):
    text = edited(old, new)
    if "user: 9" in new:
        text = text.replace(OVER, f"{OVER_USER}, history: trim")

    [problem] = problems_of(text)
    assert problem.path == path
    assert words in problem.message
