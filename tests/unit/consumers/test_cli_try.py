"""`tierline try` and `tierline version`: the whole flow for one request, without a broker."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from consumers.lab.simulator import DEFAULT_MODELS, Bill, SimulatorSettings, simulator
from tests.builders import POLICY_FILE, the_policy

QUESTION = "How do I export 12 reports?"
WEAK = {"quality": 0.0}
SURE = {"quality": 1.0, "strain": 0.0}

Run = Callable[..., tuple[int, str, str]]
Provider = Callable[..., AbstractContextManager[Bill]]


@pytest.fixture
def provider(monkeypatch) -> Provider:
    """A simulated provider that the settings name, and its bill."""

    @contextmanager
    def start(**fields: Any) -> Iterator[Bill]:
        settings = SimulatorSettings(latency_scale=0, **fields)
        with (
            start_blocking_portal("asyncio") as portal,
            portal.wrap_async_context_manager(simulator(settings)) as running,
        ):
            monkeypatch.setenv("TIERLINE_PROVIDERS__SIMULATED__BASE_URL", running.base_url)
            monkeypatch.setenv("TIERLINE_PROVIDERS__SIMULATED__ALLOW_PRIVATE", "true")
            yield running.bill

    return start


def happened(told: Any) -> list[tuple[str, str]]:
    return [(moment["what"], moment["tier"]) for moment in told["moments"]]


def test_a_request_travels_without_broker_and_without_setup(tierline: Run) -> None:
    code, out, err = tierline("try", QUESTION, "--task", "support_answer", "--json")
    told = json.loads(out)

    assert (code, err) == (0, "")
    assert happened(told) == [
        ("accepted", ""),
        ("routed", "balanced"),
        ("attempt 1", "balanced"),
        ("result", "balanced"),
    ]
    assert told["output"]["answer"]
    assert told["cost_micros"] > 0


def test_a_person_reads_a_table_and_the_answer(tierline: Run) -> None:
    code, out, _ = tierline("try", QUESTION, "--task", "support_answer")

    assert code == 0
    assert "answered by the simulated provider at http://127.0.0.1:" in out
    assert "task support_answer: customers read it as it is" in out
    assert "sim-medium accepted" in out
    answer = json.loads(out[out.index("\n{") :])
    assert set(answer) >= {"answer", "confidence"}


def test_the_provider_that_is_set_up_is_the_one_that_is_called(
    tierline: Run, provider: Provider
) -> None:
    with provider() as bill:
        code, out, _ = tierline("try", QUESTION, "--task", "support_answer", "--json")
        told = json.loads(out)

        assert code == 0
        assert [line.model for line in bill.lines] == ["sim-medium"]
        assert told["cost_micros"] == bill.total_micros


def test_a_request_without_task_is_classified_first(tierline: Run, provider: Provider) -> None:
    with provider() as bill:
        code, out, _ = tierline("try", QUESTION, "--json")
        told = json.loads(out)

        assert code == 0
        assert happened(told)[:4] == [
            ("accepted", ""),
            ("classify", "low"),
            ("attempt 1", "low"),
            ("routed", told["moments"][3]["tier"]),
        ]
        assert told["cost_micros"] == bill.total_micros


def test_a_weak_answer_climbs(tierline: Run, provider: Provider) -> None:
    models = {
        name: model.model_copy(update=WEAK if model.tier == "low" else SURE)
        for name, model in DEFAULT_MODELS.items()
    }
    with provider(models=models) as bill:
        code, out, _ = tierline("try", QUESTION, "--task", "extraction", "--json")
        told = json.loads(out)

        assert code == 0
        assert happened(told)[1:] == [
            ("routed", "low"),
            ("attempt 1", "low"),
            ("escalated", "balanced"),
            ("attempt 2", "balanced"),
            ("result", "balanced"),
        ]
        assert told["cost_micros"] == bill.total_micros


def test_a_task_without_a_person_ends_with_its_safe_default_as_in_the_flow(
    tierline: Run, provider: Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy, row = tmp_path / "routing.yaml", "  support_answer:\n"
    text = POLICY_FILE.read_text(encoding="utf-8")
    assert row in text
    policy.write_text(text.replace(row, f"{row}    last_resort: safe_default\n", 1))
    monkeypatch.setenv("TIERLINE_POLICY", str(policy))
    weak = {name: model.model_copy(update=WEAK) for name, model in DEFAULT_MODELS.items()}
    with provider(models=weak):
        code, out, _ = tierline("try", QUESTION, "--task", "support_answer", "--json")
    told = json.loads(out)

    assert code == 0
    assert happened(told)[-1][0] == "result"
    assert "the safe default was published" in told["moments"][-1]["words"]
    assert told["output"]["answer"].startswith("We could not answer this with certainty")


def test_the_plan_has_a_say(tierline: Run, provider: Provider) -> None:
    with provider() as bill:
        tierline("try", QUESTION, "--task", "complex_analysis", "--plan", "free", "--json")

        assert {line.model for line in bill.lines} == {"sim-small"}


def test_what_a_person_must_approve_ends_as_a_dead_letter_and_exit_1(
    tierline: Run, provider: Provider
) -> None:
    with provider():
        code, out, err = tierline("try", QUESTION, "--task", "billing_dispute", "--json")
        told = json.loads(out)

        assert (code, err, told["output"]) == (1, "", None)
        assert happened(told)[-1] == ("dead letter", "balanced")
        assert "approval_required" in told["moments"][-1]["words"]
        assert "answer" in told["waits_for_approval"]


@pytest.mark.parametrize("model", [WEAK, SURE])
def test_an_untagged_request_for_money_back_is_never_answered_unseen(
    tierline: Run, provider: Provider, model: dict[str, float]
) -> None:
    """Whether the classify step says something wrong, or nothing of use."""
    small = DEFAULT_MODELS["sim-small"].model_copy(update=model)
    models = {**DEFAULT_MODELS, "sim-small": small, "sim-small-b": small}
    text = "My card was billed two times this month, please pay one back"
    with provider(models=models):
        code, out, _ = tierline("try", text)

    assert code == 1
    assert "taken as billing_dispute, not as" in " ".join(out.replace("│", " ").split())
    assert "approval_required" in out
    assert "billing_dispute, answered by" in out


def test_a_provider_that_refuses_every_call_ends_as_a_dead_letter(
    tierline: Run, provider: Provider
) -> None:
    with provider(faults={"http_401": 1.0}) as bill:
        code, out, err = tierline("try", QUESTION, "--task", "support_answer")

        assert (code, err, bill.total_micros) == (1, "", 0)
        assert "dead letter" in out
        assert "Traceback" not in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param((" \n",), "empty_input", id="a prompt without text"),
        pytest.param((QUESTION, "--task", "No Task"), "task:", id="a task that cannot be one"),
    ],
)
def test_a_wrong_request_is_one_line(tierline: Run, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = tierline("try", *arguments)

    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert words in err


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("https://10.0.0.1/v1", id="an address that is not public"),
        pytest.param("http://api.example.com/v1", id="http in the open"),
        pytest.param("not a url", id="no URL"),
    ],
)
def test_a_provider_that_cannot_be_used_is_a_plain_mistake(
    tierline: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("TIERLINE_PROVIDERS__SIMULATED__BASE_URL", name)
    code, out, err = tierline("try", QUESTION, "--task", "support_answer")

    assert (code, out) == (1, "")
    assert "TIERLINE_PROVIDERS__SIMULATED" in err
    assert "Traceback" not in err


def test_try_without_a_prompt_is_wrong_usage(tierline: Run) -> None:
    code, _, err = tierline("try")

    assert code == 2
    assert "Missing argument" in err


def test_the_version_names_the_policy_too(tierline: Run) -> None:
    code, out, err = tierline("version")

    assert (code, err) == (0, "")
    policy = the_policy()
    assert out == f"tierline {version('tierline')}, policy {policy.name} {policy.version}\n"


def test_the_version_is_told_to_machines(tierline: Run) -> None:
    _, out, _ = tierline("version", "--json")

    assert json.loads(out) == {"tierline": version("tierline"), "policy": the_policy().version}


def test_the_version_is_of_the_policy_in_use(
    tierline: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = POLICY_FILE.read_text(encoding="utf-8")
    other = tmp_path / "other.yaml"
    other.write_text(text.replace(f'version: "{the_policy().version}"', 'version: "2099-01-31"'))
    monkeypatch.setenv("TIERLINE_POLICY", str(other))

    assert json.loads(tierline("version", "--json")[1])["policy"] == "2099-01-31"


def test_a_version_without_its_policy_is_one_line(
    tierline: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIERLINE_POLICY", str(tmp_path / "none.yaml"))
    code, out, err = tierline("version")

    assert (code, out) == (1, "")
    assert "none.yaml: No such file" in err
