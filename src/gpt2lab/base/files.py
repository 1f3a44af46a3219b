"""Files that are either whole or absent: write to a temporary name, flush to the disk, rename.

A reader never sees a half-written file, whatever kills the writer (`kill -9`, a full disk, a power cut).
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import UserError

TEMPORARY_PREFIX = ".tmp-"  # a crash leaves only names like this behind; `remove_leftovers` clears them


@contextmanager
def disk_errors_explained(path: Path) -> Iterator[None]:
    """Turn a full disk or a forbidden path into a `UserError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                "the disk is full; what was there before is untouched",
                where=path,
                fix="Free some space, or write to another disk, and run the same command again",
            ) from error
        if error.errno == errno.EFBIG:
            raise UserError(
                "the file grows larger than this disk or `ulimit -f` allows; what was there is untouched",
                where=path,
                fix="Raise the limit, or write to another disk, and run the same command again",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(
                "cannot write here: permission denied", where=path, fix="Choose a folder you may write to"
            ) from error
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they do not exist yet.

    Raises:
        UserError: a file is in the way, or a folder may not be made there.
    """
    try:
        with disk_errors_explained(path):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"no folder can be made here: {error.strerror}", where=path, fix="Choose another place"
        ) from error


def _flush_to_disk(path: Path) -> None:
    """fsync a file, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, it becomes `path`, whole.

    Raises:
        UserError: the disk is full, or the folder cannot be made or written; `path` is as it was before.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}"
    make_folder(path.parent)
    with disk_errors_explained(path):
        try:
            yield temporary
            _flush_to_disk(temporary)
            temporary.replace(path)
            _flush_to_disk(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; when the block ends well, it becomes `path`, whole.

    A folder that already stands at `path` is replaced. Between setting the old one aside and moving the
    new one in there is an instant with neither under its name; the old one is then under the temporary
    prefix, so nothing is lost. Callers who must never see that instant write to a fresh name.

    Raises:
        UserError: the disk is full, or the folder cannot be made or written; `path` is as it was before.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}"
    make_folder(path.parent)
    with disk_errors_explained(path):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            for file in sorted(temporary.rglob("*")):
                _flush_to_disk(file)
            _flush_to_disk(temporary)
            if path.exists():
                old = temporary.with_name(f"{temporary.name}-old")
                path.rename(old)
                try:
                    temporary.rename(path)
                except OSError:
                    old.rename(path)
                    raise
                shutil.rmtree(old)
            else:
                temporary.rename(path)
            _flush_to_disk(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed writer left half-done in `folder`. Call only while no one writes there."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, with Unix line ends."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def decode_utf8(data: bytes, where: str | Path) -> str:
    """The text that `data`, which came from `where`, spells.

    Raises:
        UserError: it is not UTF-8 (the first bad byte is named).
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"not UTF-8 text: byte {error.start:,} is 0x{data[error.start]:02x}",
            where=where,
            fix="Convert it first, for example with `iconv -f latin1 -t utf-8`",
        ) from error


def read_text(path: Path) -> str:
    """Read UTF-8 text.

    Raises:
        UserError: there is no such file, or its bytes are not UTF-8 (the first bad byte is named).
    """
    try:
        return decode_utf8(path.read_bytes(), path)
    except FileNotFoundError as error:
        raise UserError("no such file", where=path, fix="Check the spelling of the path") from error
    except IsADirectoryError as error:
        raise UserError("this is a folder, not a file", where=path, fix="Name a file inside it") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: no such file, not UTF-8, or not JSON (with line and column).
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}",
            where=path,
            fix="Restore the file from where it came",
        ) from error


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_free_space(folder: Path, n_bytes: int, purpose: str) -> None:
    """Refuse to start writing what cannot fit.

    Raises:
        UserError: `folder`'s disk has fewer than `n_bytes` bytes free.
    """
    existing = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < n_bytes:
        raise UserError(
            f"{purpose} needs {n_bytes / 1e6:,.0f} MB and the disk has {free / 1e6:,.0f} MB free",
            where=folder,
            fix="Free some space, or write to another disk",
        )
