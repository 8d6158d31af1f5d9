"""Files that `submit` is given: lines, or one sentence about what they are instead."""

import bz2
import codecs
import gzip
import io
import lzma
import zipfile

import orjson
import pytest

from consumers.cli.common import UserError
from consumers.cli.request_files import lines_of, named_apart
from schemas.intake import read_request
from schemas.tenancy import is_reserved_id

LINE = b'{"id": "r-1", "input": "Where is my parcel?"}'
OTHER = b'{"id": "r-2", "input": "Wo ist mein P\xc3\xa4ckchen?"}'


def a_batch_line(custom_id: str = "request-1", text: str = "hello") -> bytes:
    chat = {"messages": [{"role": "user", "content": text}]}
    line = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": chat}
    return orjson.dumps(line)


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
    ],
)
def test_line_ends_blank_lines_and_byte_order_marks_change_no_request(raw: bytes) -> None:
    assert lines_of(raw, "requests.jsonl") == [LINE, OTHER]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("text", [LINE.decode(), "\n" + LINE.decode(), '[{"id": "r-1"}]'])
def test_other_encodings_are_named_and_refused(encoding: str, text: str) -> None:
    with pytest.raises(UserError, match=r"^requests\.jsonl.*UTF-8"):
        lines_of(text.encode(encoding), "requests.jsonl")
    with pytest.raises(UserError, match=f"{encoding[:6].upper()} text; UTF-8 was expected"):
        lines_of(("\ufeff" if encoding[6:] else "").encode(encoding) + text.encode(encoding), "r")


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
        lines_of(raw, "requests")


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
        lines_of(raw, "requests.jsonl")


def test_a_json_document_is_no_file_of_lines() -> None:
    listed = orjson.dumps([orjson.loads(LINE)])
    for raw in (listed, b"[\n" + LINE + b",\n" + OTHER + b"\n]"):
        with pytest.raises(UserError, match="one JSON list"):
            lines_of(raw, "requests.json")
    with pytest.raises(UserError, match="one JSON object over several lines"):
        lines_of(orjson.dumps(orjson.loads(LINE), option=orjson.OPT_INDENT_2), "request.json")


def test_what_is_wrong_in_one_line_is_left_to_intake() -> None:
    broken = b'{"id": "r-3", "input": "this line breaks off'
    assert lines_of(broken + b"\n" + LINE, "requests.jsonl") == [broken, LINE]


def test_batch_files_that_begin_at_one_again_are_other_requests() -> None:
    monday, tuesday = a_batch_line(text="page 1 of Monday"), a_batch_line(text="page 1 of Tuesday")
    ids, custom_ids = set(), set()
    for line in (monday, tuesday):
        assert named_apart([line], None, "f") == named_apart([line], None, "another file")
        [named] = named_apart([line], None, "f")
        request = read_request(named, {}, fallback_id="x")
        ids.add(request.id)
        custom_ids.add(request.custom_id)
        assert request.id.startswith("request-1.")
        assert request.text == read_request(line, {}, fallback_id="x").text
    assert len(ids) == 2
    assert custom_ids == {"request-1"}


def test_a_named_batch_goes_before_every_custom_id() -> None:
    [named] = named_apart([a_batch_line()], "monday", "f")
    request = read_request(named, {}, fallback_id="x")
    assert (request.id, request.custom_id) == ("monday.request-1", "request-1")


@pytest.mark.parametrize("custom_id", ["row 1 (ü)", "x" * 300, 'a"b\\c', "~1", "llm.intake-0-1"])
@pytest.mark.parametrize("batch", [None, "monday", "Montag früh", "brief."])
def test_every_custom_id_has_an_id_of_ours(custom_id: str, batch: str | None) -> None:
    [named] = named_apart([a_batch_line(custom_id)], batch, "f")
    request = read_request(named, {}, fallback_id="x")
    assert request.custom_id == custom_id
    assert not is_reserved_id(request.id)


def test_lines_with_ids_of_their_own_and_broken_ones_stay_as_they_are() -> None:
    lines = [LINE, b'{"custom_id": "a", "id": "b", "body": {}}', b'{"custom_id": "a', b'"text"']
    assert named_apart(lines, "monday", "f") == lines


def test_a_custom_id_that_stands_for_two_requests_is_refused() -> None:
    twice = [a_batch_line(), a_batch_line("request-2"), a_batch_line(text="other")]
    with pytest.raises(UserError, match="requests 1 and 3 have the custom_id 'request-1'"):
        named_apart(twice, None, "f")
    assert len(named_apart([a_batch_line(), a_batch_line()], None, "f")) == 2
