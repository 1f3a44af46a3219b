"""Pages out of WARC and ARC files, Common Crawl's and our own too; what is no page comes with its reason."""

from collections.abc import Iterator
from pathlib import Path

from gpt2lab.corpus.archive_files import ArchiveFile
from gpt2lab.corpus.archive_records import Record, read_records
from gpt2lab.corpus.http_message import TEXT_TYPES, dechunked, media_type, parse_http, unpacked
from gpt2lab.corpus.open_files import open_file
from gpt2lab.corpus.pages import MAX_PAGE_BYTES, DroppedPage, Page

ARCHIVE_SUFFIXES = tuple(
    f".{kind}{packing}" for kind in ("warc", "arc", "warc.wet") for packing in ("", ".gz", ".zst")
)
DROPPED_TYPE = "application/vnd.gpt2lab.dropped"
"""The media type of our own records of links that gave no page: ``reason: detail`` as text"""

_KINDS_OF_PAGES = ("response", "resource", "conversion", "revisit", "continuation")
_ROOM_FOR_HEADERS = 1 << 20


def read_archive(source: str | Path, max_page_bytes: int = MAX_PAGE_BYTES) -> Iterator[Page | DroppedPage]:
    """The pages of a WARC or ARC file, plain or packed with gzip or zstd, whole or damaged.

    Requests, metadata and other records that no reader of the site ever saw are passed over. Everything else
    that is not a page is a `DroppedPage`: ``status`` (not 200), ``not_text``, ``revisit`` (the same as an
    earlier visit, which alone is stored), ``segmented``, ``no_address``, ``not_http``, ``unknown_packing``,
    ``too_large``, ``truncated``, ``damaged``, and whatever reason `corpus.fetch` had for taking no page.

    Args:
        source: a path, or a URL that fsspec can open.
        max_page_bytes: a larger page is dropped; memory stays within a few times as much.

    Raises:
        UserError: the file cannot be opened.
    """
    with open_file(source) as file:
        for record in read_records(ArchiveFile(file), str(source), max_page_bytes + _ROOM_FOR_HEADERS):
            page = record if isinstance(record, DroppedPage) else _page_of(record, max_page_bytes)
            if page is not None:
                yield page


def _page_of(record: Record, limit: int) -> Page | DroppedPage | None:
    """The page that a record holds, or why it holds none; None for what never was one."""
    if record.kind == "metadata" and record.content_type == DROPPED_TYPE:
        reason, _, detail = record.block.decode("utf-8", "replace").partition(": ")
        return DroppedPage(record.url, reason, detail)
    if record.kind not in _KINDS_OF_PAGES:
        return None
    if not record.url:
        return DroppedPage("", "no_address", record.kind)
    if not record.url.startswith(("http:", "https:")):  # a look-up in the DNS, a crawler's own notes
        return None
    if record.kind == "revisit":
        return DroppedPage(record.url, "revisit")
    if record.kind == "continuation":
        return DroppedPage(record.url, "segmented")
    if record.kind == "response":
        return _answer_in(record, limit)
    return _page(record, record.block, record.content_type, limit)


def _answer_in(record: Record, limit: int) -> Page | DroppedPage:
    """The page in what a web server answered."""
    message = parse_http(record.block)
    if message is None:
        return DroppedPage(record.url, "not_http", repr(record.block[:40]))
    if message.status != 200:
        return DroppedPage(record.url, "status", str(message.status))
    body = message.body
    if "chunked" in message.headers.get("transfer-encoding", "").lower():
        body = dechunked(body)
    packing = message.headers.get("content-encoding", "")
    unpacked_body = unpacked(body, packing, limit)
    if unpacked_body is None:
        return DroppedPage(record.url, "unknown_packing", packing)
    return _page(record, unpacked_body, message.headers.get("content-type", ""), limit)


def _page(record: Record, body: bytes, content_type: str, limit: int) -> Page | DroppedPage:
    kind, charset = media_type(content_type)
    if kind and kind not in TEXT_TYPES:
        return DroppedPage(record.url, "not_text", kind)
    if len(body) > limit:
        return DroppedPage(record.url, "too_large", f"more than {limit:,} bytes")
    return Page(record.url, body, kind, charset, record.date)
