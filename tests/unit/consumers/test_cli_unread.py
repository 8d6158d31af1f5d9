"""What a command or the console's API is given, it reads, or says that it does not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from consumers.cli.common import UserError
from consumers.cli.main import app
from consumers.console.inputs import DecisionBody, JobBody

LINE = '{"id": "r-1", "input": "x"}'


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["submit", "FILE", "--task", "triage"], "--task is for a prompt given as text"),
        (["submit", "FILE", "--plan", "free"], "--plan is for a prompt given as text"),
        (["submit", "FILE", "--timeout", "9"], "--timeout is for --wait"),
        (["submit", "FILE", "--batch", "monday"], "--batch monday is for lines with a custom_id"),
        (["submit", "a prompt", "--batch", "monday"], "--batch monday is for lines"),
        (["up", "--only", "route", "--tier", "low"], "--tier is for the stage work"),
        (["up", "--only", "review", "--width", "4"], "--width is for the stage work"),
        (["quality", "--failures", "--ids", "corrected"], "give one of them"),
        (["quality", "--last", "9"], "--last is for --failures"),
        (["quality", "--failures", "--by", "task"], "--by is for the table"),
        (["results", "--last", "9", "--limit", "9"], "give one of them"),
        (["dead-letters", "requeue", "r-1", "--rate", "9"], "are for a choice of many"),
        (["dead-letters", "requeue", "r-1", "--task", "triage"], "by its id, or choose many"),
    ],
)
def test_an_option_that_nothing_would_read_is_refused(
    words: Sequence[str], why: str, tmp_path: Path
) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_text(LINE)
    given = [str(file) if word == "FILE" else word for word in words]
    env = {"TIERLINE_KAFKA__BOOTSTRAP": "127.0.0.1:1"}
    found = CliRunner().invoke(app, given, env=env).exception

    assert isinstance(found, UserError)
    assert why in str(found)


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("approve", {"tier": "low"}),
        ("approve", {"output": {"answer": "x"}}),
        ("edit", {"attempt_id": "r-1.1.1"}),
        ("requeue", {"tier": "low"}),
        ("reject", {"deadline": "2027-01-01T00:00:00Z"}),
        ("discard", {"is_example": True}),
    ],
)
def test_a_decision_is_given_what_it_heeds(action: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"{next(iter(fields))}: {action} does not use it"):
        DecisionBody.model_validate({"action": action, **fields})


def test_a_decision_may_have_all_that_it_heeds() -> None:
    DecisionBody.model_validate({"action": "edit", "output": {"answer": "x"}, "is_example": True})
    DecisionBody.model_validate({"action": "retry", "tier": "low", "is_example": False})
    with pytest.raises(ValidationError, match="tier: approve does not use it"):
        JobBody.model_validate({"action": "approve", "tier": "low"})
