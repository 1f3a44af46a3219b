"""Source files, wherever they lie and however they are packed: plain, gzip, bzip2, xz or zstd.

How a file is packed is seen from its first bytes, not from its name. zstd may use the window of 2^31 bytes
that the published Reddit dumps need.
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gpt2lab.base.errors import UserError
from gpt2lab.base.extras import import_extra
from gpt2lab.corpus.remote_files import is_url, open_url

LONGEST_LINE = 4 << 20
"""Bytes; a Reddit submission is at most some hundred thousand"""

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class DamagedFile(Exception):  # noqa: N818
    """A packed file that breaks off or cannot be unpacked from some place on."""


def open_file(source: str | Path) -> IO[bytes]:
    """A file on this machine, or anywhere that fsspec reaches: ``"s3://bucket/name.warc.gz"``.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    if is_url(source):
        return open_url(str(source))
    try:
        return Path(source).open("rb")
    except FileNotFoundError as error:
        raise UserError("no such file", where=str(source), fix="Check the spelling") from error
    except IsADirectoryError as error:
        raise UserError("this is a folder, not a file", where=source, fix="Name a file inside it") from error
    except PermissionError as error:
        raise UserError("no permission to read this", where=source, fix="Check who may read it") from error


@contextmanager
def open_zstd(file: Path | IO[bytes]) -> Iterator[Any]:
    """What a zstd file holds, as a binary stream.

    Raises:
        DamagedFile: at the place where it cannot be unpacked any further; what is before has been read.
    """
    zstd = import_extra("backports.zstd", "corpus")
    try:
        with zstd.ZstdFile(file, options={zstd.DecompressionParameter.window_log_max: 31}) as stream:
            yield stream
    except (EOFError, zstd.ZstdError) as error:
        raise DamagedFile(str(error)) from error


@contextmanager
def open_unpacked(source: str | Path) -> Iterator[Any]:
    """The file's content as a binary stream, whatever it is packed with.

    Raises:
        UserError: the file cannot be opened.
        DamagedFile: at the place where it cannot be unpacked any further; what is before has been read.
    """
    with open_file(source) as file:
        magic = file.read(4)
        file.seek(0)
        errors: tuple[type[Exception], ...] = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
        stream: Any = file
        if magic.startswith(b"\x1f\x8b"):
            stream = gzip.GzipFile(fileobj=file)
        elif magic.startswith(b"BZh"):
            stream = bz2.BZ2File(file)
            errors = (EOFError, OSError)
        elif magic.startswith(b"\xfd7zX"):
            stream = lzma.LZMAFile(file)  # noqa: SIM115
        elif magic == _ZSTD_MAGIC:
            with open_zstd(file) as stream:
                yield stream
            return
        try:
            yield stream
        except errors as error:
            raise DamagedFile(str(error)) from error


def read_lines(source: str | Path) -> Iterator[bytes | None]:
    """The lines of a file, packed or not, without their ends; None in the place of one that is too long.

    Raises:
        UserError: the file cannot be opened.
        DamagedFile: it cannot be unpacked any further.
    """
    with open_unpacked(source) as stream:
        yield from lines_of(stream, LONGEST_LINE)


def lines_of(stream: Any, longest: int) -> Iterator[bytes | None]:
    """The lines of a binary stream without their ends; None in the place of one of `longest` bytes."""
    while line := stream.readline(longest):
        if len(line) < longest or line.endswith(b"\n"):
            yield line.rstrip(b"\r\n")
            continue
        while len(line) == longest and not line.endswith(b"\n"):
            line = stream.readline(longest)
        yield None
