"""Words that the glossary has replaced do not come back as public names."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Names that are gone, with what is said instead; see docs/glossary.md.
GONE = {
    "Holdings": "AssignedPartitions",
    "Inline": "SyncExecutor",
    "Pool": "TaskPool",
    "holds_up": "one enum for how a record waits",
    "let_go": "cancel",
    "late": "book_uncommitted",
    "Desk": "ReviewService",
    "Doubt": "CommitOutcome",
    "after_doubt": "resolve_commit",
    "is_doubtful": "needs_start",
    "is_troubled": "a state of the partition",
    "moves_at": "revoke_deadline",
    "Fencings": "FenceLimit",
    "is_one_too_many": "exceeded",
    "steady": "until_live",
    "AppendTimes": "oldest_record",
    "Tally": "Counters",
    "take_letters": "apply_dead_letters",
    "lies_at": "record_ref",
    "notices": "interim_results",
    "Caller": "AttemptRunner",
    "voice": "fallback",
    "voiced": "conformed",
    "Spoken": "CannedReply",
    "spoken_result": "composed_result",
    "unspoken": "missing_texts",
    "fitted": "adapt_body",
}
#: The same of modules: elsewhere these words say what they always say.
GONE_MODULES = {
    "calling": "attempts",
    "deciding": "review_service",
    "figures": "metrics, Counters",
    "fitting": "model_quirks",
    "folding": "projection",
    "gatekeeping": "auth",
    "holdings": "assigned_partitions",
    "reading": "verification, topic_reader",
    "telling": "status",
    "voice": "fallback",
}
#: Names that say nothing of what they hold.
VAGUE = {"said", "told", "found", "made"}


_AT_THE_TOP = re.compile(r"(class|def|async def) (\w+)")
_IN_A_CLASS = re.compile(r"    (?:(?:async )?def (\w+)|(\w+): )")


def _names(path: Path) -> Iterator[str]:
    """Every public name that a module defines, the methods and fields of its classes included."""
    is_in_class = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := _AT_THE_TOP.match(line):
            is_in_class = match[1] == "class"
            yield match[2]
        elif is_in_class and (match := _IN_A_CLASS.match(line)):
            yield match[1] or match[2]


@pytest.mark.parametrize("package", ["schemas", "router", "consumers"])
def test_a_word_that_was_replaced_is_no_public_name(package: str) -> None:
    modules = sorted((ROOT / package).rglob("*.py"))
    gone = [
        *((path, path.stem, GONE_MODULES) for path in modules),
        *((path, name, GONE) for path in modules for name in _names(path)),
    ]

    assert [
        f"{path}: {name}; say {words[name]}" for path, name, words in gone if name in words
    ] == []


@pytest.mark.parametrize("package", ["schemas", "router", "consumers"])
def test_a_name_says_what_it_holds(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        nodes = [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
        locals_ = {node.id for node in nodes if isinstance(node, ast.Name)}
        parameters = {node.arg for node in nodes if isinstance(node, ast.arg)}

        assert not VAGUE & {*_names(path), *locals_, *parameters}, path


def test_a_word_of_the_glossary_is_not_among_those_that_are_gone() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = set(re.findall(r"\*\*([^*]+)\*\*", glossary))

    assert not words & {*GONE, *GONE_MODULES}
