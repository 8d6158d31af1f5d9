"""Keys of requests, and names that no producer may use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from schemas.base import AttemptId, Identifier
from schemas.tenancy import RequestKey, is_reserved_id

_IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=200)
_ADMITTED = _IDS.filter(lambda request_id: not is_reserved_id(request_id))
_KEYS = st.builds(RequestKey, st.one_of(st.just("default"), _IDS), _ADMITTED)


@given(_KEYS, _KEYS)
def test_two_keys_have_one_text_only_where_they_are_one(
    first: RequestKey, second: RequestKey
) -> None:
    assert (first.text == second.text) is (first == second)


@given(_KEYS)
def test_a_text_with_its_numbers_is_the_id_of_an_attempt(key: RequestKey) -> None:
    TypeAdapter(AttemptId).validate_python(f"{key.text}.999.9999")


def test_the_default_tenants_ids_are_as_they_were() -> None:
    assert RequestKey("default", "req-1").text == "req-1"


def test_the_text_does_not_tell_the_tenants_name() -> None:
    assert "acme" not in RequestKey("acme", "req-1").text


@pytest.mark.parametrize("name", ["llm.intake-0-17", "staging.llm.dead-letters-3-4", "brief.x"])
def test_what_we_give_out_is_ours(name: str) -> None:
    assert is_reserved_id(name)


@pytest.mark.parametrize(
    "name", ["req-1", "llm-0-1", "a.llm.intake", "my-brief.1", "a~b", "llm.in-1"]
)
def test_what_only_looks_like_it_is_anybodys(name: str) -> None:
    assert not is_reserved_id(name)
    TypeAdapter(Identifier).validate_python(name)
