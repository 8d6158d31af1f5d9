"""`tierline prices check`: what differs from a public table is listed, and nothing is taken."""

from pathlib import Path

from genai_prices.data_snapshot import get_snapshot
from typer.testing import CliRunner

from consumers.cli.main import app
from consumers.clock import now
from tests.builders import POLICY_FILE

_MODEL = "gpt-4o-mini"


def _checked(tmp_path: Path, replaced: str, price: str, *words: str) -> tuple[int, str]:
    policy = tmp_path / "routing.yaml"
    text = POLICY_FILE.read_text("utf-8").replace("provider: simulated, id: sim-small, ", replaced)
    before = text.replace("{input: 0.10, output: 0.40,  source", f"{{{price}, source")
    policy.write_text(before)
    env = {"TIERLINE_POLICY": str(policy), "COLUMNS": "200"}
    result = CliRunner().invoke(app, ["prices", "check", *words], env=env)
    assert policy.read_text() == before
    return result.exit_code, result.stdout


def test_prices_that_differ_are_listed_and_models_that_are_not_known_named(tmp_path: Path) -> None:
    _, model = get_snapshot().find_provider_model(_MODEL, None, "openai", None)
    known = model.get_prices(now())
    openai = f"provider: openai, id: {_MODEL}, "
    prices = {name: getattr(known, f"{name}_mtok") for name in ("input", "output", "cache_read")}
    right = ", ".join(f"{name}: {price}" for name, price in prices.items())
    code, out = _checked(tmp_path, openai, right)
    assert (code, "1 model as there" in out, "not known" in out) == (0, True, True)

    code, out = _checked(tmp_path, openai, right.replace("input: ", "input: 7"), "--json")
    assert code == 1
    assert f'"theirs": "{known.input_mtok}"' in out
    assert f'"ours": "7{known.input_mtok}"' in out
    assert '"price": "output"' not in out
