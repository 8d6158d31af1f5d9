"""`tierline init`: what it writes works at once, and it writes over nothing."""

import json
import os
from pathlib import Path

import pytest

from consumers.policy_file import shipped
from router.policy.load import load_policy

PRESETS = ["support", *sorted(file.stem for file in shipped("presets").glob("*.yaml"))]
PROVIDERS = sorted(file.stem for file in (shipped("presets") / "models").glob("*.yaml"))
POLICY = Path("deploy/policy/routing.yaml")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder in which commands run."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("preset", PRESETS)
def test_what_a_preset_writes_passes_every_check(tierline, fresh, preset):
    code, out, _ = tierline("init", "--preset", preset)
    assert (code, out.splitlines()[-1]) == (0, "Next: tierline policy check && tierline up")

    code, out, _ = tierline("policy", "check", "--json")
    checked = json.loads(out)
    assert (code, checked["errors"], checked["warnings"], checked["failed"]) == (0, [], [], [])
    assert checked["examples"] > 0

    code, out, _ = tierline("prompts", "test", "--json")
    tried = json.loads(out)
    assert (code, tried["problems"], len(tried["tried"]) > 0) == (0, [], True)


@pytest.mark.parametrize("preset", ["support", "low_tier_work", "verified_draft"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_real_provider_takes_the_place_of_the_simulated_one(tierline, fresh, preset, provider):
    code, out, _ = tierline("init", "mine", "--preset", preset, "--provider", provider)
    assert code == 0
    assert "cd mine && export " in out

    os.chdir("mine")
    policy = load_policy(POLICY.read_text(encoding="utf-8"), "routing.yaml")
    assert {model.provider for model in policy.models.values()} == {provider}
    assert not [name for name in policy.models if name.startswith("sim")]
    code, out, _ = tierline("policy", "check", "--json")
    checked = json.loads(out)
    assert (code, checked["errors"], checked["failed"]) == (0, [], [])
    settings = Path("settings.sh").read_text(encoding="utf-8")
    assert f"export TIERLINE_PROVIDERS__{provider.upper()}__BASE_URL=https://" in settings


def test_a_written_policy_answers_at_once(tierline, fresh):
    assert tierline("init", "--preset", "triage")[0] == 0

    text = "I cannot log in since Monday, order 1234, please help me sign in"
    code, out, _ = tierline("try", text, "--task", "triage", "--json")

    assert (code, json.loads(out)["output"]["team"]) == (0, "account_access")


def test_it_writes_over_nothing(tierline, fresh):
    assert tierline("init")[0] == 0
    POLICY.write_text("mine", encoding="utf-8")

    code, _, err = tierline("init", "--preset", "triage")

    assert (code, "deploy is there already" in err) == (1, True)
    assert POLICY.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("option", ["--preset", "--provider"])
def test_a_name_that_is_none_lists_those_there_are(tierline, fresh, option):
    code, _, err = tierline("init", option, "list")

    assert code == 1
    assert all(name in err for name in (PRESETS if option == "--preset" else PROVIDERS))
    assert list(fresh.iterdir()) == []


def test_editors_find_the_schema_beside_the_policy(tierline, fresh):
    tierline("init")

    line = POLICY.read_text(encoding="utf-8").splitlines()[0]
    assert line == "# yaml-language-server: $schema=routing-policy.json"
    assert json.loads((POLICY.parent / "routing-policy.json").read_text(encoding="utf-8"))["$defs"]


def test_the_page_on_presets_has_every_one():
    page = (shipped("presets") / "README.md").read_text(encoding="utf-8")

    assert [name for name in PRESETS[1:] if f"| `{name}` |" not in page] == []
