"""Which Kafka it is, by what it says that it speaks."""

import pytest

from consumers.runtime.topics import is_before_4


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        pytest.param({1: (0, 17)}, True, id="3.9 still speaks the first versions of Fetch"),
        pytest.param({1: (4, 17)}, False, id="4.0 does not"),
        pytest.param({}, True, id="one that says nothing is not trusted"),
    ],
)
def test_the_release_is_known_by_what_it_no_longer_speaks(versions, expected) -> None:
    assert is_before_4(versions) is expected
