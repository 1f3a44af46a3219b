"""Documents: what a corpus is made of, and how they are read from text, JSON-lines and Parquet files.

A file ending in ``.txt`` or ``.md`` is one document; every line of a ``.jsonl`` file is one, with the
field ``text`` and, if it likes, ``id`` and ``url``. Each may be compressed with gzip (``.gz``), xz (``.xz``)
or zstd (``.zst``). A row of a ``.parquet`` file is a document too (`parquet_texts`). A folder stands for all
such files below it.
"""

import gzip
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from gpt2lab.base.errors import UserError
from gpt2lab.base.extras import import_extra
from gpt2lab.base.files import atomic_file, decode_utf8
from gpt2lab.corpus.open_files import DamagedFile, lines_of, open_zstd
from gpt2lab.corpus.parquet_texts import PARQUET_SUFFIX, read_parquet

TEXT_SUFFIXES = (".txt", ".md")
LINES_SUFFIX = ".jsonl"
COMPRESSED_SUFFIXES = (".gz", ".xz", ".zst")
_LINE_BYTES_A_TEXT_BYTE = 4  # JSON may spell two bytes with six, and has other fields


@dataclass(frozen=True)
class Document:
    """One text that belongs together: a page, a book, a module's documentation.

    Attributes:
        id: a name that stays the same from run to run; whether the document is trained on or held out
            hangs on it.
        text: what it says.
        source: where it came from, for people: a path, an address.
    """

    id: str
    text: str
    source: str


@dataclass(frozen=True)
class Dropped:
    """A text that some stage took out, kept so that people can look at what was lost.

    Attributes:
        id: the document it was, or was a part of.
        text: what was taken out.
        reason: one word for why: ``"too_short"``, ``"near_duplicate"``.
        duplicate_of: the id of the document that already says this, if that is the reason.
    """

    id: str
    text: str
    reason: str
    duplicate_of: str | None = None


def is_blank(text: str) -> bool:
    """Whether there is nothing to read in `text`."""
    return not text or text.isspace()


def read_documents(paths: Sequence[Path]) -> Iterator[Document]:
    """Read every document in `paths`: files as they are named, folders in sorted order.

    In a folder, hidden files and files of other kinds are passed over. A document's id is its record's
    own ``id``, or else its path below the named folder (with its line, in a JSON-lines file).

    Raises:
        UserError: a path is missing, of an unknown kind, damaged or not UTF-8; a JSON line is malformed or
            has no text; or there is no text in any of them.
    """
    found_text = False
    for path in paths:
        for file, name in files_below(path, known_kind, known_kinds()):
            for record in read_records(file, name):
                if isinstance(record, UserError):
                    raise record
                found_text = found_text or not is_blank(record.text)
                yield record
    if not found_text:
        raise UserError(
            "there is no text here",
            where=", ".join(map(str, paths)) or None,
            fix=f"Name a file with text in it, or a folder that holds {known_kinds()} files",
        )


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """Write documents as JSON lines, whole or not at all; `read_documents` reads them back.

    Args:
        path: ends in ``.jsonl``, ``.jsonl.gz``, ``.jsonl.xz`` or ``.jsonl.zst``.
        documents: in the order in which they are written.
    """
    with atomic_file(path) as temporary, temporary.open("wb") as file, _packed(file, path.suffix) as stream:
        for document in documents:
            stream.write(json.dumps(asdict(document), ensure_ascii=False).encode() + b"\n")


def _packed(file: IO[bytes], suffix: str) -> AbstractContextManager[Any]:
    """A stream that compresses into `file` as `suffix` says."""
    if suffix == ".gz":  # no time and no name in the header: the same documents give the same bytes
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
    if suffix == ".zst":
        packed: AbstractContextManager[Any] = import_extra("backports.zstd", "corpus").ZstdFile(file, "wb")
        return packed
    return lzma.LZMAFile(file, "wb") if suffix == ".xz" else nullcontext(file)


def known_kinds() -> str:
    """The endings of files that `read_documents` reads, in words."""
    kinds = ", ".join([*TEXT_SUFFIXES, LINES_SUFFIX])
    packed = f"{', '.join(COMPRESSED_SUFFIXES[:-1])} or {COMPRESSED_SUFFIXES[-1]}"
    return f"{kinds} (each also with {packed}), {PARQUET_SUFFIX}"


def known_kind(file: Path) -> str | None:
    """The suffix that says how to read `file`, compression apart; None if it is not one we read."""
    name = file.name.lower()
    if name.endswith(PARQUET_SUFFIX):
        return PARQUET_SUFFIX
    for suffix in COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    return next((kind for kind in (*TEXT_SUFFIXES, LINES_SUFFIX) if name.endswith(kind)), None)


def files_below(path: Path, kind_of: Callable[[Path], str | None], kinds: str) -> Iterator[tuple[Path, str]]:
    """The files that `path` stands for, each with its name as seen from there.

    Args:
        path: a file, or a folder, below which hidden files and those of no kind are passed over.
        kind_of: a file's kind, or None if it is of no kind that is read.
        kinds: the kinds in words, for the error.

    Raises:
        UserError: there is nothing at `path`, or it is a file of no kind.
    """
    if path.is_dir():
        for file in sorted(path.rglob("*"), key=lambda file: file.relative_to(path).parts):
            inner = file.relative_to(path)
            hidden = any(part.startswith(".") for part in inner.parts)
            if file.is_file() and not hidden and kind_of(file):
                yield file, inner.as_posix()
    elif not path.exists():
        raise UserError("no such file or folder", where=path, fix="Check the spelling of the path")
    elif kind_of(path) is None:
        raise UserError(
            f"not a kind of file that text is read from: {path.suffix or 'no ending'}",
            where=path,
            fix=f"The kinds are {kinds}; rename it if it is one of them",
        )
    else:
        yield path, path.name


class TooLargeError(UserError):
    """A document that is longer than its reader may hold."""


def read_records(file: Path, name: str, max_bytes: int | None = None) -> Iterator[Document | UserError]:
    """The documents of one file, and in the place of each that cannot be read the error that says why.

    After a damaged place in a compressed file nothing more comes.

    Args:
        file: of a known kind.
        name: the id of its document, or the beginning of its documents' ids.
        max_bytes: no text much longer is read into memory: in its place comes a `TooLargeError`.
    """
    if known_kind(file) == PARQUET_SUFFIX:
        yield from _read_rows(file, name)
        return
    try:
        with _opened(file) as stream:
            if known_kind(file) == LINES_SUFFIX:
                longest = sys.maxsize if max_bytes is None else max_bytes * _LINE_BYTES_A_TEXT_BYTE
                for number, line in enumerate(lines_of(stream, longest), 1):
                    yield from _read_line(line, f"{name}:{number}", f"{file}:{number}")
            else:
                yield _read_text(stream, name, str(file), max_bytes)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, DamagedFile) as error:
        yield UserError(
            f"the compressed file is damaged or cut short: {error}",
            where=file,
            fix="Fetch or compress it again",
        )
    except PermissionError:
        yield UserError("no permission to read this", where=file, fix="Check who may read it")


def _read_rows(file: Path, name: str) -> Iterator[Document | UserError]:
    for number, row in enumerate(read_parquet(file), 1):
        if isinstance(row, UserError):
            yield row
        else:
            identity, text, url = row
            yield Document(identity or f"{name}:{number}", text, url or f"{file}:{number}")


def _opened(file: Path) -> AbstractContextManager[Any]:
    """What a file holds, unpacked as its name says."""
    suffix = file.suffix.lower()
    if suffix == ".zst":
        return open_zstd(file)
    opener: Any = {".gz": gzip.open, ".xz": lzma.open}.get(suffix, open)
    opened: AbstractContextManager[Any] = opener(file, "rb")
    return opened


def _read_text(stream: Any, name: str, where: str, max_bytes: int | None) -> Document | UserError:
    data: bytes = stream.read() if max_bytes is None else stream.read(max_bytes + 1)
    if max_bytes is not None and len(data) > max_bytes:
        return _too_large(where)
    try:
        return Document(name, decode_utf8(data, where).removeprefix("\ufeff"), where)
    except UserError as error:
        return error


def _too_large(where: str) -> TooLargeError:
    return TooLargeError("this is larger than a document may be", where=where, fix="Cut it into several")


def _read_line(line: bytes | None, name: str, where: str) -> Iterator[Document | UserError]:
    """The document in a line of a JSON-lines file; nothing for a blank line; None is one that is too long."""
    if line is None:
        yield _too_large(where)
        return
    try:
        decoded = decode_utf8(line, where).removeprefix("\ufeff").strip()
        if decoded:
            identity, text, url = _parse_record(decoded, where)
            yield Document(name if identity is None else identity, text, url or where)
    except UserError as error:
        yield error


def _parse_record(line: str, where: str) -> tuple[str | None, str, str]:
    """The id, if it has one, the text, and the address, if it has one, of one line of a JSON-lines file."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"this line is not valid JSON: {error}",
            where=where,
            fix="Every line must be one JSON object with a field `text`",
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        has = ", ".join(map(str, record)) or "none" if isinstance(record, dict) else type(record).__name__
        raise UserError(
            f"this record has no field `text` that holds a string; it has: {has}",
            where=where,
            fix="Name the field that holds the text `text`",
        )
    identity, url = record.get("id"), record.get("url")
    return (
        None if identity is None else _whole_characters(str(identity)),
        _whole_characters(record["text"]),
        _whole_characters(url) if isinstance(url, str) else "",
    )


def _whole_characters(text: str) -> str:
    """`text` with each lone half of a surrogate pair, which JSON can spell but UTF-8 cannot, as U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
