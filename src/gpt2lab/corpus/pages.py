"""Pages: what a source gives before anything is made of it, bytes with what was said about them.

A page is what a web server, an archive or a file held; the text in it is taken out later, and differently
each time the rules for that change.
"""

from dataclasses import dataclass

MAX_PAGE_BYTES = 10_000_000
"""The largest page that is taken unless told otherwise: ten times what Common Crawl kept of one until 2025"""


@dataclass(frozen=True)
class Page:
    """One page as it was received, with the transfer's own packing (chunks, gzip) undone.

    Attributes:
        url: where it is from; for a file that names no address, the file's own ``file:`` address.
        body: the page itself; not more of it is held than the reader's limit on one page allows.
        content_type: the media type in lower case without parameters: ``"text/html"``; ``""`` if unknown.
        charset: the encoding that came with the media type, as it was spelt; None if there was none. It is
            what the server claims, and servers are often wrong.
        date: when it was fetched, ``"2024-05-18T01:58:10Z"``; ``""`` if unknown.
    """

    url: str
    body: bytes
    content_type: str
    charset: str | None
    date: str


@dataclass(frozen=True)
class DroppedPage:
    """Something a source held that is not a page, kept so that people can count what was lost and why.

    Attributes:
        url: the page it would have been; of damage in a file, the file.
        reason: one word for why: ``"not_text"``, ``"too_large"``, ``"damaged"``.
        detail: what exactly, for people; may be empty.
    """

    url: str
    reason: str
    detail: str = ""
