"""Pages from files of every kind that holds some: web archives, and pages saved as files of their own."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from gpt2lab.corpus.documents import files_below
from gpt2lab.corpus.open_files import DamagedFile, open_unpacked
from gpt2lab.corpus.pages import MAX_PAGE_BYTES, DroppedPage, Page
from gpt2lab.corpus.remote_files import is_url
from gpt2lab.corpus.web_archives import ARCHIVE_SUFFIXES, read_archive

HTML_SUFFIXES = (".html", ".htm", ".xhtml")
PAGE_SUFFIXES = (
    *ARCHIVE_SUFFIXES,
    *(kind + packing for kind in HTML_SUFFIXES for packing in ("", ".gz", ".zst")),
)


def page_kind(file: str | Path) -> str | None:
    """The ending that says that a file holds pages; None for any other file."""
    name = str(file).lower()
    return next((suffix for suffix in PAGE_SUFFIXES if name.endswith(suffix)), None)


def archive_kind(file: str) -> str | None:
    """The ending that says that a file is a web archive; None for any other file."""
    return next((suffix for suffix in ARCHIVE_SUFFIXES if file.lower().endswith(suffix)), None)


def read_pages(source: str | Path, max_page_bytes: int = MAX_PAGE_BYTES) -> Iterator[Page | DroppedPage]:
    """Every page of a file or of all files below a folder, and what is none with its reason.

    A WARC or ARC file is read as `read_archive` says. A file that ends in ``.html``, ``.htm`` or ``.xhtml``
    is one page, whose address is the file's own (``file:///...``) and whose date is that of its last change.

    Args:
        source: a path, or an archive's URL that fsspec can open.
        max_page_bytes: a larger page is dropped as ``too_large``.

    Raises:
        UserError: there is nothing there, or it is of another kind.
    """
    if is_url(source):
        yield from read_archive(source, max_page_bytes)
        return
    for file, _ in files_below(Path(source), page_kind, ", ".join(PAGE_SUFFIXES)):
        if (page_kind(file) or "").startswith(HTML_SUFFIXES):
            yield _saved_page(file, max_page_bytes)
        else:
            yield from read_archive(file, max_page_bytes)


def _saved_page(file: Path, limit: int) -> Page | DroppedPage:
    url = file.absolute().as_uri()
    try:
        with open_unpacked(file) as stream:
            body = stream.read(limit + 1)
    except DamagedFile as error:
        return DroppedPage(url, "damaged", str(error))
    if len(body) > limit:
        return DroppedPage(url, "too_large", f"more than {limit:,} bytes")
    content_type = "application/xhtml+xml" if ".xhtml" in file.name.lower() else "text/html"
    date = datetime.fromtimestamp(file.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Page(url, body, content_type, None, date)
