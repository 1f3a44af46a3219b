"""An HTTP answer as archives store it: head and body taken apart, the body's chunks and packing undone.

Nothing here raises on what a server or an archive made of it: archives hold whatever servers sent, broken or
not. What comes out of a packed body never grows past the limit, however little went in.
"""

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gpt2lab.base.extras import import_extra

HTML_TYPES = ("text/html", "application/xhtml+xml")
TEXT_TYPES = (*HTML_TYPES, "text/plain")

_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(r"(?:HTTP/\d(?:\.\d)?|ICY) +(\d{3})\b", re.IGNORECASE)
_CHARSET = re.compile(r""";\s*charset\s*=\s*["']?([^"';,\s]+)""", re.IGNORECASE)
_CHUNK_HEAD = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_LONGEST_HEAD = 64 * 1024  # bytes; of what is longer the rest is taken for body
_PIECE = 64 * 1024


@dataclass(frozen=True)
class HttpMessage:
    """An answer of a web server.

    Attributes:
        status: 200, 404, ...
        headers: by lower-case name; of a name that stands several times the first value.
        body: all bytes after the head, as they were sent.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def parse_http(block: bytes) -> HttpMessage | None:
    """Take an answer apart; None if it does not start like one."""
    end = _END_OF_HEAD.search(block, 0, _LONGEST_HEAD)
    head = block[: end.start()] if end else block[:_LONGEST_HEAD]
    first, *lines = head.decode("latin-1").splitlines() or [""]
    status = _STATUS_LINE.match(first)
    if status is None:
        return None
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    return HttpMessage(int(status[1]), headers, block[end.end() :] if end else b"")


def media_type(value: str) -> tuple[str, str | None]:
    """A ``Content-Type`` taken apart: ``"text/html; charset=UTF-8"`` to ``("text/html", "UTF-8")``."""
    charset = _CHARSET.search(value)
    return re.split("[;,]", value, maxsplit=1)[0].strip().lower(), charset[1] if charset else None


def dechunked(body: bytes) -> bytes:
    """A body without the marks of ``Transfer-Encoding: chunked``.

    Archives also hold bodies whose head says chunked while someone took the marks out before; they come back
    as they are. Of a body that breaks off comes what is there.
    """
    parts: list[bytes] = []
    position = 0
    while head := _CHUNK_HEAD.match(body, position):
        size = int(head[1], 16)
        if not size:
            return b"".join(parts)
        parts.append(body[head.end() : head.end() + size])
        position = head.end() + size
        position += 2 if body.startswith(b"\r\n", position) else body.startswith(b"\n", position)
    return b"".join(parts) if parts else body


def unpacked(body: bytes, content_encoding: str, limit: int) -> bytes | None:
    """A body with its ``Content-Encoding`` undone, layer after layer.

    A body that is not packed although its head says so comes back as it is, as do the first bytes of one
    that breaks off; archives hold both.

    Args:
        body: as it was sent, without chunk marks.
        content_encoding: ``"gzip"``, ``"deflate"``, ``"br"``, ``"zstd"``, or several with commas.
        limit: bytes; little more than this is ever unpacked.

    Returns:
        The body, more than `limit` bytes if it is too large, or None for a packing that nobody knows.
    """
    for name in reversed(content_encoding.lower().split(",")):
        if name.strip() in ("", "identity"):
            continue
        unpack = _PACKINGS.get(name.strip())
        if unpack is None:
            return None
        body = _collected(unpack(body), limit) or body
        if len(body) > limit:
            return body
    return body


def _collected(pieces: Iterator[bytes], limit: int) -> bytes:
    """The pieces joined, until there are more than `limit` bytes of them or the rest is damaged."""
    parts, size = [], 0
    try:
        for piece in pieces:
            parts.append(piece)
            size += len(piece)
            if size > limit:
                break
    except _Damaged:
        pass
    return b"".join(parts)


class _Damaged(Exception):  # noqa: N818
    """What follows cannot be unpacked."""


def _inflate(body: bytes, window_bits: int) -> Iterator[bytes]:
    stream = zlib.decompressobj(window_bits)
    for start in range(0, len(body), _PIECE):
        rest = body[start : start + _PIECE]
        while rest and not stream.eof:
            try:
                yield stream.decompress(rest, _PIECE)
            except zlib.error as error:
                raise _Damaged from error
            rest = stream.unconsumed_tail


def _gunzip(body: bytes) -> Iterator[bytes]:
    return _inflate(body, 31)


def _undeflate(body: bytes) -> Iterator[bytes]:
    """With zlib's header, as the standard has it (RFC 9110, section 8.4.1.2), or without, as some send it."""
    zlib_header = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return _inflate(body, 15 if zlib_header else -15)


def _unbrotli(body: bytes) -> Iterator[bytes]:
    brotli = import_extra("brotli", "corpus")
    stream = brotli.Decompressor()
    try:
        piece = stream.process(body, output_buffer_limit=_PIECE)
        while piece:
            yield piece
            piece = stream.process(b"", output_buffer_limit=_PIECE)
    except brotli.error as error:
        raise _Damaged from error


def _unzstd(body: bytes) -> Iterator[bytes]:
    zstd = import_extra("backports.zstd", "corpus")
    # No larger window than a browser grants (RFC 8878, section 3.1.1.1.2): it is memory.
    stream = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 23})
    try:
        yield stream.decompress(body, _PIECE)
        while not stream.eof and not stream.needs_input:
            yield stream.decompress(b"", _PIECE)
    except zstd.ZstdError as error:
        raise _Damaged from error


_PACKINGS = {"gzip": _gunzip, "x-gzip": _gunzip, "deflate": _undeflate, "br": _unbrotli, "zstd": _unzstd}
