"""The main text of a web page: what its author wrote, without menus, advertisements and footers.

Two extractors: trafilatura in its fast mode, the better one, and resiliparse, eight times as fast (F1 0.962
and 0.927 on the 181 pages of article-extraction-benchmark). Pages are hostile input, so what made either of
them slow is refused before it is parsed: size, nested elements (resiliparse's time goes with the square of
the depth, trafilatura silently loses all below 256), attributes (the time of both goes with their square).
"""

import re
from typing import Literal

from gpt2lab.base.extras import import_extra
from gpt2lab.corpus.documents import Document, Dropped, is_blank
from gpt2lab.corpus.encoding import decode_page
from gpt2lab.corpus.pages import MAX_PAGE_BYTES, Page

Extractor = Literal["trafilatura", "resiliparse"]

MAX_DEPTH = 250
MAX_ATTRIBUTES = 4_000  # in one tag; 25,000 take a second
MAX_ELEMENTS = 50_000  # trafilatura takes two seconds for so many links, and a minute for 200,000

_HTML = frozenset({"text/html", "application/xhtml+xml", "application/xhtml", "text/xhtml"})
_PLAIN = frozenset({"text/plain", "text/markdown"})
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)([^<>]*)")
_NEVER_CLOSED = frozenset(
    {
        "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source",
        "track", "wbr", "p", "li", "dt", "dd", "option", "tr", "td", "th", "tbody", "thead", "html", "head",
        "body",
    }
)  # fmt: skip
_NOT_MARKUP = re.compile(r"<!--.*?(?:-->|$)|<(script|style)\b.*?(?:</\1\s*>|$)", re.DOTALL | re.IGNORECASE)
_LONG_TAG = re.compile(r"(?<=[<>])[^<>]{8192,}+>")
_LOOKS_LIKE_HTML = re.compile(r"<(?:!doctype\s+html|html|head|body|div|p)\b", re.IGNORECASE)
_HEAD_CHARS = 2_000
_KEPT_OF_DROPPED = 10_000  # characters: enough for people to see what it was


def extract(page: Page, extractor: Extractor = "trafilatura") -> Document | Dropped:
    """A page's main text, or why there is none.

    The document's id is the page's address, so it stays the same whatever else is read with it.

    Reasons: ``too_large``, ``not_html`` (another media type), ``not_text``, ``bad_encoding``,
    ``too_many_elements``, ``too_many_attributes``, ``nested_too_deep``, ``no_main_text``,
    ``extractor_failed``.

    Raises:
        UserError: the extractor is not installed.
    """
    if len(page.body) > MAX_PAGE_BYTES:
        return Dropped(page.url, "", "too_large")
    kind = page.content_type
    if kind and kind not in _HTML | _PLAIN:
        return Dropped(page.url, "", "not_html")
    decoded = decode_page(page.body, page.charset)
    if decoded.reason:
        return Dropped(page.url, decoded.text[:_KEPT_OF_DROPPED], decoded.reason)
    if kind in _PLAIN or not (kind or _LOOKS_LIKE_HTML.search(decoded.text, 0, _HEAD_CHARS)):
        return Document(page.url, decoded.text, page.url)
    if reason := _unfit(decoded.text):
        return Dropped(page.url, decoded.text[:_KEPT_OF_DROPPED], reason)
    try:
        text = main_text(decoded.text, extractor)
    except (
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
        LookupError,
    ):  # what they raise on odd pages
        return Dropped(page.url, decoded.text[:_KEPT_OF_DROPPED], "extractor_failed")
    if is_blank(text):
        return Dropped(page.url, decoded.text[:_KEPT_OF_DROPPED], "no_main_text")
    return Document(page.url, text, page.url)


def main_text(html: str, extractor: Extractor) -> str:
    """What the extractor takes for the main text of `html`; empty if it finds none."""
    html = html.replace("\0", "")
    if extractor == "resiliparse":
        found = import_extra("resiliparse.extract.html2text", "corpus").extract_plain_text(
            html, main_content=True, alt_texts=False, comments=False
        )
    else:
        found = import_extra("trafilatura", "corpus").extract(html, fast=True, include_comments=False)
    return found or ""


def _unfit(html: str) -> str | None:
    """Why parsing this would take too long, or lose most of it; None if it would not."""
    if html.count("<") - html.count("</") > MAX_ELEMENTS:
        return "too_many_elements"
    for match in _LONG_TAG.finditer(html):
        if len(match[0].split()) > MAX_ATTRIBUTES:
            return "too_many_attributes"
    return "nested_too_deep" if nesting_depth(html) > MAX_DEPTH else None


def nesting_depth(html: str) -> int:
    """How deep elements lie in one another, at most; those that need no end tag count for nothing.

    Scripts, styles and comments are passed over. An end tag closes what was opened last, whatever its name.
    """
    if html.count("<") - html.count("</") <= MAX_DEPTH:  # then it cannot be deep: most small pages
        return 0
    depth = deepest = 0
    for end, name, rest in _TAG.findall(_NOT_MARKUP.sub("", html)):
        if name.lower() in _NEVER_CLOSED or rest.endswith("/"):
            continue
        depth = max(depth - 1, 0) if end else depth + 1
        deepest = max(deepest, depth)
    return deepest
