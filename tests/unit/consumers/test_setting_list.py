"""`tierline settings`: what is set, by what, and what it means."""

import pytest
from typer.testing import CliRunner

from consumers.cli.main import app
from consumers.setting_list import setting_rows
from consumers.settings import Settings

_SECRET = "s" * 40


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch):
    variables = {
        "TIERLINE_WORKER__WIDTH": "3",
        "TIERLINE_WORKER__DRAIN_FOR": "1m30s",
        "tierline_console__token__secret": _SECRET,
        "TIERLINE_PROVIDERS": '{"acme": {"base_url": "https://api.example.com/v1", "headers":'
        f' {{"x-team": "{_SECRET}"}}}}}}',
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return {row.variable: row for row in setting_rows(Settings(), variables)}


@pytest.mark.parametrize(
    ("variable", "value", "source", "default"),
    [
        ("TIERLINE_WORKER__WIDTH", "3", "TIERLINE_WORKER__WIDTH", "256"),
        ("TIERLINE_WORKER__DRAIN_FOR", "1m30s", "TIERLINE_WORKER__DRAIN_FOR", "25s"),
        ("TIERLINE_WORKER__REVOKE_GRACE", "15s", "default", "15s"),
        (
            "TIERLINE_CONSOLE__TOKEN__SECRET",
            "********",
            "tierline_console__token__secret",
            "required",
        ),
        ("TIERLINE_PROVIDERS__ACME__WIRE", "openai", "TIERLINE_PROVIDERS", "openai"),
        ("TIERLINE_PROVIDERS__ACME__HEADERS", "x-team: ********", "TIERLINE_PROVIDERS", "none"),
    ],
)
def test_a_setting_has_its_value_and_where_it_comes_from(rows, variable, value, source, default):
    row = rows[variable]

    assert (row.value, row.source, row.default) == (value, source, default)


def test_no_secret_is_shown(rows):
    assert not any(_SECRET in text for row in rows.values() for text in row)


def test_the_command_lists_what_is_changed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TIERLINE_WORKER__WIDTH", "3")

    said = CliRunner().invoke(app, ["settings", "--changed"]).stdout

    assert said.splitlines()[0] == "TIERLINE_WORKER__WIDTH = 3  (set by TIERLINE_WORKER__WIDTH)"
    assert "at least 1 and at most 5000; default: 256" in " ".join(said.split())
    assert said.count(" = ") == 1
