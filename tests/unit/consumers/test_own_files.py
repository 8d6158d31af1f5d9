"""What we keep on disk is for nobody else to read, whatever the umask says."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from consumers.files import own_file, own_folder, read_text, write_own
from consumers.lab.broker.class_data import ClassData
from consumers.providers.masking import masking


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture(params=[0o000, 0o022, 0o077], autouse=True)
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_files_and_folders_are_ours_alone(tmp_path: Path) -> None:
    inner = own_folder(tmp_path / "outer" / "inner")
    write_own(inner / "one", "text")
    own_file(inner / "two")

    assert [_mode(one) for one in (inner.parent, inner)] == [0o700, 0o700]
    assert [_mode(inner / one) for one in ("one", "two")] == [0o600, 0o600]
    assert (inner / "one").read_text() == "text"


def test_what_was_open_to_others_is_closed_and_what_is_above_is_left_alone(tmp_path: Path) -> None:
    above, ours = tmp_path / "above", tmp_path / "above" / "ours"
    for folder, mode in ((above, 0o755), (ours, 0o777)):
        folder.mkdir()
        folder.chmod(mode)
    (ours / "file").write_text("text")
    (ours / "file").chmod(0o666)

    own_folder(ours)
    own_file(ours / "file")

    assert [_mode(one) for one in (above, ours, ours / "file")] == [0o755, 0o700, 0o600]


@pytest.fixture
def archived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClassData:
    """An archive as a run of ours leaves it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = ClassData.find(tmp_path / "java" / "bin" / "java", [], tmp_path)
    scratch = own_folder(tmp_path / "tierline" / "scratch")
    write_own(scratch / "archive.jsa", "classes")
    found._put_in_place(scratch)
    return found


def test_an_archive_of_our_own_is_used(archived: ClassData) -> None:
    assert archived.is_ready
    assert archived.flags == [f"-XX:SharedArchiveFile={archived.archive / 'archive.jsa'}"]


@pytest.mark.parametrize("part", ["", "archive.jsa", ".."])
def test_an_archive_that_others_could_have_written_is_not(archived: ClassData, part: str) -> None:
    (archived.archive / part).chmod(0o777)
    assert not archived.is_ready


def test_an_archive_that_was_changed_or_put_elsewhere_is_not(archived: ClassData) -> None:
    file = archived.archive / "archive.jsa"
    file.write_text("others")
    assert not archived.is_ready

    file.rename(archived.archive / "elsewhere")
    (archived.archive / "elsewhere").write_text("classes")
    file.symlink_to(archived.archive / "elsewhere")
    assert not archived.is_ready


_KEY = 'sk-Live/0123+456"789=abc'


@pytest.mark.parametrize(
    "form",
    [
        _KEY,
        _KEY.upper(),
        _KEY.lower(),
        _KEY.swapcase(),
        quote(_KEY),
        quote(_KEY, safe="").lower(),
        _KEY.replace('"', '\\"'),
        base64.b64encode(_KEY.encode()).decode(),
        base64.urlsafe_b64encode(_KEY.encode()).decode().rstrip("="),
    ],
)
def test_a_key_that_a_server_sends_back_is_masked_in_every_form(form: str) -> None:
    masked = masking([_KEY, "x", ""])
    said = f'{{"error": "bad key {form}", "x": "x"}}'.encode()

    assert form.encode() not in masked(said)
    assert masked(said).startswith(b'{"error": "bad key [secret]')
    assert masked(b'{"x": "nothing of ours"}') == b'{"x": "nothing of ours"}'


def test_a_text_may_begin_with_a_byte_order_mark_and_is_utf_8(tmp_path):
    file = tmp_path / "routing.yaml"
    file.write_bytes("\ufeffname: größe\n".encode())
    assert read_text(file) == "name: größe\n"
    file.write_bytes("name: größe\n".encode("utf-16"))
    with pytest.raises(OSError, match="byte 1 is not UTF-8; a text in UTF-8 was expected"):
        read_text(file)
