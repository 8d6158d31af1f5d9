"""Files are short enough to be read in one go."""

from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_LONGEST = 400


@pytest.mark.parametrize("package", ["schemas", "router", "consumers"])
def test_no_file_is_longer_than_four_hundred_lines(package: str) -> None:
    lengths = {
        file.relative_to(_ROOT).as_posix(): len(file.read_text("utf-8").splitlines())
        for file in (_ROOT / package).rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > _LONGEST} == {}
