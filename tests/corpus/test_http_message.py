import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.corpus.http_message import dechunked, media_type, parse_http, unpacked

brotli = pytest.importorskip("brotli")
zstd = pytest.importorskip("backports.zstd")

PACKERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


@pytest.mark.parametrize(
    ("block", "status", "headers", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nhi", 200, {"content-type": "text/html"}, b"hi"),
        (b"HTTP/1.0 404\nA:b\n\n\r\n\r\nx", 404, {"a": "b"}, b"\r\n\r\nx"),
        (b"http/2 301 Moved\r\nA: 1\r\na: 2\r\nno colon\r\n\r\n", 301, {"a": "1"}, b""),
        (b"ICY 200 OK\r\nx: \xe9\r\n\r\n", 200, {"x": "é"}, b""),
        (b"HTTP/1.1 200 OK\r\n", 200, {}, b""),
    ],
)
def test_an_answer_is_taken_apart(block: bytes, status: int, headers: dict[str, str], body: bytes) -> None:
    message = parse_http(block)
    assert message is not None
    assert (message.status, message.headers, message.body) == (status, headers, body)


@pytest.mark.parametrize("block", [b"", b"\r\n\r\n", b"<html>", b"HTTP/1.1 abc\r\n\r\n", b"200 OK\r\n\r\n"])
def test_what_is_no_answer(block: bytes) -> None:
    assert parse_http(block) is None


@given(st.binary())
def test_no_bytes_break_it(block: bytes) -> None:
    parse_http(block)
    parse_http(b"HTTP/1.1 200 OK\r\n" + block)
    dechunked(block)
    for name in PACKERS:
        unpacked(block, name, 100)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text/html", ("text/html", None)),
        ('Text/HTML ; Charset="UTF-8"', ("text/html", "UTF-8")),
        ("text/html;charset='x-y'", ("text/html", "x-y")),
        ("text/html; charset=", ("text/html", None)),
        ("text/html, text/html", ("text/html", None)),
        ("text/html; a=b; charset=latin1; charset=utf8", ("text/html", "latin1")),
        ("", ("", None)),
    ],
)
def test_media_types(value: str, expected: tuple[str, str | None]) -> None:
    assert media_type(value) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5;ext=1\r\nhello\r\n3\r\n, y\r\n0\r\nTrailer: x\r\n\r\n", b"hello, y"),
        (b"5\nhello\n0\n\n", b"hello"),
        (b"5\r\nhello\r\n9\r\nwor", b"hellowor"),  # it breaks off
        (b"<p>never was chunked", b"<p>never was chunked"),
        (b"ffffffff\r\nx", b"x"),
        (b"-5\r\nhello\r\n", b"-5\r\nhello\r\n"),
        (b"", b""),
    ],
)
def test_chunks(body: bytes, expected: bytes) -> None:
    assert dechunked(body) == expected


@pytest.mark.parametrize("name", PACKERS)
def test_packed_bodies(name: str) -> None:
    body = bytes(range(256)) * 2000
    packed = PACKERS[name](body)
    assert unpacked(packed, name.upper(), len(body)) == body
    assert unpacked(body, name, len(body)) == body  # was never packed
    if name != "zstd":  # its one block is all or nothing
        start = unpacked(packed[:-10], name, len(body))
        assert start
        assert body.startswith(start)


def test_several_packings_none_and_unknown_ones() -> None:
    twice = gzip.compress(brotli.compress(b"hello"))
    assert unpacked(twice, "br, gzip", 100) == b"hello"
    assert unpacked(b"hello", "", 100) == b"hello"
    assert unpacked(b"hello", "identity", 100) == b"hello"
    assert unpacked(b"hello", "sdch", 100) is None
    raw = zlib.compressobj(wbits=-15)
    assert unpacked(raw.compress(b"hello") + raw.flush(), "deflate", 100) == b"hello"


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_stops_at_the_limit(name: str) -> None:
    bomb = PACKERS[name](bytes(30_000_000))
    limit = 1_000_000
    unpacked(b"", name, limit)
    tracemalloc.start()
    body = unpacked(bomb, name, limit)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert body is not None
    assert limit < len(body) < 2 * limit
    assert peak < 10 * limit


def test_a_bomb_in_a_bomb() -> None:
    bomb = gzip.compress(gzip.compress(bytes(30_000_000)))
    body = unpacked(bomb, "gzip, gzip", 1000)
    assert body is not None
    assert 1000 < len(body) < 200_000
