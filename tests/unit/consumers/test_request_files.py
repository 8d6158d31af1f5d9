"""Files that `submit` is given: lines, or one sentence about what they are instead."""

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
from itertools import cycle

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.cli.common import UserError
from consumers.cli.request_files import Line, checked, lines_of
from schemas.intake import MAX_REQUEST_BYTES, read_request
from schemas.tenancy import is_reserved_id

LINE = b'{"id": "r-1", "input": "Where is my parcel?"}'
OTHER = b'{"id": "r-2", "input": "Wo ist mein P\xc3\xa4ckchen?"}'
EVENT = b'"specversion": "1.0", "id": "e-1", "source": "/s", "type": "t"'


def a_batch_line(custom_id: str = "request-1", text: str = "hello") -> bytes:
    chat = {"messages": [{"role": "user", "content": text}]}
    line = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": chat}
    return orjson.dumps(line)


def lines(raw: bytes, name: str = "requests.jsonl") -> list[bytes]:
    """What is sent of a file that is refused for nothing."""
    count, found = checked(io.BytesIO(raw), name), list(lines_of(io.BytesIO(raw), name))
    assert len(found) == count
    return [line for _, line in found]


def named(line: bytes, batch: str | None = None) -> bytes:
    return Line.of(line, 1, batch=batch).value


def a_zip() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("requests.jsonl", LINE)
    return held.getvalue()


@pytest.mark.parametrize(
    "raw",
    [
        LINE + b"\n" + OTHER + b"\n",
        LINE + b"\r\n" + OTHER,
        LINE + b"\n\n  \n" + OTHER + b" \n",
        codecs.BOM_UTF8 + LINE + b"\r\n" + OTHER + b"\r\n",
        codecs.BOM_UTF8 + LINE + b"\n" + codecs.BOM_UTF8 + OTHER + b"\n",
        b"\x1e" + LINE + b"\n\x1e" + OTHER + b"\n",  # RFC 7464
        b"\x1e\n\x1e" + LINE + b"\n\x1e\x1e" + OTHER,
    ],
)
def test_line_ends_blank_lines_marks_and_separators_change_no_request(raw: bytes) -> None:
    assert lines(raw, "requests.jsonl") == [LINE, OTHER]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("text", [LINE.decode(), "\n" + LINE.decode(), '[{"id": "r-1"}]'])
def test_other_encodings_are_named_and_refused(encoding: str, text: str) -> None:
    with pytest.raises(UserError, match=r"^requests\.jsonl.*UTF-8"):
        lines(text.encode(encoding), "requests.jsonl")
    with pytest.raises(UserError, match=f"{encoding[:6].upper()} text; UTF-8 was expected"):
        lines(("\ufeff" if encoding[6:] else "").encode(encoding) + text.encode(encoding), "r")


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (gzip.compress(LINE, mtime=0), "packed with gzip"),
        (a_zip(), "a zip archive"),
        (bz2.compress(LINE), "packed with bzip2"),
        (lzma.compress(LINE), "packed with xz"),
        (b"\x28\xb5\x2f\xfd\x04\x00" + LINE, "packed with zstd"),
        (b"PAR1" + LINE, "a Parquet file"),
    ],
)
def test_packed_files_are_named_and_refused(raw: bytes, what: str) -> None:
    with pytest.raises(UserError, match=f"requests: {what}.*a request per line, in UTF-8"):
        lines(raw, "requests")


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        (LINE + b"\n" + OTHER.replace(b"\xc3\xa4", b"\xe4"), "line 2, byte 38: not UTF-8"),
        (LINE + b"\n" + b"\x00" * 512, "line 2, byte 1: a NUL byte"),
        (LINE + b"\r\n" + LINE.replace(b"parcel", b"par\x00cel"), "line 2, byte 40: a NUL byte"),
    ],
)
def test_bytes_that_are_no_text_are_refused_with_their_place(raw: bytes, where: str) -> None:
    with pytest.raises(UserError, match=where):
        lines(raw, "requests.jsonl")


def test_a_json_document_is_no_file_of_lines() -> None:
    listed = orjson.dumps([orjson.loads(LINE)])
    for raw in (listed, b"[\n" + LINE + b",\n" + OTHER + b"\n]"):
        with pytest.raises(UserError, match="one JSON list"):
            lines(raw, "requests.json")
    with pytest.raises(UserError, match="one JSON object over several lines"):
        lines(orjson.dumps(orjson.loads(LINE), option=orjson.OPT_INDENT_2), "request.json")
    as_python = b"{'id': 'r-1', 'input': 'x'}"  # no JSON, but a request a line
    assert lines(as_python + b"\n" + as_python) == [as_python] * 2


@pytest.mark.parametrize(
    "raw",
    [
        b"id,input\nr-1,Where is my parcel?\n",
        b'"id","input"\n"r-1","Where is my parcel?"\n',
        b"id\tinput\nr-1\tWhere is my parcel?\n",
        b"Where is my parcel?\n",
        b"- id: r-1\n  input: Where is my parcel?\n",
    ],
)
def test_a_file_whose_first_line_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(UserError, match=r"requests, line 2: no JSON .*a request per line, in UTF"):
        lines(b"\n" + raw, "requests")


def test_a_prompt_per_line_is_a_file_of_requests() -> None:
    assert lines(b'"Where is my parcel?"\n' + LINE) == [b'"Where is my parcel?"', LINE]


@pytest.mark.parametrize("custom_id", [b"7", b"null", b"true", b'["a"]', b'"%s"' % (b"x" * 600)])
@pytest.mark.parametrize("fields", [b"", b'"id": "r-1", '])
def test_a_custom_id_that_intake_would_refuse_is_refused_with_its_line(
    custom_id: bytes, fields: bytes
) -> None:
    wrong = b'{%b"custom_id": %b, "body": {}}' % (fields, custom_id)
    why = "requests, line 3: custom_id: text of at most 512 characters was expected: OpenAI allows"
    with pytest.raises(UserError, match=why):
        lines(LINE + b"\n\n" + wrong + b"\n" + OTHER, "requests")


def test_what_is_wrong_in_one_line_is_left_to_intake() -> None:
    broken = b'{"id": "r-3", "input": "this line breaks off'
    assert lines(broken + b"\n" + LINE) == [broken, LINE]


def test_batch_files_that_begin_at_one_again_are_other_requests() -> None:
    monday, tuesday = a_batch_line(text="page 1 of Monday"), a_batch_line(text="page 1 of Tuesday")
    ids, custom_ids = set(), set()
    for line in (monday, tuesday):
        request = read_request(named(line), {}, fallback_id="x")
        ids.add(request.id)
        custom_ids.add(request.custom_id)
        assert request.id.startswith("request-1.")
        assert request.text == read_request(line, {}, fallback_id="x").text
        assert Line.of(line, 1) == Line.of(line, 2)
    assert len(ids) == 2
    assert custom_ids == {"request-1"}


def test_a_named_batch_goes_before_every_custom_id() -> None:
    request = read_request(named(a_batch_line(), "monday"), {}, fallback_id="x")
    assert (request.id, request.custom_id) == ("monday.request-1", "request-1")


@pytest.mark.parametrize("custom_id", ["row 1 (ü)", "x" * 300, 'a"b\\c', "~1", "llm.intake-0-1"])
@pytest.mark.parametrize("batch", [None, "monday", "Montag früh", "brief."])
def test_every_custom_id_has_an_id_of_ours(custom_id: str, batch: str | None) -> None:
    request = read_request(named(a_batch_line(custom_id), batch), {}, fallback_id="x")
    assert request.custom_id == custom_id
    assert request.id == Line.of(a_batch_line(custom_id), 1, batch=batch).id
    assert not is_reserved_id(request.id)


@pytest.mark.parametrize(
    "line",
    [LINE, b'{"custom_id": "a", "id": "b", "body": {}}', b'{"custom_id": "a', b'"text"'],
)
def test_lines_with_ids_of_their_own_and_broken_ones_stay_as_they_are(line: bytes) -> None:
    assert named(line, "monday") == line


@pytest.mark.parametrize(
    ("line", "key", "id_"),
    [
        (LINE, b"r-1", "r-1"),
        (b'{"id": "r-1", "conversation_id": "c-1", "input": "x"}', b"c-1", "r-1"),
        (b'{"input": "x"}', b"7", None),
        (b'{"id": "no id", "input": "x"}', b"no id", None),
        (b'"a prompt"', b"7", None),
        (b"broken", b"7", None),
        (b'{%b, "data": {"id": "r-1", "input": "x"}}' % EVENT, b"r-1", "r-1"),
        (b'{%b, "data": {"input": "x"}}' % EVENT, b"/s^e-1", "/s^e-1"),
    ],
)
def test_a_line_is_called_as_intake_will_call_it(line: bytes, key: bytes, id_: str | None) -> None:
    assert Line.of(line, 7) == (line, key, "default", None, id_)


def test_who_names_no_tenant_is_whose_the_file_is() -> None:
    told = b'{"id": "r-1", "tenant": "acme", "plan": "free", "input": "x"}'
    assert Line.of(told, 1, tenant="other")[2:4] == ("acme", "free")
    assert Line.of(LINE, 1, tenant="other")[2:4] == ("other", None)


def test_a_custom_id_that_stands_for_two_requests_is_refused() -> None:
    twice = [a_batch_line(), b"", a_batch_line("request-2"), a_batch_line(text="other")]
    with pytest.raises(UserError, match="lines 1 and 4 have the custom_id 'request-1'"):
        lines(b"\n".join(twice))
    assert len(lines(b"\n".join([a_batch_line(), a_batch_line()]))) == 2


def test_the_name_of_a_batch_is_for_files_that_are_one() -> None:
    assert checked(io.BytesIO(a_batch_line() + b"\n" + LINE), "f", "monday") == 2
    with pytest.raises(UserError, match="f: --batch monday is for lines with a custom_id"):
        checked(io.BytesIO(LINE), "f", "monday")


def test_a_line_that_no_request_may_be_is_refused_without_being_held() -> None:
    class Endless(io.BytesIO):
        asked = 0

        def read(self, size: int | None = -1) -> bytes:
            self.asked += size or 0
            return b"x" * (size or 0)

    file = Endless()
    with pytest.raises(UserError, match="requests, line 1: more than 1,048,576 bytes"):
        checked(file, "requests")
    assert file.asked < 3 * MAX_REQUEST_BYTES
    with pytest.raises(UserError, match="requests, line 2: more than 1,048,576 bytes"):
        lines(LINE + b"\n" + b" " * (MAX_REQUEST_BYTES + 1), "requests")


def test_a_file_without_a_request_is_refused() -> None:
    for raw in (b"", b"\n \r\n", codecs.BOM_UTF8):
        with pytest.raises(UserError, match="there is nothing to send"):
            lines(raw)


@given(
    st.lists(st.sampled_from([LINE, OTHER, b"", b" ", b'{"broken', b'{"id": "r-3"}'])),
    st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=1),
    st.integers(1, 60),
)
def test_wherever_a_file_is_cut_in_reading_its_lines_are_the_same(
    found: list[bytes], ends: list[bytes], size: int
) -> None:
    """Read some bytes at a time, a file gives what it gives as a whole."""

    class Slow(io.BytesIO):
        def read(self, _: int | None = -1) -> bytes:
            return super().read(size)

    raw = b"".join(line + end for line, end in zip(found, cycle(ends), strict=False))
    read = [line for _, line in lines_of(Slow(raw), "f")]
    assert read == [one.strip() for one in found if one.strip()]
