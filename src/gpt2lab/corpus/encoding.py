"""From a page's bytes to its characters, whatever the server claims.

The order of belief: a byte order mark; UTF-8 if every byte fits it, which other encodings' text almost never
does; what the server says; what the page says; what the bytes look like (resiliparse: of 26 samples in 16
languages it names 25 rightly and charset-normalizer 24, at five times its speed). A claim that the bytes
contradict is not believed.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from gpt2lab.base.extras import import_extra

_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
_META_BYTES = 4096  # browsers look at the first 1,024; many pages have a comment or a style first
_ESCAPES = b"\x1b$"  # ISO-2022 text: valid UTF-8 to look at, and yet none
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]")
_RIGHT_FOR_WRONG = 10  # bytes that continue a character as UTF-8 wants it, for each that does not
_MOST_UNREADABLE = 0.01  # share of characters that mean nothing, above which it is no text
_MISREAD = ("Ã", "Â", "â€", "â\x80")  # what UTF-8 looks like to one who takes it for Latin: é is Ã©, ’ is â€™


@dataclass(frozen=True)
class Decoded:
    """A page's characters.

    Attributes:
        text: what it says; where bytes fitted no encoding, U+FFFD.
        encoding: Python's name of the encoding that was believed.
        reason: why this is no text (``not_text``, ``bad_encoding``); None if it is.
    """

    text: str
    encoding: str
    reason: str | None


def decode_page(body: bytes, charset: str | None) -> Decoded:
    """The text that a page's bytes spell, with mojibake repaired.

    Args:
        body: the whole page.
        charset: what the server claims, if anything.
    """
    text, encoding = _decode(body, charset)
    most = _MOST_UNREADABLE * len(text)
    reason = None
    if len(_CONTROL.findall(text)) > most:
        reason = "not_text"
    elif text.count("\ufffd") > most:
        reason = "bad_encoding"
    return Decoded(repair_mojibake(text), encoding, reason)


def repair_mojibake(text: str) -> str:
    """`text` with what was decoded wrongly before it came here put right (ftfy): "cafÃ©" is "café"."""
    if not any(mark in text for mark in _MISREAD):  # ftfy reads 5 MB/s; most text need not be read by it
        return text
    repaired: str = import_extra("ftfy", "corpus").fix_encoding(text)
    return repaired


def _decode(body: bytes, charset: str | None) -> tuple[str, str]:
    for mark, encoding in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace"), encoding
    if wide := _utf_16_without_mark(body):
        return body.decode(wide, "replace"), wide
    if _ESCAPES not in body and (text := _as_utf_8(body)) is not None:
        return text, "utf-8"
    candidates = list(_claims(body, charset))
    for encoding in candidates:
        with suppress(UnicodeDecodeError):
            return body.decode(encoding), encoding
    return body.decode(candidates[0], "replace"), candidates[0]


def _as_utf_8(body: bytes) -> str | None:
    """The text if this is UTF-8, but for a few bytes: pages are cut short, and pasted together."""
    text = body.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    right = len(body) - len(text)  # about as many as bytes that continue a character
    return None if wrong * _RIGHT_FOR_WRONG > right else text


def _claims(body: bytes, charset: str | None) -> Iterator[str]:
    """What the server says, what the page says, what it looks like."""
    parse = import_extra("resiliparse.parse.encoding", "corpus")
    said = _META.search(body[:_META_BYTES])
    for claim in (charset, said and said[1].decode("ascii")):
        label = (claim or "").strip(" \"'").lower()
        known = parse.map_encoding_to_html5(label, False) if label.isascii() else None
        if known and not known.startswith("utf-"):  # or it would have been found to be
            yield known
    yield parse.detect_encoding(body)


def _utf_16_without_mark(body: bytes) -> str | None:
    """UTF-16 of mostly Latin text has a zero in every other byte."""
    even, odd = body[:1000:2].count(0), body[1:1000:2].count(0)
    if 10 * min(even, odd) >= max(even, odd) or 3 * max(even, odd) < len(body[:1000:2]):
        return None
    return "utf-16-be" if even > odd else "utf-16-le"
