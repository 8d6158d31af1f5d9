"""`tierline policy`: exit codes, machine-readable answers, and no traceback for a mistake."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import pytest

from consumers.cli import terminal
from consumers.cli.formats import Terminal
from router.checks import CHECKS
from router.policy.yaml_text import read_yaml

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "deploy/policy/routing.yaml"


def a_file(folder: Path, content: bytes | str) -> str:
    file = folder / "p.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)


def test_the_shipped_policy_passes_its_check(tierline):
    code, out, _ = tierline("policy", "check", str(SHIPPED))

    assert code == 0
    assert re.search(r"(\d+) of \1 examples pass", out)
    assert (
        "note: plan free (low tier only, shorter context): a person is next when low fails" in out
    )


def test_a_check_tells_the_budget_domain_of_each_cap(tierline):
    code, out, _ = tierline("policy", "check", str(ROOT / "deploy/presets/one_budget.yaml"))

    assert code == 0
    assert "note: cap everything belongs to one budget domain of all" in out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe\x00", "not UTF-8"),
        ("a: ]", "p.yaml:1: not YAML"),
        ("name: no\n", "p.yaml:1: name: 'no' could mean several things"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_1(tierline, tmp_path, content, words):
    code, out, err = tierline("policy", "check", a_file(tmp_path, content))

    assert (code, out) == (1, "")
    assert words in err
    assert "Traceback" not in err


def test_problems_are_told_to_machines_too(tierline, tmp_path):
    code, out, _ = tierline("policy", "check", "--json", a_file(tmp_path, "a: 1\na: 2\n"))
    told = json.loads(out)

    assert (code, told["ok"]) == (1, False)
    assert told["problems"][0]["line"] == 2


def test_a_failed_example_fails_the_check(tierline, tmp_path):
    text = SHIPPED.read_text(encoding="utf-8").replace(
        "tier: low, rule: classify}", "tier: premium}"
    )
    code, out, _ = tierline("policy", "check", "--json", a_file(tmp_path, text))
    told = json.loads(out)

    assert (code, told["ok"], len(told["failed"])) == (1, False, 1)


def test_a_missing_file_is_named(tierline, tmp_path):
    code, _, err = tierline("policy", "show", str(tmp_path / "none.yaml"))

    assert code == 1
    assert "none.yaml: No such file" in err


@pytest.mark.parametrize("width", [80, 200])
def test_the_policy_is_read_in_two_minutes_at_any_width(tierline, monkeypatch, width):
    wide = partial(Terminal, width=width)
    monkeypatch.setattr(terminal, "Terminal", lambda **_: wide(highlight=False))

    _, out, err = tierline("policy", "show", str(SHIPPED))
    _, whole, _ = tierline("policy", "show", "--json", str(SHIPPED))

    assert "…" not in out
    assert max(map(len, out.splitlines())) <= width
    tasks = json.loads(whole)["tasks"]
    assert [task["task"] for task in tasks if task["task"] not in out] == []
    assert ("not shown at this width: reason" in err) == (width == 80)
    words = [word for word in out.split() if any(map(str.isalnum, word))]
    assert len(words) < 1_100  # tables are looked over faster than prose is read
    for heading in ("Low: takes the volume", "Rules", "Plans", "Prices", "Thresholds"):
        assert heading in out
    assert re.search(r"health +│ a person approves the answer", out)


def test_a_route_is_explained(tierline):
    fields = ("--task", "policy_question", "--blast-radius", "high", "--file", str(SHIPPED))
    code, out, _ = tierline("policy", "explain", "--json", *fields)
    told = json.loads(out)

    assert code == 0
    assert (told["tier"], told["rule"]) == ("balanced", "high_blast_radius")
    assert told["reason"] in told["words"]


@pytest.mark.parametrize(
    "wrong",
    [("--blast-radius", "huge"), ("--ambiguity", "2"), ("--task", "No Task"), ("--text", "")],
)
def test_a_wrong_signal_is_a_plain_mistake(tierline, wrong):
    code, _, err = tierline("policy", "explain", *wrong, "--file", str(SHIPPED))

    assert code in {1, 2}
    assert "Traceback" not in err
    assert "unexpected" not in err


def test_the_checks_are_listed_with_what_a_policy_may_set(tierline):
    code, out, _ = tierline("policy", "checks", "--json")

    rows = json.loads(out)["checks"]
    assert code == 0
    assert [row["check"] for row in rows] == list(CHECKS)
    assert "most_words" in {row["check"]: row["parameters"] for row in rows}["length"]


class TestCalibrate:
    LINE = '{"task": "triage", "tier": "low", "confidence": 0.8, "right": true}\n'

    def test_it_prints_the_lines_to_paste(self, tierline, tmp_path):
        file = a_file(tmp_path, self.LINE * 133 + "\n" + self.LINE.replace("low", "premium"))

        code, out, _ = tierline("policy", "calibrate", file, "--wrong", "0.02")
        assert code == 0
        assert "triage: accept: {low: 0.8}" in out
        assert "triage: accept_because: fitted to 134 judged answers with at most 0.02" in out

        code, out, _ = tierline("policy", "calibrate", file, "--json")
        told = json.loads(out)
        assert (code, told["accept"]) == (0, {"triage": {"low": 0.8}})
        assert [row["threshold"] for row in told["rows"]] == [0.8, None]
        assert [row["coverage"] for row in told["rows"]] == [1.0, None]

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "no",
            '{"task": "t", "tier": "top", "confidence": 0.8, "right": true}',
            '{"task": "t", "tier": "low", "confidence": 8, "right": true}',
            '{"task": "t", "tier": "low", "confidence": true, "right": true}',
            '{"task": "t", "tier": "low", "confidence": 0.8, "right": 1}',
        ],
    )
    def test_what_is_no_judged_answer_is_told_with_its_place(self, tierline, tmp_path, line):
        code, out, err = tierline("policy", "calibrate", a_file(tmp_path, line))

        assert (code, out) == (1, "")
        assert "is expected" in err
        assert "Traceback" not in err


def test_what_the_file_says_is_told_whole(tierline):
    _, told, _ = tierline("policy", "show", "--json", str(SHIPPED))
    assert json.loads(told)["policy"] == read_yaml(SHIPPED.read_text(encoding="utf-8"))[0]


def test_a_version_that_was_released_stands_for_one_content(tierline, tmp_path):
    """Examples and comments decide nothing; all else needs a version of its own."""
    text = SHIPPED.read_text(encoding="utf-8")
    file = a_file(tmp_path, text)
    assert tierline("policy", "lock", file)[0] == 0
    assert tierline("policy", "check", file)[0] == 0

    a_file(tmp_path, f"# first of all\n{text}".replace("says: triage stays low", "says: low"))
    assert tierline("policy", "check", file)[0] == 0

    a_file(tmp_path, text.replace("failure_limit: 2", "failure_limit: 3"))
    code, out, _ = tierline("policy", "check", file)
    version = re.findall(r'^version: "(.+)"', text, re.MULTILINE)[0]
    words = f"{file}:5: version: {version} was released with other content"
    assert (code, words in out) == (1, True)
    assert words in json.loads(tierline("policy", "check", "--json", file)[1])["errors"][0]
    code, _, err = tierline("policy", "lock", file)
    assert (code, "was released with other content" in err) == (1, True)

    newer = text.replace("failure_limit: 2", "failure_limit: 3").replace(
        f'version: "{version}"', 'version: "next"', 1
    )
    a_file(tmp_path, newer)
    assert tierline("policy", "check", file)[0] == 0
    assert tierline("policy", "lock", file)[0] == 0
    a_file(tmp_path, text.replace("failure_limit: 2", "failure_limit: 3"))
    assert tierline("policy", "check", file)[0] == 1  # the older one is not forgotten


def test_a_new_row_needs_its_reasons(tierline, tmp_path):
    """What, why, when to stop, how a wrong answer is seen, and a prompt: each with its line."""
    text = SHIPPED.read_text(encoding="utf-8")
    file = a_file(tmp_path, text)
    assert tierline("policy", "lock", file)[0] == 0

    task = "  sorting:\n    trigger: a list is to be sorted\n    tier: low\n"
    task += "    reason: it is easy\n    owner: data team\n"
    model = text[text.index("  sim-large-b:") : text.index("\ntiers:")].replace("-b", "-c")
    newer = text.replace("2026-12-01", "2026-12-02", 1).replace("rules:\n", f"{task}rules:\n", 1)
    newer = newer.replace("\ntiers:", f"{model}\ntiers:", 1).replace(
        "sim-large-b]", "sim-large-b, sim-large-c]"
    )
    a_file(tmp_path, newer)
    code, out, _ = tierline("policy", "check", file)
    at = newer[: newer.index("  sorting:")].count("\n") + 1
    assert code == 1
    for field in ("problem", "failure_limit", "checks", "format"):
        assert f"{file}:{at}: tasks.sorting.{field}: sorting is new: write" in out
    assert "models.sim-large-c.problem: sim-large-c is new: write its problem" in out
    code, _, err = tierline("policy", "lock", file)
    assert (code, "sorting is new" in err) == (1, True)

    vague = newer.replace(
        "    reason: it is easy", "    problem: sorting is slow\n    reason: it is easy"
    )
    a_file(tmp_path, vague)
    assert "tasks.sorting.problem" in tierline("policy", "check", file)[1]

    ready = vague.replace("sorting is slow", "sorting takes 2 s and should take less than 500 ms")
    ready = ready.replace(
        "    reason: it is easy",
        "    failure_limit: 2\n    checks: [empty, schema]\n    reason: easy",
    )
    ready = ready.replace(
        "{provider: simulated, id: sim-large-c,",
        "{problem: 1 s too slow, provider: simulated, id: sim-large-c,",
    )
    a_file(tmp_path, ready)
    out = tierline("policy", "check", file)[1]
    assert "tasks.sorting.format: sorting is new: write its prompt and examples" in out
    assert out.count("is new") == 1


def test_the_doctor_tells_of_a_version_that_stands_for_two_contents(
    tierline, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "deploy", "deploy")
    text = SHIPPED.read_text(encoding="utf-8")
    assert tierline("policy", "lock")[0] == 0
    Path("deploy/policy/routing.yaml").write_text(
        text.replace("failure_limit: 2", "failure_limit: 3"), encoding="utf-8"
    )

    code, out, _ = tierline("doctor", "--json", "--kafka", "127.0.0.1:9")
    [found] = [one for one in json.loads(out) if one["check"] == "policy"]
    assert (code, found["ok"]) == (1, False)
    assert "was released with other content" in found["detail"]


@pytest.mark.parametrize("command", [("try", "Hello"), ("demo",), ("up",)])
@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("prompts/triage/contract.yaml", "triage/contract.yaml:1: the text has changed"),
        ("prompts/_default/low.j2", "low.j2 has changed since version 1; raise the version"),
    ],
)
def test_nothing_starts_with_prompts_that_differ_from_their_lock(
    tierline, monkeypatch, tmp_path, command, file, words
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "deploy", "deploy")
    edited = Path("deploy") / file
    text = edited.read_text(encoding="utf-8").replace("support", "friendly support")
    edited.write_text(f"{text}\nMore.\n" if file.endswith(".j2") else text, encoding="utf-8")
    if file.endswith("contract.yaml"):
        edited.write_text(text.replace("says: ", "says: First of all, "), encoding="utf-8")

    code, out, err = tierline(*command)
    assert (code, out) == (1, "")
    assert words in err
    assert "nothing starts with prompts that differ from their lock" in err
