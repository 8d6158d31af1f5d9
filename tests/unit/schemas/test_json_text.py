"""JSON read strictly: each thing that parsers disagree about has one answer here."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ContractError
from schemas.json_text import MAX_DEPTH, parse_json, read_json
from schemas.reasons import Reason

CANARY = "canary-4711"


def nested(levels: int, opening: str = "[", closing: str = "]", core: str = "") -> bytes:
    return (opening * levels + core + closing * levels).encode()


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        pytest.param(b'{"a": [1, -2, true, null]}', {"a": [1, -2, True, None]}, id="an object"),
        pytest.param(b" \t\r\n[] \n", [], id="space around it"),
        pytest.param(b'"text"', "text", id="text alone"),
        pytest.param(b"null", None, id="null alone"),
        pytest.param('["ü", "日本", "\U0001f600"]'.encode(), ["ü", "日本", "😀"], id="UTF-8"),
        pytest.param(rb'"\ud83d\ude00"', "😀", id="a whole surrogate pair"),
        pytest.param(rb'"\\ud800"', r"\ud800", id="a backslash and what looks like half of one"),
        pytest.param(rb'"\u0000"', "\0", id="NUL, escaped"),
        pytest.param(b"[0.1, 1e3, -2.5E-2]", [0.1, 1000.0, -0.025], id="fractions"),
        pytest.param(b"1e308", 1e308, id="nearly the largest number"),
        pytest.param(b"1e-999", 0.0, id="too small to tell from 0"),
        pytest.param(b"[9223372036854775807]", [2**63 - 1], id="the largest integer"),
        pytest.param(b"[-9223372036854775808]", [-(2**63)], id="the smallest integer"),
        pytest.param(b'[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}], id="a key in two objects"),
        pytest.param(b'{"a": 1, "A": 2}', {"a": 1, "A": 2}, id="keys that differ in case"),
        pytest.param(b"[" + b"[]," * 99 + b"[]]", [[]] * 100, id="wide, not deep"),
        pytest.param(b'"' + b"[{" * 99 + b'"', "[{" * 99, id="brackets in text"),
    ],
)
def test_json_is_read(value: bytes, parsed: Any) -> None:
    assert parse_json(value) == parsed


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(b"", Reason.NOT_JSON, id="nothing"),
        pytest.param(b" \n", Reason.NOT_JSON, id="only space"),
        pytest.param(b"canary-4711", Reason.NOT_JSON, id="words"),
        pytest.param(b'{"a": 1', Reason.NOT_JSON, id="an end too early"),
        pytest.param(b'{"a": 1}{"a": 1}', Reason.NOT_JSON, id="two documents"),
        pytest.param(b'{"a": 1,}', Reason.NOT_JSON, id="a comma too many"),
        pytest.param(b"{'a': 1}", Reason.NOT_JSON, id="single quotes"),
        pytest.param(b"[1] // canary-4711", Reason.NOT_JSON, id="a comment"),
        pytest.param(b"[01]", Reason.NOT_JSON, id="a leading zero"),
        pytest.param(b"[+1]", Reason.NOT_JSON, id="a plus sign"),
        pytest.param(b"[.5]", Reason.NOT_JSON, id="a bare fraction"),
        pytest.param(b"[0x1f]", Reason.NOT_JSON, id="a hexadecimal number"),
        pytest.param(b'["a\nb"]', Reason.NOT_JSON, id="a line end in text"),
        pytest.param(b'["a\x00b"]', Reason.NOT_JSON, id="NUL in text"),
        pytest.param(rb'["\x41"]', Reason.NOT_JSON, id="an escape of another language"),
        pytest.param(b"\xef\xbb\xbf[]", Reason.NOT_JSON, id="a byte order mark"),
        pytest.param(b"\xff\xfe[\x00]\x00", Reason.NOT_TEXT, id="UTF-16"),
        pytest.param(b'["\xe4"]', Reason.NOT_TEXT, id="Latin-1"),
        pytest.param(b'["\xc0\xaf"]', Reason.NOT_TEXT, id="an overlong form"),
        pytest.param(b'["\xed\xa0\x80"]', Reason.NOT_TEXT, id="half a pair, not escaped"),
        pytest.param(b'["\xf0\x9f\x98"]', Reason.NOT_TEXT, id="a character cut off"),
        pytest.param(rb'["\ud83d"]', Reason.NOT_TEXT, id="the first half of a pair"),
        pytest.param(rb'["\uDE00"]', Reason.NOT_TEXT, id="the second half of a pair"),
        pytest.param(rb'["\ude00\ud83d"]', Reason.NOT_TEXT, id="a pair the wrong way round"),
        pytest.param(rb'{"\ud83d": 1}', Reason.NOT_TEXT, id="half a pair as a key"),
        pytest.param(b'{"a": 1, "a": 2}', Reason.DUPLICATE_KEY, id="a key twice"),
        pytest.param(b'{"a": 1, "a": 1}', Reason.DUPLICATE_KEY, id="the same pair twice"),
        pytest.param(b'[{"b": {"a": 1, "a": 2}}]', Reason.DUPLICATE_KEY, id="twice, deep down"),
        pytest.param(rb'{"a": 1, "\u0061": 2}', Reason.DUPLICATE_KEY, id="twice, once escaped"),
        pytest.param(b'{"": 1, "": 2}', Reason.DUPLICATE_KEY, id="the empty key twice"),
        pytest.param(b"[NaN]", Reason.BAD_NUMBER, id="NaN"),
        pytest.param(b"[Infinity]", Reason.BAD_NUMBER, id="infinity"),
        pytest.param(b"[-Infinity]", Reason.BAD_NUMBER, id="negative infinity"),
        pytest.param(b"[1e309]", Reason.BAD_NUMBER, id="1e309"),
        pytest.param(b"[-1e999]", Reason.BAD_NUMBER, id="-1e999"),
        pytest.param(b"[9" + b"9" * 400 + b".0]", Reason.BAD_NUMBER, id="400 digits and a half"),
        pytest.param(b"[9223372036854775808]", Reason.BAD_NUMBER, id="2 to the 63"),
        pytest.param(b"[-9223372036854775809]", Reason.BAD_NUMBER, id="below -2 to the 63"),
        pytest.param(b"9" * 400, Reason.BAD_NUMBER, id="400 digits"),
        pytest.param(b"-" + b"9" * 5000, Reason.BAD_NUMBER, id="5,000 digits"),
        pytest.param(nested(33), Reason.TOO_DEEP, id="33 lists"),
        pytest.param(nested(33, '{"a":', "}", "1"), Reason.TOO_DEEP, id="33 objects"),
        pytest.param(nested(17, '[{"a":', "}]", "1"), Reason.TOO_DEEP, id="34 in turn"),
        pytest.param(nested(1000), Reason.TOO_DEEP, id="1,000 levels"),
        pytest.param(nested(20_000), Reason.TOO_DEEP, id="20,000 levels"),
        pytest.param(b"[" * 20_000, Reason.TOO_DEEP, id="20,000 levels without an end"),
        pytest.param(
            b'[{"a":"[[{{' + rb"\"[{\\" + b'"}' + b"]" * 2, Reason.NOT_JSON, id="one end too many"
        ),
        pytest.param(b"[1" + b",1" * 50_000 + b"]", Reason.TOO_LARGE, id="50,001 values"),
        pytest.param(nested(100_000), Reason.TOO_LARGE, id="100,000 brackets"),
    ],
)
def test_what_parsers_disagree_about_is_refused(value: bytes, reason: Reason) -> None:
    with pytest.raises(ContractError) as raised:
        parse_json(value)

    assert raised.value.reason is reason, raised.value.detail
    assert raised.value.detail
    assert "\n" not in raised.value.detail
    assert CANARY not in raised.value.detail, "the detail says where, never what"


@pytest.mark.parametrize("value", [nested(MAX_DEPTH), nested(MAX_DEPTH, '{"a":', "}", "1")])
def test_the_deepest_level_allowed_is_read(value: bytes) -> None:
    assert orjson.dumps(parse_json(value)) == value


def test_where_the_text_breaks_is_told() -> None:
    with pytest.raises(ContractError, match="line 2, column 7"):
        parse_json(b'{"a": 1,\n "b": oops}')
    with pytest.raises(ContractError, match="byte 2 is not UTF-8"):
        parse_json(b'["\xff"]')


def numbers() -> st.SearchStrategy[float | int]:
    whole = st.integers(-(2**63), 2**63 - 1)
    return whole | st.floats(allow_nan=False, allow_infinity=False)


def documents() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | numbers() | st.text()
    return st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
    )


@given(documents(), st.booleans())
def test_every_document_comes_back_as_it_was(document: Any, is_ascii: bool) -> None:
    assert parse_json(json.dumps(document, ensure_ascii=is_ascii).encode()) == document


SOUND = (b"{", b"}", b"[", b"]", b",", b":", b'"a"', b"1", b"null", b"1e3", rb'"\ud83d\ude00"')
UNSOUND = (b'"', b"-", b"1e999", b"9" * 20, b"NaN", rb"\ud800", b"\xed\xa0\x80", b"\xff", b"\x00")
PIECES = st.sampled_from((*SOUND, *UNSOUND))


@given(st.lists(PIECES, max_size=12).map(b"".join) | st.binary(max_size=40))
def test_what_is_read_means_the_same_to_another_parser(value: bytes) -> None:
    """Nothing but a reason comes out of a bad value, and no guess out of a good one."""
    try:
        parsed = parse_json(value)
    except ContractError:
        return

    assert orjson.loads(value) == parsed
    assert orjson.loads(orjson.dumps(parsed)) == parsed


_KEYS = st.sampled_from(["a", "b", "ab", 'q"', "\\", ""])
_TEXTS = st.text(alphabet='ab"\\:,{}é', max_size=6) | st.none() | st.booleans()


@given(st.lists(st.tuples(_KEYS, _TEXTS | st.lists(st.text(max_size=2))), max_size=5))
def test_a_key_twice_is_seen_in_plain_objects_too(pairs: list[tuple[str, Any]]) -> None:
    """Objects of texts take a shorter way: it must not miss what the longer one sees."""
    written = ", ".join(f"{json.dumps(key)}: {json.dumps(field)}" for key, field in pairs)
    value = f"{{{written}}}".encode()
    if len({key for key, _ in pairs}) == len(pairs):
        assert parse_json(value) == dict(pairs)
        return
    with pytest.raises(ContractError) as raised:
        parse_json(value)
    assert raised.value.reason is Reason.DUPLICATE_KEY


def test_commas_and_brackets_in_texts_are_no_values():
    text = ",[{:" * 50_000 + '\\"' * 1_000 + "\\"

    assert parse_json(json.dumps({"a": [text]}).encode()) == {"a": [text]}


@pytest.mark.parametrize("value", [b'{"a": [1e-20, -0.5, 9223372036854775807, 1E5]}', b"[[], {}]"])
def test_who_does_not_ask_why_reads_the_same(value):
    assert read_json(value) == parse_json(value) == json.loads(value)


@pytest.mark.parametrize("number", ["1234567890123456", "9223372036854775807", "0.1"])
def test_many_numbers_that_lose_no_digit_are_read(number):
    value = f"[{','.join([number] * 4_000)}]".encode()

    assert read_json(value) == json.loads(value)


@pytest.mark.parametrize(
    "value",
    [
        *(b'{"a": 1, "a": 2}', b"[NaN]", b"[", b"[1e999]"),
        b"[" + b",".join([b"0.1234567890123456789"] * 1_001) + b"]",
    ],
)
def test_who_does_not_ask_why_gets_none_for_what_is_refused(value):
    assert read_json(value) is None
