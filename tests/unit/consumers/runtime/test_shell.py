"""Whatever a record holds or leads to, its stage goes on."""

import pytest

from consumers.runtime.shell import Shell, fits
from schemas.codec import Outgoing
from schemas.errors import ContractError
from schemas.reasons import Reason
from schemas.topics import LARGEST_RECORD
from tests.builders import Pointers, a_record

_SHELL = Shell(Pointers())


def test_what_no_topic_takes_becomes_a_pointer_and_the_rest_is_kept() -> None:
    small, large = Outgoing("a", None, b"1"), Outgoing("b", None, b"x" * LARGEST_RECORD)

    assert _SHELL.decide(lambda _: [small], a_record(b"")) == [small]
    kept, pointer = _SHELL.decide(lambda _: [small, large], a_record(b""))
    assert (kept, pointer.key) == (small, b"result_too_large")


def test_headers_and_key_count() -> None:
    half = b"x" * (LARGEST_RECORD // 2)
    assert fits(Outgoing("a", None, half))
    assert not fits(Outgoing("a", half, half))
    assert not fits(Outgoing("a", None, half, [("h", half)]))


@pytest.mark.parametrize("error", [RecursionError(), MemoryError(), OverflowError(), KeyError("x")])
async def test_an_unforeseen_failure_is_told_as_ours(error: Exception) -> None:
    def decide(_: object) -> list[Outgoing]:
        raise error

    async def handle() -> list[Outgoing]:
        raise error

    [at_once] = _SHELL.decide(decide, a_record(b""))
    [later] = await _SHELL.handle(handle(), a_record(b""))
    assert at_once.key == later.key == b"internal_error"


def test_what_is_wrong_with_a_record_is_told_as_it_was_found() -> None:
    def decide(_: object) -> list[Outgoing]:
        raise ContractError(Reason.NOT_JSON, "at 1")

    [made] = _SHELL.decide(decide, a_record(b""))
    assert (made.key, made.value) == (b"not_json", b"at 1")


def test_a_last_resort_that_fails_itself_leaves_a_pointer() -> None:
    class Broken(Pointers):
        def failed(self, record: object, reason: Reason, detail: str) -> list[Outgoing]:
            raise RuntimeError

    def decide(_: object) -> list[Outgoing]:
        raise ContractError(Reason.NOT_JSON, "at 1")

    [made] = Shell(Broken()).decide(decide, a_record(b""))
    assert (made.key, made.value) == (b"not_json", b"at 1")
