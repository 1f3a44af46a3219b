"""The two files of a stage that passes documents on: those it keeps, and what it dropped and why."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gpt2lab.corpus.documents import Document
from gpt2lab.corpus.pages import DroppedPage
from gpt2lab.corpus.parquet_files import DOCUMENT, DROPPED, RowWriter, read_rows
from gpt2lab.corpus.stage import Call, Counts

A_PART = "a part"
"""What is said of something dropped that was a part of a document that may have stayed."""

KEPT_AND_DROPPED = ("parquet", "dropped.parquet")
"""Endings of the two files."""


class StageWriter:
    """Writes both files and counts what goes where.

    Args:
        call: its first two outputs are the files.
        stage: what dropped documents are said to have been dropped by, unless `drop` says otherwise.
    """

    def __init__(self, call: Call, stage: str) -> None:
        self._stage = stage
        self._kept = RowWriter(call.outputs[0], DOCUMENT)
        self._dropped = RowWriter(call.outputs[1], DROPPED)
        self._tally = Tally()

    @property
    def counts(self) -> Counts:
        """See `Tally.counts`."""
        return self._tally.counts

    def read(self, n_bytes: int) -> None:
        """Count a document that came in."""
        self._tally.read(n_bytes)

    def keep(self, document: Document) -> None:
        """Pass a document on."""
        self._kept.write(document_row(document))
        self._tally.keep(utf8_length(document.text))

    def passed(self, step: str, n_bytes: int) -> None:
        """Count a document that a step of the stage left in."""
        self._tally.passed(step, n_bytes)

    def drop(self, document: Document, reason: str, detail: str = "", stage: str | None = None) -> None:
        """Take a document out."""
        stage = stage or self._stage
        self._dropped.write((*document_row(document), stage, reason, detail))
        self._tally.drop(stage, reason, utf8_length(document.text))

    def drop_part(self, document: Document, part: str, reason: str, stage: str) -> None:
        """Take a part out of a document that may stay."""
        self._dropped.write(
            (*document_row(Document(document.id, part, document.source)), stage, reason, A_PART)
        )
        self._tally.drop_part(stage, reason, utf8_length(part))

    def count_parts(self, stage: str, reason: str, number: int) -> None:
        """Count parts that were replaced and are not to be kept."""
        self._tally.drop_part(stage, reason, 0, number)

    def drop_unread(self, page: DroppedPage) -> None:
        """Note something that never became a page or a document."""
        address = url_of(Document(page.url, "", ""))
        self._dropped.write((page.url, "", page.url, address, self._stage, page.reason, page.detail))
        self._tally.drop(self._stage, page.reason, 0)

    def __enter__(self) -> Self:
        self._kept.__enter__()
        self._dropped.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kept.__exit__(kind, error, trace)
        self._dropped.__exit__(kind, error, trace)


class Tally:
    """Documents and bytes of text: read, kept, and dropped by stage and reason."""

    def __init__(self) -> None:
        self._numbers: Counter[str] = Counter(documents=0, bytes=0, kept=0, kept_bytes=0)
        self._dropped: dict[str, Counter[str]] = {}
        self._parts: dict[str, Counter[str]] = {}
        self._steps: dict[str, Counter[str]] = {}

    def read(self, n_bytes: int) -> None:
        """Count a document that came in."""
        self._numbers.update(documents=1, bytes=n_bytes)

    def keep(self, n_bytes: int) -> None:
        """Count a document that stays."""
        self._numbers.update(kept=1, kept_bytes=n_bytes)

    def passed(self, step: str, n_bytes: int) -> None:
        """Count a document that a step of the stage left in."""
        self._steps.setdefault(step, Counter()).update(documents=1, bytes=n_bytes)

    def drop(self, stage: str, reason: str, n_bytes: int) -> None:
        """Count a document that goes."""
        self._dropped.setdefault(f"{stage}/{reason}", Counter()).update(documents=1, bytes=n_bytes)

    def drop_part(self, stage: str, reason: str, n_bytes: int, number: int = 1) -> None:
        """Count parts of a document that go, `n_bytes` in all."""
        self._parts.setdefault(f"{stage}/{reason}", Counter()).update(documents=number, bytes=n_bytes)

    @property
    def counts(self) -> Counts:
        """Totals; `dropped` and `parts` by ``stage/reason``; what `steps` left, by name."""
        return {
            **self._numbers,
            "dropped": {name: dict(numbers) for name, numbers in sorted(self._dropped.items())},
            "parts": {name: dict(numbers) for name, numbers in sorted(self._parts.items())},
            "steps": {name: dict(numbers) for name, numbers in sorted(self._steps.items())},
        }


def read_kept(path: Path) -> Iterator[Document]:
    """The documents that a stage kept, in order."""
    for identity, text, source in read_rows(path, ["id", "text", "source"]):
        yield Document(identity, text, source)


def url_of(document: Document) -> str:
    """The address of a document, or nothing: its source or its id, whichever is one."""
    names = (document.source, document.id)
    return next((name for name in names if name.startswith(("http://", "https://"))), "")


def utf8_length(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def document_row(document: Document) -> tuple[Any, ...]:
    """The columns of `parquet_files.DOCUMENT`."""
    # Names of files may hold bytes that are no UTF-8, which Python carries as lone surrogates.
    identity, source = (
        name.encode("utf-8", "backslashreplace").decode() for name in (document.id, document.source)
    )
    return identity, document.text, source, url_of(document)
