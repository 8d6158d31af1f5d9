"""A release's digest stands for all that decides, and for nothing else."""

from collections.abc import Callable, Mapping

import pytest

from consumers.rules import load_rules, read_folder
from consumers.settings import Settings
from router.releases.bundle import Bundle
from tests.builders import POLICY_FILE, PROMPTS

TEXT, FILES = POLICY_FILE.read_text(encoding="utf-8"), read_folder(PROMPTS)
MINE = Bundle.of_texts(TEXT, FILES)


def test_files_and_texts_give_the_same_bundle() -> None:
    assert load_rules(Settings()).digest == MINE.digest
    assert len(MINE.digest) == 12
    assert Bundle.of_texts(MINE.text, MINE.files).digest == MINE.digest


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        pytest.param("# Who handles what", "# Who does what", True, id="a comment"),
        pytest.param("says: a plain label is low work", "says: labels", True, id="an example"),
        pytest.param(
            "{attempts: 6, escalations: 2", "{escalations: 2, attempts: 6", True, id="order"
        ),
        pytest.param("approval: person", "approval: none", False, id="who approves"),
        pytest.param("input: 0.10", "input: 0.11", False, id="a price"),
        pytest.param(
            "minLength: 1}\n      confidence",
            "minLength: 2}\n      confidence",
            False,
            id="a format",
        ),
        pytest.param('\nversion: "', '\nversion: "x', False, id="the version"),
    ],
)
def test_the_policys_part(old: str, new: str, is_same: bool) -> None:
    assert old in TEXT
    other = Bundle.of_texts(TEXT.replace(old, new, 1), FILES)
    assert (other.digest == MINE.digest) is is_same


@pytest.mark.parametrize(
    ("changed", "is_same"),
    [
        pytest.param(lambda path: path.endswith("examples.yaml"), True, id="examples"),
        pytest.param(lambda path: path.endswith("versions.lock"), True, id="the lock"),
        pytest.param(lambda path: "README" in path, True, id="a README"),
        pytest.param(lambda path: path == "_default/low.j2", False, id="a variant"),
        pytest.param(lambda path: path == "_default/contract.yaml", False, id="a contract"),
    ],
)
def test_the_prompts_part(changed: Callable[[str], bool], is_same: bool) -> None:
    files: Mapping[str, str] = {
        path: f"{text}\n" if changed(path) else text for path, text in FILES.items()
    }
    other = Bundle.of_texts(TEXT, {**files, "README.md": "words"})
    assert (other.digest == MINE.digest) is is_same
