import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import (
    TEMPORARY_PREFIX,
    atomic_file,
    atomic_folder,
    disk_errors_explained,
    read_json,
    read_text,
    remove_leftovers,
    require_free_space,
    sha256_of,
    write_json,
    write_text,
)

FULL = Path("/dev/full")  # every write to it says that the disk is full
needs_full_device = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/file"
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names_in(path.parent) == ["file"]


def test_a_file_keeps_its_old_content_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write_half() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("new, half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["file"]


@needs_full_device
def test_a_full_disk_while_writing_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write_too_much() -> None:
        with atomic_file(path) as temporary:
            temporary.symlink_to(FULL)
            temporary.write_bytes(bytes(100_000))

    with pytest.raises(UserError, match="the disk is full; what was there before is untouched") as caught:
        write_too_much()
    assert caught.value.where == str(path)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["file"]


@needs_full_device
def test_a_full_disk_while_writing_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "file").write_text("old")

    def write_too_much() -> None:
        with atomic_folder(path) as temporary:
            (temporary / "file").write_text("new")
            (temporary / "large").symlink_to(FULL)
            (temporary / "large").write_bytes(bytes(100_000))

    with pytest.raises(UserError, match="folder: the disk is full"):
        write_too_much()
    assert (path / "file").read_text() == "old"
    assert names_in(tmp_path) == ["folder"]


@pytest.mark.parametrize("fails", ["fsync", "rename"])
def test_a_full_disk_at_the_very_end(fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems that allocate late say so only when they are told to flush."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "folder"
    path.mkdir()
    (path / "file").write_text("old")
    if fails == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "rename", fail)
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match="disk is full"), atomic_folder(path) as temporary:
        (temporary / "file").write_text("new")
    with pytest.raises(UserError, match="disk is full"), atomic_file(path / "file") as temporary:
        temporary.write_text("new")
    assert (path / "file").read_text() == "old"
    assert names_in(tmp_path) == ["folder"]
    assert names_in(path) == ["file"]


def test_a_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for generation in ("first", "second"):
        with atomic_folder(path) as temporary:
            (temporary / "inside").mkdir()
            (temporary / "inside" / generation).write_text(generation)
    assert names_in(path / "inside") == ["second"]
    assert names_in(tmp_path) == ["folder"]


def test_a_folder_is_untouched_when_writing_fails(tmp_path: Path) -> None:
    def write_half() -> None:
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / "file").write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert names_in(tmp_path) == []


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}1-a").mkdir()
    (tmp_path / f"{TEMPORARY_PREFIX}1-a/file").touch()
    (tmp_path / f"{TEMPORARY_PREFIX}1-b").touch()
    (tmp_path / "mine").touch()
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == ["mine"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EROFS, "permission denied"),
        (errno.EFBIG, "larger than this disk or `ulimit -f` allows"),
    ],
)
def test_errors_of_the_disk_are_explained(number: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message), disk_errors_explained(tmp_path):
        raise OSError(number, "said by the system")


def test_other_errors_keep_their_traceback(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output"), disk_errors_explained(tmp_path):
        raise OSError(errno.EIO, "Input/output error")


def test_json_and_text_round_trip(tmp_path: Path) -> None:
    value = {"name": "é\u2028", "list": [1, 2.5, None, True]}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value
    write_text(tmp_path / "text", "a\nß\n")
    assert (tmp_path / "text").read_bytes() == b"a\n\xc3\x9f\n"
    assert read_text(tmp_path / "text") == "a\nß\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abc\xffdef", "not UTF-8 text: byte 3 is 0xff.*iconv"),
        (b'{"a": 1,\n oops}', "not valid JSON at line 2, column 2"),
        (None, "no such file"),
    ],
)
def test_bad_files(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_json(path)
    assert caught.value.where == str(path)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this is a folder"):
        read_text(tmp_path)


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_room_is_asked_for_where_the_folder_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_free_space(tmp_path / "not/there/yet", 1, "a test")
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(UserError, match=r"a test needs [\d,]+ MB and the disk has [\d,]+ MB free") as caught:
        require_free_space(tmp_path / "not/there/yet", 2 * free + 10**9, "a test")
    assert caught.value.where == str(tmp_path / "not/there/yet")


def test_json_is_written_for_people(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"é": [1]})
    assert (tmp_path / "a").read_text() == '{\n  "é": [\n    1\n  ]\n}\n'
    json.loads((tmp_path / "a").read_text())
