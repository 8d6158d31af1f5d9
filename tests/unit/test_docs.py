"""What the documents say about the repository is so."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.cli.publish import PAGES
from consumers.policy_reference import policy_page
from consumers.setting_list import setting_rows
from consumers.settings import Settings
from consumers.telemetry.names import METRICS
from router.checks import check_rows
from schemas.reasons import Reason

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_link_leads_somewhere(document: Path) -> None:
    for target in _LINK.findall(document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


def test_every_dependency_has_its_reason() -> None:
    reasons = (ROOT / "docs" / "adr" / "0005-dependencies.md").read_text(encoding="utf-8")
    said = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = said["project"]
    wanted = [*project["dependencies"], *said["dependency-groups"]["dev"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra

    names = {re.split(r"[<>=;\[ ]", line)[0] for line in wanted}

    words = set(re.findall(r"[\w.-]+", reasons))
    assert names <= words, f"no sentence in docs/adr/0005 for {sorted(names - words)}"


def test_a_provider_can_be_named_by_environment_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TIERLINE_PROVIDERS__OPENAI__BASE_URL", "https://api.example.com/v1")
    monkeypatch.setenv("TIERLINE_PROVIDERS__OPENAI__API_KEY_ENV", "OPENAI_API_KEY")

    provider = Settings().providers["openai"]

    assert provider.base_url == "https://api.example.com/v1"
    assert provider.api_key_env == "OPENAI_API_KEY"


def test_generated_pages_are_as_they_would_be_made_now() -> None:
    for page, text in PAGES.items():
        assert page.read_text(encoding="utf-8") == text(), "run `make generate`"
    assert [row.variable for row in setting_rows() if not row.meaning] == []


def test_every_field_of_the_policy_has_its_meaning() -> None:
    """A `#:` comment above it, which the page and the editors' schema show."""
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", policy_page(), re.MULTILINE)

    assert len(rows) > 80
    assert [field for field, meaning in rows if not meaning] == []


def test_the_page_on_telemetry_has_every_metric_with_its_question() -> None:
    page = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
    for metric in METRICS.values():
        by = ", ".join(f"`{name}`" for name in metric.by)
        row = f"| `{metric.name}` | {metric.kind}, {metric.unit} | {by} | {metric.question} |"
        assert row in page


def test_the_page_on_checks_has_every_check_with_its_parameters() -> None:
    page = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    for name, reason, *rest in (row.values() for row in check_rows()):
        assert f"| `{name}` | `{reason}` | {' | '.join(rest)} |" in page


def test_the_page_on_routes_has_every_code_that_moves_a_route() -> None:
    codes = (ROOT / "docs" / "routes.md").read_text(encoding="utf-8").partition("## Codes")[2]
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "router").rglob("*.py")]
    names = re.findall(r"(?:Escalate\(|moves?_by.*)Reason\.([A-Z_]+)", "\n".join(sources))
    moving = {Reason[name].fallback for name in names} - {Reason.CLASSIFIED}

    assert Reason.NO_MODEL_TAKES_IT in moving
    assert [code for code in sorted(moving) if f"`{code}`" not in codes] == []


_LEVELS = ("info", "warning", "error", "exception")


def _log_events() -> Iterator[str]:
    """What is logged above the level of debugging."""
    for file in sorted((ROOT / "consumers").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if ast.unparse(node.func.value) == "_log" and node.func.attr in _LEVELS:
                for part in ast.walk(node.args[0]):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.value


def test_the_page_on_operating_has_every_event_of_the_log() -> None:
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    messages = page.partition("## Messages")[2]
    events = list(_log_events())

    assert len(events) > 40
    assert [event for event in events if f"`{event}`" not in messages] == []
