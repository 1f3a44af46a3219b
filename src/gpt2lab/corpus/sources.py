"""Sources: files as they come, each kind with its reader, to documents in Parquet files.

One source file becomes one Parquet file; small files that follow one another share one. What cannot be read
(a line that is no JSON, a file cut short) is dropped under a reason and the rest goes on.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from gpt2lab.base.errors import UserError
from gpt2lab.base.groups import groups_of_size
from gpt2lab.corpus import documents
from gpt2lab.corpus.documents import Document, Dropped, TooLargeError, is_blank, read_records
from gpt2lab.corpus.extraction_process import ExtractionProcess
from gpt2lab.corpus.page_files import PAGE_SUFFIXES, archive_kind, page_kind, read_pages
from gpt2lab.corpus.pages import MAX_PAGE_BYTES, DroppedPage, Page
from gpt2lab.corpus.parquet_texts import NoTextColumnError
from gpt2lab.corpus.python_docs import read_python_docs
from gpt2lab.corpus.remote_files import RemoteFile, find_remote_files
from gpt2lab.corpus.stage import Call, Counts
from gpt2lab.corpus.stage_files import StageWriter, utf8_length
from gpt2lab.corpus.web_archives import ARCHIVE_SUFFIXES

PYTHON_DOCS = "python-docs"  # the name of the source that needs no file
_GROUP_BYTES = 4_000_000  # small files are read together until they make this much,
_GROUPS = 8  # or this share of all, so that a small corpus too keeps all cores busy


def find_files(sources: Sequence[Path]) -> list[list[tuple[Path, str]]]:
    """The files that sources stand for, each with its name as seen from there, in groups of some megabytes.

    Raises:
        UserError: a source is missing or of an unknown kind, or there is no file at all.
    """
    kinds = f"{documents.known_kinds()}, {', '.join(PAGE_SUFFIXES)}"
    found = [entry for source in sources for entry in documents.files_below(source, _kind_of, kinds)]
    if not found:
        raise UserError(
            "there is no file here that text is read from",
            where=", ".join(map(str, sources)) or None,
            fix=f"Name files, or folders that hold some; the kinds are {kinds}",
        )
    sizes = {file: file.stat().st_size for file, _ in found}
    enough = min(_GROUP_BYTES, sum(sizes.values()) // _GROUPS)
    return list(groups_of_size(found, lambda entry: sizes[entry[0]], enough))


def find_archives(urls: Sequence[str]) -> list[RemoteFile]:
    """The web archives elsewhere that URLs stand for; see `find_remote_files`.

    Raises:
        UserError: there is none at one of them, or nothing here can reach it.
    """
    kinds = ", ".join(ARCHIVE_SUFFIXES)
    return [file for url in urls for file in find_remote_files(url, archive_kind, kinds)]


def read_file(call: Call) -> Counts:
    """The stage ``read``: source files to a file of documents and one of what gave none.

    Of pages the main text is taken out here.

    Parameters: `names`, one for each input, or without inputs the URL of an archive; `max_bytes`, the length
    of the longest page or document that is kept; `extractor`, see `corpus.extraction`.
    """
    extraction = ExtractionProcess(call.parameters["extractor"])
    with StageWriter(call, "read") as writer, extraction:
        for source in _sources(call):
            if isinstance(source, Page):
                writer.read(len(source.body))
                writer.passed("read", len(source.body))
                _keep_text(extraction.extract(source), writer)
            elif isinstance(source, Document):
                _keep_document(source, call.parameters["max_bytes"], writer)
            else:
                writer.read(0)
                writer.drop_unread(source)
    return writer.counts


def _keep_text(document: Document | Dropped, writer: StageWriter) -> None:
    if isinstance(document, Dropped):
        writer.drop(Document(document.id, document.text, document.id), document.reason, stage="extract")
    else:
        writer.passed("extract", utf8_length(document.text))
        writer.keep(document)


def _keep_document(document: Document, max_bytes: int, writer: StageWriter) -> None:
    n_bytes = utf8_length(document.text)
    writer.read(n_bytes)
    if n_bytes > max_bytes:
        writer.drop(document, "too_large", f"{n_bytes:,} bytes")
    elif is_blank(document.text):
        writer.drop(document, "blank")
    else:
        writer.passed("read", n_bytes)
        writer.passed("extract", n_bytes)  # there is nothing to take out of it
        writer.keep(document)


def _sources(call: Call) -> Iterator[Page | Document | DroppedPage]:
    if call.parameters["names"] == [PYTHON_DOCS]:
        yield from read_python_docs()
        return
    max_bytes = call.parameters["max_bytes"]
    names = call.parameters["names"]
    for file, name in zip(call.inputs or names, names, strict=True):
        if page_kind(file):
            yield from read_pages(file, min(max_bytes, MAX_PAGE_BYTES))
        else:
            for record in read_records(Path(file), name, max_bytes):
                if isinstance(record, UserError):
                    yield DroppedPage(record.where or name, _reason(record), record.what)
                else:
                    yield record


def _reason(error: UserError) -> str:
    if isinstance(error, NoTextColumnError):
        return "no_text_column"
    return "too_large" if isinstance(error, TooLargeError) else "unreadable"


def _kind_of(file: Path) -> str | None:
    return page_kind(file) or documents.known_kind(file)
