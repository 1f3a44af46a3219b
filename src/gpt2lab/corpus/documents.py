"""Documents: what a corpus is made of, and how they are read from text and JSON-lines files.

A file ending in ``.txt`` or ``.md`` is one document; every line of a ``.jsonl`` file is one, with the
field ``text`` and, if it likes, ``id``. Each may be compressed with gzip (``.gz``) or xz (``.xz``). A
folder stands for all such files below it.
"""

import gzip
import json
import lzma
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import atomic_file, decode_utf8

TEXT_SUFFIXES = (".txt", ".md")
LINES_SUFFIX = ".jsonl"
COMPRESSED_SUFFIXES = (".gz", ".xz")


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
        for file, name in _files_below(path):
            for document in _read_file(file, name):
                found_text = found_text or not is_blank(document.text)
                yield document
    if not found_text:
        raise UserError(
            "there is no text here",
            where=", ".join(map(str, paths)) or None,
            fix=f"Name a file with text in it, or a folder that holds {_known_kinds()} files",
        )


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """Write documents as JSON lines, whole or not at all; `read_documents` reads them back.

    Args:
        path: ends in ``.jsonl``, ``.jsonl.gz`` or ``.jsonl.xz``.
        documents: in the order in which they are written.
    """
    with atomic_file(path) as temporary, temporary.open("wb") as file, _packed(file, path.suffix) as stream:
        for document in documents:
            stream.write(json.dumps(asdict(document), ensure_ascii=False).encode() + b"\n")


def _packed(file: IO[bytes], suffix: str) -> AbstractContextManager[Any]:
    """A stream that compresses into `file` as `suffix` says."""
    if suffix == ".gz":  # no time and no name in the header: the same documents give the same bytes
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
    return lzma.LZMAFile(file, "wb") if suffix == ".xz" else nullcontext(file)


def _known_kinds() -> str:
    kinds = ", ".join([*TEXT_SUFFIXES, LINES_SUFFIX])
    return f"{kinds} (each also with {' or '.join(COMPRESSED_SUFFIXES)})"


def _kind_of(file: Path) -> str | None:
    """The suffix that says how to read `file`, compression apart; None if it is not one we read."""
    name = file.name.lower()
    for suffix in COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    return next((kind for kind in (*TEXT_SUFFIXES, LINES_SUFFIX) if name.endswith(kind)), None)


def _files_below(path: Path) -> Iterator[tuple[Path, str]]:
    """The files that `path` stands for, each with its name as seen from there."""
    if path.is_dir():
        for file in sorted(path.rglob("*"), key=lambda file: file.relative_to(path).parts):
            inner = file.relative_to(path)
            hidden = any(part.startswith(".") for part in inner.parts)
            if file.is_file() and not hidden and _kind_of(file):
                yield file, inner.as_posix()
    elif not path.exists():
        raise UserError("no such file or folder", where=path, fix="Check the spelling of the path")
    elif _kind_of(path) is None:
        raise UserError(
            f"not a kind of file that text is read from: {path.suffix or 'no ending'}",
            where=path,
            fix=f"The kinds are {_known_kinds()}; rename it if it is one of them",
        )
    else:
        yield path, path.name


def _read_file(file: Path, name: str) -> Iterator[Document]:
    opener: Any = {".gz": gzip.open, ".xz": lzma.open}.get(file.suffix.lower(), open)
    try:
        with opener(file, "rb") as stream:
            if _kind_of(file) == LINES_SUFFIX:
                yield from _read_lines(stream, file, name)
            else:
                text = decode_utf8(stream.read(), file).removeprefix("\ufeff")
                yield Document(name, text, str(file))
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise UserError(
            f"the compressed file is damaged or cut short: {error}",
            where=file,
            fix="Fetch or compress it again",
        ) from error
    except PermissionError as error:
        raise UserError("no permission to read this", where=file, fix="Check who may read it") from error


def _read_lines(stream: IO[bytes], file: Path, name: str) -> Iterator[Document]:
    for number, line in enumerate(stream, 1):
        where = f"{file}:{number}"
        decoded = decode_utf8(line, where).removeprefix("\ufeff").strip()
        if decoded:
            identity, text = _parse_record(decoded, where)
            yield Document(f"{name}:{number}" if identity is None else identity, text, where)


def _parse_record(line: str, where: str) -> tuple[str | None, str]:
    """The id, if it has one, and the text of one line of a JSON-lines file."""
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
    identity = record.get("id")
    return None if identity is None else _whole_characters(str(identity)), _whole_characters(record["text"])


def _whole_characters(text: str) -> str:
    """`text` with each lone half of a surrogate pair, which JSON can spell but UTF-8 cannot, as U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
