"""What a bill has to be that `tierline verify-ledger` compares with the ledger."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumers.cli.common import UserError
from consumers.cli.main import app

_LINE = '{"attempt_id": "r-1.1.1", "micros": 7}\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (_LINE + "no JSON\n", 2),
        (_LINE + '["r-1.1.1", 7]\n', 2),
        (_LINE + '{"attempt_id": "r-1.1.1"}\n', 2),
        ('{"attempt_id": "r-1.1.1", "micros": 7.5}\n', 1),
        ("attempt_id,micros\nr-1.1.1,7\nr-1.1.2,\n", 3),
        ("attempt_id,dollars\nr-1.1.1,7\n", 2),
    ],
)
def test_a_line_of_a_bill_that_cannot_be_read_is_named(
    text: str, line: int, tmp_path: Path
) -> None:
    bill = tmp_path / "bill"
    bill.write_text(text, "utf-8")
    words = ["verify-ledger", "--bill", str(bill)]
    env = {"TIERLINE_KAFKA__BOOTSTRAP": "127.0.0.1:1"}
    error = CliRunner().invoke(app, words, env=env).exception

    assert isinstance(error, UserError)
    assert f"{bill}: line {line}: attempt_id and micros" in str(error)
