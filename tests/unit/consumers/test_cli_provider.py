"""`tierline provider`: what a person learns about a provider that works, and one that does not."""

import json
import socket
from collections.abc import Callable, Iterator

import pytest
from anyio.from_thread import start_blocking_portal

from consumers.lab.simulator import SimulatorSettings, simulator

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tierline(tierline) -> Run:
    return lambda *arguments: tierline("provider", *arguments)


@pytest.fixture
def provider(monkeypatch) -> Iterator[str]:
    """A provider that the settings name `simulated`; its address."""
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(simulator(SimulatorSettings(latency_scale=0))) as running,
    ):
        settle(monkeypatch, BASE_URL=running.base_url)
        yield running.base_url


def settle(monkeypatch: pytest.MonkeyPatch, name: str = "SIMULATED", **fields: str) -> None:
    for field, value in {"ALLOW_PRIVATE": "true", **fields}.items():
        monkeypatch.setenv(f"TIERLINE_PROVIDERS__{name}__{field}", value)


@pytest.mark.usefixtures("provider")
def test_a_call_shows_what_it_took_and_cost(tierline):
    code, out, err = tierline("test", "simulated", "--json")
    told = json.loads(out)

    assert (code, err, told["ok"]) == (0, "", True)
    assert told["served_model"] == told["model"] == "sim-small"
    assert told["ms"] > 0
    assert told["usage"]["input_tokens"] > 0
    assert told["cost_micros"] > 0
    assert told["price"]["input"] == "0.1"
    assert told["oddities"] == []


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("model", ["sim-large", "sim-medium-b"])
def test_a_model_may_be_named(tierline, model):
    _, out, _ = tierline("test", "simulated", "--model", model)

    assert model in out
    assert "$0.00" in out


@pytest.mark.parametrize("wire", ["anthropic", "gemini"])
def test_every_format_can_be_tried(tierline, provider, monkeypatch, wire):
    base = provider + ("beta" if wire == "gemini" else "")
    settle(monkeypatch, "OTHER", BASE_URL=base, WIRE=wire)
    code, out, _ = tierline("test", "other", "--model", "sim-small", "--json")
    told = json.loads(out)

    assert (code, told["served_model"]) == (0, "sim-small")
    assert told["cost_micros"] is None, "the policy has no price for this provider's model"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("http_401", "the provider requires a key"),
        ("http_429", "wait"),
        ("html_page", "speaks the format 'openai'"),
        ("http_500", "a problem of its own"),
        ("redirect", "set base_url to where it points"),
    ],
)
@pytest.mark.usefixtures("provider")
def test_a_failure_says_what_to_do(tierline, monkeypatch, fault, words):
    settle(monkeypatch, HEADERS=json.dumps({"x-sim-fault": fault}))
    code, out, _ = tierline("test", "simulated", "--json")
    told = json.loads(out)

    assert (code, told["ok"]) == (1, False)
    assert words in told["what_to_do"]


@pytest.mark.usefixtures("provider")
def test_the_servers_own_words_are_shown(tierline, monkeypatch):
    settle(monkeypatch, HEADERS=json.dumps({"x-sim-fault": "redirect"}))
    _, out, _ = tierline("test", "simulated", "--json")

    assert json.loads(out)["its_words"] == "http://169.254.169.254/latest/meta-data"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("PROVIDERS__X__BASE_URL", "foo", "TIERLINE_PROVIDERS__X__BASE_URL: a URL such as"),
        ("PROVIDERS", "{bad", "TIERLINE_PROVIDERS: JSON was expected"),
        ("KAFKA__PARTITIONS", "0", "TIERLINE_KAFKA__PARTITIONS: expected greater than"),
        (
            "PROVIDERS__X",
            '{"base_url": "https://a.example", "headers": {"x-key": "a\\nb"}}',
            "TIERLINE_PROVIDERS__X__HEADERS: 'x-key': a header's name",
        ),
        ("KAFKA__FOO", "0", "TIERLINE_KAFKA__FOO: there is no such setting"),
    ],
)
def test_a_wrong_setting_is_named_by_its_variable(tierline, monkeypatch, name, value, problem):
    monkeypatch.setenv(f"TIERLINE_{name}", value)
    code, out, err = tierline("list")

    assert (code, out) == (1, "")
    assert problem in err
    assert "pydantic" not in err


@pytest.mark.usefixtures("provider")
def test_a_refused_key_is_named_by_its_place_and_never_shown(tierline, monkeypatch):
    monkeypatch.setenv("A_KEY", "sk-canary")
    settle(monkeypatch, API_KEY_ENV="A_KEY", HEADERS='{"x-sim-fault": "http_401"}')
    _, out, err = tierline("test", "simulated", "--json")

    assert "the key in A_KEY is refused" in json.loads(out)["what_to_do"]
    assert "canary" not in out + err


def test_a_refused_connection(tierline, monkeypatch):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        settle(monkeypatch, BASE_URL=f"http://127.0.0.1:{held.getsockname()[1]}/v1")
        code, out, _ = tierline("test", "simulated", "--json")

    assert code == 3
    assert "is it up" in json.loads(out)["what_to_do"]


@pytest.mark.parametrize(
    ("arguments", "fields", "words"),
    [
        (["nope"], {}, "set TIERLINE_PROVIDERS__NOPE__BASE_URL"),
        (["other"], {"BASE_URL": "http://127.0.0.1:1/v1"}, "name one with --model"),
        (
            ["other", "--model", "m"],
            {"BASE_URL": "http://127.0.0.1:1/v1", "API_KEY_ENV": "NO_KEY"},
            "NO_KEY holds no usable key; set it",
        ),
        (
            ["other", "--model", "m"],
            {"BASE_URL": "http://127.0.0.1:1/v1", "WIRE": "telex"},
            "'telex' is not one of openai, anthropic, gemini",
        ),
    ],
)
def test_what_is_set_up_wrongly_is_said_in_a_line(tierline, monkeypatch, arguments, fields, words):
    if fields:
        settle(monkeypatch, "OTHER", **fields)
    code, _, err = tierline("test", *arguments)

    assert code == 1
    assert words in err
    assert err.count("\n") == 1


def test_the_list_tells_where_keys_are_missing(tierline, monkeypatch):
    settle(monkeypatch, "OTHER", BASE_URL="http://127.0.0.1:1/v1", API_KEY_ENV="NO_KEY")
    code, out, _ = tierline("list", "--json")
    rows = {row["provider"]: row for row in json.loads(out)}

    assert code == 0
    assert rows["other"]["key"] == "missing: NO_KEY"
    assert "sim-small" in rows["simulated"]["models"]
