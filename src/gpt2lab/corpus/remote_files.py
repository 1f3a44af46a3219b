"""Files elsewhere, in an object store or on a web server, opened by fsspec and read where they lie."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from gpt2lab.base.errors import UserError

T = TypeVar("T")
_VERSIONS = ("ETag", "etag", "md5Hash", "md5", "crc32c", "LastModified", "last_modified", "mtime", "created")
_PAUSES_S = (1.0, 5.0, 25.0)  # before what failed is asked for again


@dataclass(frozen=True)
class RemoteFile:
    """A file elsewhere.

    Attributes:
        url: where it lies.
        size: bytes.
        version: whatever its keeper says that changes with the content, an ETag mostly; empty if nothing.
    """

    url: str
    size: int
    version: str


def is_url(source: str | Path) -> bool:
    """Whether a source lies elsewhere rather than on this machine's disks."""
    return "://" in str(source)


def find_remote_files(url: str, kind_of: Callable[[str], str | None], kinds: str) -> list[RemoteFile]:
    """The files that a URL stands for: itself, those that match it with its ``*``, or all below it, sorted.

    Args:
        url: ``"s3://bucket/folder/*.warc.gz"``.
        kind_of: a file's kind, or None if it is of no kind that is read.
        kinds: the kinds in words, for the error.

    Raises:
        UserError: there is nothing of these kinds, or nothing here can reach it.
    """
    with _told_plainly(url):
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
        if "*" in path:
            found = system.glob(path, detail=True)
        else:
            facts = system.info(path)
            found = system.find(path, detail=True) if facts["type"] == "directory" else {path: facts}
    files = [
        RemoteFile(system.unstrip_protocol(name), int(facts.get("size") or 0), _version(facts))
        for name, facts in sorted(found.items())
        if facts["type"] == "file" and kind_of(name)
    ]
    if not files:
        raise UserError(
            "there is no file here that is read from afar", where=url, fix=f"The kinds are {kinds}"
        )
    return files


def _version(facts: dict[str, Any]) -> str:
    return next((str(facts[name]).strip('"') for name in _VERSIONS if facts.get(name)), "")


def open_url(url: str) -> IO[bytes]:
    """A file elsewhere, as one that can be read from any place in it.

    Raises:
        UserError: there is no such file, or nothing here can read it. Reading raises it too, when nothing
            comes after several tries: what is lost on the way must not be taken for a damaged file.
    """
    with _told_plainly(url):
        import fsspec

        remote = fsspec.open(url, "rb").open()
        try:
            remote.seek(0, io.SEEK_END)
        except ValueError as error:
            raise UserError(
                "whoever keeps this gives it from its beginning only", where=url, fix="Copy it here"
            ) from error
        remote.seek(0)
    return _Patient(remote, url)


class _Patient(io.BufferedIOBase, IO[bytes]):
    """A remote file that asks again when nothing comes."""

    def __init__(self, file: IO[bytes], url: str) -> None:
        self._file = file
        self._url = url

    def read(self, size: int | None = -1, /) -> bytes:
        at = self._file.tell()
        for pause_s in _PAUSES_S:
            try:
                return self._file.read(-1 if size is None else size)
            except Exception:  # every store has its own for a line that breaks
                time.sleep(pause_s)
                self._file.seek(at)
        with _told_plainly(self._url):
            return self._file.read(-1 if size is None else size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def _told_plainly(url: str) -> Iterator[None]:
    """Whatever a store's library raises, as one line."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(
            "no such file, or no way to it", where=url, fix="Check the spelling and the connection"
        ) from error
    except (ImportError, ValueError) as error:  # what fsspec lacks, or a protocol that nobody knows
        raise UserError(
            f"nothing here can open this: {error}", where=url, fix="Install it, or copy the file here"
        ) from error
    except Exception as error:  # every store has its own: refused, no credentials, no connection
        raise UserError(
            f"this cannot be read: {error}",
            where=url,
            fix="Check the connection and who may read it (fsspec's settings: FSSPEC_S3_ANON=true), and run "
            "the same command again",
        ) from error
