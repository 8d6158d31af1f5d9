"""The planted bugs fit the code as it is: a change that moves their place is seen at once."""

from pathlib import Path

import pytest

from tests.nemesis.plan import KINDS
from tests.nemesis.planted import BUGS, Bug

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_a_planted_bug_finds_its_place(bug: Bug) -> None:
    for file, old, new in bug.edits:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert text.count(old) == 1
        compile(text.replace(old, new), file, "exec")
    assert bug.kinds == ("none",) or set(bug.kinds) <= set(KINDS)
