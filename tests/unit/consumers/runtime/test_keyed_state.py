"""What a stage remembers changes with what is written, or not at all."""

from collections.abc import Sequence

import pytest

from consumers.records import Record, Source
from consumers.runtime.clients import Clients
from consumers.runtime.keyed_state import KeyedState, StatePart
from consumers.settings import KafkaSettings
from schemas.codec import Outgoing
from schemas.errors import ContractError
from schemas.topics import LARGEST_RECORD
from tests.builders import a_record

_SOURCE = Source("llm.intake", 1)
_OUT = Outgoing("llm.results", b"k", b"out")


def _state(**values: bytes) -> KeyedState:
    state = KeyedState(Clients(KafkaSettings()), "counting")
    state._parts[_SOURCE] = StatePart({key.encode(): value for key, value in values.items()})
    return state


def test_a_change_goes_with_its_output() -> None:
    def decide(record: Record, part: StatePart) -> Sequence[Outgoing]:
        part.put(b"a", b"2")
        part.delete(b"b")
        part.put(b"c", b"3")
        part.delete(b"c")
        part.put(b"d", b"4")
        return [_OUT]

    state = _state(a=b"1", b=b"1", d=b"4")
    made = state.remembering(decide)(a_record(b""))

    assert made[0] == _OUT
    assert {(one.topic, one.key, one.value) for one in made[1:]} == {
        ("llm.state.counting", b"a", b"2"),
        ("llm.state.counting", b"b", None),
    }


@pytest.mark.parametrize("size", [1, LARGEST_RECORD])
@pytest.mark.parametrize("is_output", [True, False])
def test_what_fails_or_does_not_fit_changes_nothing(size: int, is_output: bool) -> None:
    def decide(record: Record, part: StatePart) -> Sequence[Outgoing]:
        part.delete(b"b")
        part.put(b"a", b"x" * (1 if is_output else size))
        if size == 1:
            raise ValueError
        return [_OUT._replace(value=b"x" * (size if is_output else 1))]

    state = _state(a=b"1", b=b"1")
    with pytest.raises(ContractError if size > 1 else ValueError):
        state.remembering(decide)(a_record(b""))

    assert state.part(_SOURCE).values == {b"a": b"1", b"b": b"1"}
