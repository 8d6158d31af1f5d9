"""`tierline prompts`: what models are told, examples as tests, and what changes after a lock."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tierline(tierline: Run, monkeypatch, tmp_path) -> Run:
    """Runs commands where `deploy` is a copy of what is shipped."""
    for name in ("policy", "prompts"):
        shutil.copytree(ROOT / "deploy" / name, tmp_path / "deploy" / name)
    (tmp_path / "deploy/policy/versions.lock").unlink()  # this is about prompts
    monkeypatch.chdir(tmp_path)
    return tierline


def edit(file: str, old: str, new: str) -> None:
    path = Path("deploy") / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_person_sees_what_a_model_is_told(tierline):
    code, out, _ = tierline("prompts", "show", "triage", "--tier", "low")

    assert code == 0
    assert "triage@1+default_low@1" in out
    assert "Decide which team takes this message" in out


def test_without_a_classify_step_its_prompt_is_not_tested(tierline):
    policy = Path("deploy/policy/routing.yaml")
    lines = policy.read_text(encoding="utf-8").splitlines()
    begins = lines.index("classify:")
    ends = lines.index("", begins)
    policy.write_text("\n".join(lines[:begins] + lines[ends:]), encoding="utf-8")

    code, _, error = tierline("prompts", "test", "classify")
    assert code != 0
    assert "the policy has no classify step" in error
    code, out, error = tierline("prompts", "test")
    assert "unexpected" not in out + error


@pytest.mark.parametrize("name", ["classify", "verify"])
def test_prompts_of_other_steps_are_shown_too(tierline, name):
    _, out, _ = tierline("prompts", "show", name, "--json")

    assert [one["tier"] for one in json.loads(out)] == ["low", "balanced", "premium"]


def test_every_shipped_prompt_passes_its_own_examples_at_every_tier(tierline):
    code, out, _ = tierline("prompts", "test", "--json")
    told = json.loads(out)

    assert (code, told["ok"], told["problems"]) == (0, True, [])
    shown = {(one["folder"], one["tier"]) for one in told["tried"]}
    assert len(shown) == 3 * 18
    assert {one["found"] for one in told["tried"]} >= {"accepted", "refusal", "cut_off"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        pytest.param(
            "expect: schema_validation_failure",
            "expect: refusal",
            "examples.yaml:11: low: refusal was expected, found schema_validation_failure",
            id="another reason",
        ),
        pytest.param(
            "{team: account_access, urgent: true}",
            "{team: bug}",
            "examples.yaml:1: low: team is 'account_access'; 'bug' was expected",
            id="another output",
        ),
        pytest.param("most_tokens: 450", "most_tokens: 45", "45 are the most", id="a long prompt"),
        pytest.param(
            "An angry tone", "A calm tone", "does not hold 'A calm tone", id="a rule gone"
        ),
        pytest.param(
            "most_tokens: 450",
            "prompt_lacks: [Urgent means]",
            "the prompt holds 'Urgent means'",
            id="a rule too many",
        ),
        pytest.param("expect: schema", "expect: schemas", "did you mean schema_val", id="a reason"),
        pytest.param("most_tokens", "most_token", "examples.yaml:6: most_token: ", id="a field"),
        pytest.param("- says: a lost", "- says: ab\n- says: a lost", "request: Field req", id="no"),
        pytest.param("request: {input: ", "request: {inputs: ", "input: ", id="no request"),
    ],
)
def test_an_example_that_fails_says_where_and_what(tierline, old, new, words):
    edit("prompts/triage/examples.yaml", old, new)

    code, out, err = tierline("prompts", "test", "triage")

    assert code == 1
    assert words in out + err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("test",), "deploy/prompts/triage/contract.yaml:1: no example for balanced, premium"),
        (("test", "triage", "--tier", "premium"), "triage/contract.yaml:1: no example for premium"),
    ],
)
def test_a_variant_in_use_without_an_example_is_a_problem(tierline, arguments, words):
    path = Path("deploy/prompts/triage/examples.yaml")
    first = path.read_text(encoding="utf-8").split("\n- ")[0]
    path.write_text(f"{first}\n  tiers: [low]\n", encoding="utf-8")

    code, out, _ = tierline("prompts", *arguments)

    assert code == 1
    assert words in out


def test_a_prompt_that_is_not_there_is_named(tierline):
    assert "did you mean triage?" in tierline("prompts", "test", "triages")[2]
    assert "it has low, balanced, premium" in tierline("prompts", "show", "brief", "--tier", "x")[2]


def test_a_real_model_may_be_asked_the_same(tierline):
    code, out, _ = tierline("prompts", "test", "triage", "--tier", "premium", "--live", "--json")
    told = json.loads(out)

    live = [one for one in told["tried"] if one["says"].endswith("(sim-large)")]
    assert len(live) == 2
    assert told["cost_micros"] > 0
    assert (code == 0) == all(one["passed"] for one in told["tried"])


TEXT = ("An angry tone alone is not urgent.", "Anger is not urgent.")
CONTRACT = ("prompts/triage/contract.yaml", "version: 1", "version: 2")
FORMAT = ("policy/routing.yaml", "sales, how_to, account_access]", "sales, how_to]")
MODEL = ("policy/routing.yaml", "id: sim-small, ", "id: sim-smaller, ")


@pytest.mark.parametrize(
    ("edits", "error"),
    [
        pytest.param([], "", id="nothing"),
        pytest.param(
            [("prompts/triage/contract.yaml", *TEXT)],
            "triage/contract.yaml:1: the text has changed since version 1; raise the version",
            id="a text",
        ),
        pytest.param(
            [("prompts/triage/contract.yaml", *TEXT), CONTRACT], "", id="with its version"
        ),
        pytest.param(
            [("prompts/_default/low.j2", "Do this one thing", "Do one thing")],
            "_default/contract.yaml:5: low.j2 has changed since version 1; raise the version",
            id="a variant",
        ),
        pytest.param(
            [FORMAT],
            "triage/contract.yaml:1: the format triage has changed since version 1; raise it",
            id="a format",
        ),
        pytest.param([FORMAT, CONTRACT], "", id="a format with its prompt's version"),
        pytest.param([MODEL], "", id="a model"),
        pytest.param(
            [("prompts/triage/contract.yaml", "format: triage", "format: label"), CONTRACT],
            "it was written for label, and the task's format is triage",
            id="another format",
        ),
    ],
)
def test_what_changes_after_a_lock_has_a_version_of_its_own(tierline, edits, error):
    tierline("prompts", "lock")
    for one in edits:
        edit(*one)

    code, out, _ = tierline("policy", "check")

    assert code == (1 if error else 0)
    assert error in out
    assert "together" not in out


def test_what_was_released_does_not_go_back(tierline):
    edit(*CONTRACT)
    assert tierline("prompts", "lock")[0] == 0
    edit(CONTRACT[0], CONTRACT[2], CONTRACT[1])

    assert "version 1 is lower than 2, which was released" in tierline("policy", "check")[1]


@pytest.mark.parametrize(
    ("edits", "together"),
    [
        ([CONTRACT, (CONTRACT[0], *TEXT), FORMAT], "prompt and format"),
        ([CONTRACT, (CONTRACT[0], *TEXT), MODEL], "prompt and models"),
        ([CONTRACT, FORMAT, MODEL], "format and models"),
    ],
)
def test_prompt_model_and_format_are_changed_one_at_a_time(tierline, edits, together):
    tierline("prompts", "lock")
    for one in edits:
        edit(*one)

    code, out, _ = tierline("policy", "check", "--json")
    told = json.loads(out)

    assert (code, told["errors"]) == (0, [])
    [warning] = told["warnings"]
    assert warning.startswith(f"task triage: its {together} have changed together")


@pytest.mark.parametrize(
    ("edited", "words"),
    [
        pytest.param(("prompts/triage/contract.yaml", *TEXT), "raise the version", id="a version"),
        pytest.param(FORMAT, "triage/examples.yaml:1: ", id="an example that fails"),
    ],
)
def test_only_what_is_tried_and_versioned_is_locked(tierline, edited, words):
    tierline("prompts", "lock")
    before = Path("deploy/prompts/versions.lock").read_text(encoding="utf-8")
    edit(*edited)

    code, _, err = tierline("prompts", "lock")

    assert code == 1
    assert words in err
    assert Path("deploy/prompts/versions.lock").read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda file: file.write_text(
                file.read_text(encoding="utf-8").replace("- says: ", "- says: again, ", 1),
                encoding="utf-8",
            ),
            id="another example",
        ),
        pytest.param(Path.unlink, id="none any more"),
    ],
)
def test_examples_that_changed_after_a_lock_are_told_and_locked_again(tierline, change):
    tierline("prompts", "lock")
    assert "its examples" not in tierline("policy", "check")[1]
    change(Path("deploy/prompts/triage/examples.yaml"))

    code, out, _ = tierline("policy", "check", "--json")

    told = "prompt triage: its examples have changed since the last lock"
    assert json.loads(out)["warnings"] == [told]
    assert code == 0
    if tierline("prompts", "lock")[0] == 0:
        assert json.loads(tierline("policy", "check", "--json")[1])["warnings"] == []


def test_a_lock_of_before_says_nothing_of_examples(tierline):
    tierline("prompts", "lock")
    lock = Path("deploy/prompts/versions.lock")
    lines = lock.read_text(encoding="utf-8").splitlines(keepends=True)
    lock.write_text("".join(one for one in lines if "examples" not in one), encoding="utf-8")

    assert json.loads(tierline("policy", "check", "--json")[1])["warnings"] == []


def test_prompts_without_a_lock_are_told_with_what_writes_it(tierline):
    Path("deploy/prompts/versions.lock").unlink()

    code, out, _ = tierline("policy", "check", "--json")
    [warning] = json.loads(out)["warnings"]
    assert code == 0
    assert "deploy/prompts/versions.lock is missing" in warning
    assert "`tierline prompts lock` writes it" in warning

    assert tierline("prompts", "lock")[0] == 0
    assert json.loads(tierline("policy", "check", "--json")[1])["warnings"] == []


def test_another_policy_is_not_held_against_the_prompts_in_use(tierline, tmp_path):
    other = shutil.copy("deploy/policy/routing.yaml", tmp_path / "other.yaml")
    tierline("prompts", "lock")
    edit(*FORMAT)

    assert tierline("policy", "check", str(other))[0] == 0
