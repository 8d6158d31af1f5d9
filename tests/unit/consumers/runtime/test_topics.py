"""Which Kafka it is, by what it says that it speaks, and which topics are not as the others."""

import pytest

from consumers.runtime.topics import is_before_4, uneven


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


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ({}, []),
        ({"intake": 4}, ["intake: 4 partitions, where 9 other topics have 2"]),
        ({"t-0": 1, "t-1": 1}, ["t-0, t-1: 1 partition, where 7 other topics have 2"]),
        (
            {"intake": 4, "late": 3},
            [
                "intake: 4 partitions, where 9 other topics have 2",
                "late: 3 partitions, where 9 other topics have 2",
            ],
        ),
    ],
)
def test_topics_with_other_partitions_than_most_are_told_in_one_sentence(
    odd: dict[str, int], told: list[str]
) -> None:
    found = uneven({**{f"t-{no}": 2 for no in range(9)}, **odd})
    assert [str(one).partition(";")[0] for one in found] == told


def test_no_topics_are_not_uneven() -> None:
    assert not uneven({})
