import gzip
import random
import struct
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2lab.base.errors import UserError
from gpt2lab.corpus.pages import DroppedPage, Page
from gpt2lab.corpus.web_archives import read_archive

pytest.importorskip("fastwarc")
zstd = pytest.importorskip("backports.zstd")


def http(body: bytes, head: bytes = b"", content_type: bytes = b"text/html; charset=utf-8") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: " + content_type + b"\r\n" + head + b"\r\n" + body


def warc(url: bytes, block: bytes, kind: bytes = b"response", length: int | None = None) -> bytes:
    size = len(block) if length is None else length
    return (
        b"WARC/1.0\r\nWARC-Type: " + kind + b"\r\nWARC-Target-URI: " + url + b"\r\n"
        b"WARC-Date: 2024-01-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:0>\r\n"
        b"Content-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n"
        % size
        + block
        + b"\r\n\r\n"
    )


def arc(url: bytes, block: bytes) -> bytes:
    return url + b" 10.0.0.1 20080430204825 text/html %d\n" % len(block) + block + b"\n"


def squeeze(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def zsqueeze(data: bytes) -> bytes:
    return bytes(zstd.compress(data))


def plain(data: bytes) -> bytes:
    return data


RNG = random.Random(0)
BODIES = [bytes(RNG.choices(b"<p>words and more\n", k=k)) for k in (40, 700, 70_000, 300)]
URLS = [b"http://example.com/%d" % number for number in range(len(BODIES))]
MAKERS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "warc": lambda url, body: warc(url, http(body)),
    "arc": lambda url, body: arc(url, http(body)),
}
PACKERS = {"plain": plain, "gzip": squeeze, "zstd": zsqueeze}
KINDS = [(kind, packing) for kind in MAKERS for packing in PACKERS]


def members(kind: str, packing: str) -> list[bytes]:
    return [PACKERS[packing](MAKERS[kind](url, body)) for url, body in zip(URLS, BODIES, strict=True)]


def read(folder: Path, data: bytes, limit: int = 1_000_000) -> tuple[list[Page], list[DroppedPage]]:
    path = folder / "file"
    path.write_bytes(data)
    found = list(read_archive(path, limit))
    pages = [page for page in found if isinstance(page, Page)]
    return pages, [page for page in found if isinstance(page, DroppedPage)]


def numbers(pages: list[Page]) -> list[int]:
    """Which of the pages made above these are; fails for one that is none of them."""
    return [BODIES.index(page.body) for page in pages]


@pytest.mark.parametrize(("kind", "packing"), KINDS)
def test_pages_come_out_as_they_went_in(tmp_path: Path, kind: str, packing: str) -> None:
    pages, dropped = read(tmp_path, b"".join(members(kind, packing)))
    date = "2024-01-01T00:00:00Z" if kind == "warc" else "2008-04-30T20:48:25Z"
    assert pages == [
        Page(url.decode(), body, "text/html", "utf-8", date) for url, body in zip(URLS, BODIES, strict=True)
    ]
    assert dropped == []


@pytest.mark.parametrize("kind", MAKERS)
def test_many_records_in_one_gzip_member(tmp_path: Path, kind: str) -> None:
    pages, dropped = read(tmp_path, squeeze(b"".join(members(kind, "plain"))))
    assert numbers(pages) == [0, 1, 2, 3]
    assert dropped == []


@pytest.mark.parametrize(("kind", "packing"), KINDS)
@settings(max_examples=60)
@given(data=st.data())
def test_cut_short_anywhere_all_before_the_cut_is_read(
    tmp_path_factory: pytest.TempPathFactory, kind: str, packing: str, data: st.DataObject
) -> None:
    parts = members(kind, packing)
    whole = b"".join(parts)
    cut = data.draw(st.integers(0, len(whole) - 1))
    pages, dropped = read(tmp_path_factory.getbasetemp(), whole[:cut])
    ends = [sum(map(len, parts[: number + 1])) for number in range(len(parts))]
    before = [number for number, end in enumerate(ends) if end <= cut]
    # The last page's own end may have come through although the mark after it did not.
    assert numbers(pages) in (before, [*before, len(before)])
    assert len(dropped) <= 1


@pytest.mark.parametrize(("kind", "packing"), KINDS)
@settings(max_examples=60)
@given(data=st.data())
def test_a_byte_altered_anywhere_hides_no_more_than_two_pages(
    tmp_path_factory: pytest.TempPathFactory, kind: str, packing: str, data: st.DataObject
) -> None:
    """In a packed file what is read is right; two go where the damage is in the file's own first bytes."""
    whole = bytearray(b"".join(members(kind, packing)))
    at = data.draw(st.integers(4, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    pages, dropped = read(tmp_path_factory.getbasetemp(), bytes(whole))
    urls = {url.decode() for url in URLS}
    sound = [page for page in pages if page.url in urls and page.body in BODIES]
    assert len(sound) >= len(URLS) - 2
    if packing == "gzip":  # with a checksum; our zstd frames have none
        assert len(pages) == len(sound) or kind == "arc"
    assert len(dropped) <= 3


@pytest.mark.parametrize(("kind", "packing"), KINDS)
def test_rubbish_between_records_is_counted_once_and_passed_over(
    tmp_path: Path, kind: str, packing: str
) -> None:
    rubbish = b"\n" + bytes(RNG.choices(range(256), k=5000)) + b"\n"
    parts = members(kind, packing)
    pages, dropped = read(tmp_path, parts[0] + parts[1] + rubbish + parts[2] + rubbish + parts[3])
    assert numbers(pages) == [0, 1, 2, 3]
    assert [page.reason for page in dropped] == ["damaged", "damaged"]
    assert dropped[0].url == str(tmp_path / "file")


def test_what_only_looks_like_a_start_costs_nothing(tmp_path: Path) -> None:
    """More of it than false starts are forgiven."""
    parts = members("warc", "gzip")
    rubbish = b"\x1f\x8b\x08" * 1100 + squeeze(b"no record") * 100
    pages, dropped = read(tmp_path, parts[0] + rubbish + parts[1])
    assert numbers(pages) == [0, 1]
    assert [page.reason for page in dropped] == ["damaged"]


@pytest.mark.parametrize("packing", ["plain", "gzip"])
@pytest.mark.parametrize(("length", "reason"), [(10**6 - 1, "truncated"), (3, "not_http")])
def test_a_record_that_lies_about_its_length(tmp_path: Path, packing: str, length: int, reason: str) -> None:
    parts = members("warc", packing)
    lie = PACKERS[packing](warc(b"http://lie.com/", http(b"x" * 200), length=length))
    pages, dropped = read(tmp_path, parts[0] + lie + parts[1])
    assert numbers(pages) == [0, 1]
    assert dropped[0].url == "http://lie.com/"
    assert dropped[0].reason == reason


@pytest.mark.parametrize("length", [b"-1", b"abc", b"", b"9" * 40, "٣".encode()])
def test_a_length_that_is_no_length(tmp_path: Path, length: bytes) -> None:
    bad = warc(b"http://bad.com/", http(b"x")).replace(b"Content-Length: 60", b"Content-Length: " + length)
    assert b"Content-Length: " + length + b"\r" in bad
    parts = members("warc", "plain")
    pages, dropped = read(tmp_path, parts[0] + bad + parts[1])
    assert numbers(pages) == [0, 1]
    assert [page.reason for page in dropped] == ["truncated"]


def test_a_record_within_a_page_is_not_taken_for_one(tmp_path: Path) -> None:
    inner = warc(b"http://forged.com/", http(b"forged"))
    data = warc(b"http://about.com/", http(b"<pre>\r\n" + inner)) + b"junk\n"
    pages, dropped = read(tmp_path, data + members("warc", "plain")[0])
    assert [page.url for page in pages] == ["http://about.com/", URLS[0].decode()]
    assert [page.reason for page in dropped] == ["damaged"]


@pytest.mark.parametrize("packing", ["plain", "gzip", "zstd"])
def test_a_large_record_is_not_read_and_the_next_one_is(tmp_path: Path, packing: str) -> None:
    bomb = PACKERS[packing](warc(b"http://bomb.com/", http(bytes(60_000_000))))
    parts = members("warc", packing)
    data = parts[0] + bomb + parts[1]
    (tmp_path / "file").write_bytes(data)
    tracemalloc.start()
    found = list(read_archive(tmp_path / "file", 1_000_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [page.url for page in found] == [URLS[0].decode(), "http://bomb.com/", URLS[1].decode()]
    assert isinstance(found[1], DroppedPage)
    assert found[1].reason == "too_large"
    assert peak < 20_000_000


@pytest.mark.parametrize(
    "head", [b"WARC/1.0\r\nX: " + b"a" * 50_000_000, b"WARC/1.0\r\n" + b"X: y\r\n" * 3_000_000]
)
def test_a_bomb_in_the_header(tmp_path: Path, head: bytes) -> None:
    parts = members("warc", "gzip")
    pages, dropped = read(tmp_path, parts[0] + squeeze(head) + parts[1])
    assert numbers(pages) == [0, 1]
    assert [page.reason for page in dropped] == ["damaged"]


def test_a_packed_page_that_unpacks_to_more_than_the_limit(tmp_path: Path) -> None:
    data = b"".join(
        warc(url, http(body, head))
        for url, body, head in (
            (b"http://bomb.com/", gzip.compress(bytes(50_000_000)), b"Content-Encoding: gzip\r\n"),
            (b"http://fine.com/", gzip.compress(b"hello"), b"Content-Encoding: gzip\r\n"),
            (b"http://odd.com/", b"hello", b"Content-Encoding: sdch\r\n"),
            (b"http://pieces.com/", b"5\r\nhello\r\n0\r\n\r\n", b"Transfer-Encoding: chunked\r\n"),
        )
    )
    pages, dropped = read(tmp_path, data)
    assert [(page.url, page.body) for page in pages] == [
        ("http://fine.com/", b"hello"),
        ("http://pieces.com/", b"hello"),
    ]
    assert [(page.url, page.reason) for page in dropped] == [
        ("http://bomb.com/", "too_large"),
        ("http://odd.com/", "unknown_packing"),
    ]


def test_what_is_no_page_has_a_reason_or_never_was_one(tmp_path: Path) -> None:
    data = b"".join(
        [
            warc(b"http://a.com/", b"HTTP/1.1 404 Not Found\r\n\r\n"),
            warc(b"http://b.com/", http(b"GIF89a", content_type=b"image/gif")),
            warc(b"http://c.com/", b"", kind=b"revisit"),
            warc(b"http://d.com/", b"more", kind=b"continuation"),
            warc(b"http://e.com/", b"hello"),
            warc(b"", http(b"x")),
            warc(b"http://f.com/", b"x", kind=b"request"),
            warc(b"dns:f.com", b"x"),
            warc(b"<http://g.com/>", http(b"no type", content_type=b"")),
        ]
    )
    pages, dropped = read(tmp_path, data)
    assert [(page.url, page.content_type) for page in pages] == [("http://g.com/", "")]
    assert [(page.reason, page.detail) for page in dropped] == [
        ("status", "404"),
        ("not_text", "image/gif"),
        ("revisit", ""),
        ("segmented", ""),
        ("not_http", "b'hello'"),
        ("no_address", "response"),
    ]


@pytest.mark.parametrize("packed_dictionary", [False, True])
def test_zstd_with_a_dictionary(tmp_path: Path, packed_dictionary: bool) -> None:
    pieces = [warc(b"http://a.com/%d" % number, http(b"hello %d " % number * 30)) for number in range(300)]
    trained = zstd.train_dict(pieces, 2048)
    inside = zsqueeze(trained.dict_content) if packed_dictionary else trained.dict_content
    frames = [zstd.compress(piece, zstd_dict=trained) for piece in pieces]
    head = b"\x5d\x2a\x4d\x18" + struct.pack("<I", len(inside)) + inside
    pages, dropped = read(tmp_path, head + b"".join(frames))
    assert [page.url for page in pages] == [f"http://a.com/{number}" for number in range(300)]
    frames[100] = frames[100][:-5]
    pages, dropped = read(tmp_path, head + b"".join(frames))
    assert len(pages) == 299
    assert Counter(page.reason for page in dropped) == {"damaged": 1}
    pages, dropped = read(tmp_path, head[:100] + b"".join(frames))
    assert pages == []


@pytest.mark.parametrize(
    "hostile",
    [
        b"WARC/1.0\r\n" * 300_000,
        b"WARC/1.0\r\nA: b\r\n" * 200_000,
        (b"WARC/1.0\r\nContent-Length: 99\r\n\r\n") * 60_000,
        squeeze(b"WARC/1.0\r\n") * 10_000,
        b"\x1f\x8b\x08" * 1_000_000,
        b"\n" * 3_000_000,
        b"a:b 1.1.1.1 20200101000000 x " * 100_000 + b"\n",
        b"http://a.b/ 1.1.1.1 20200101000000 text/html 0\n" * 20_000,
        b"\x5d\x2a\x4d\x18\xff\xff\xff\xff" + bytes(1_000_000),
    ],
    ids=range(9),
)
def test_hostile_files_end(tmp_path: Path, hostile: bytes) -> None:
    """In a second or so each: a false start costs little, and 1,000 in a row are enough."""
    pages, _ = read(tmp_path, hostile)
    assert pages == []


def test_no_bytes_at_all(tmp_path: Path) -> None:
    assert read(tmp_path, b"") == ([], [])


@settings(max_examples=100)
@given(
    data=st.binary(max_size=300),
    start=st.sampled_from([b"", b"WARC/1.0\r\n", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"]),
)
def test_no_bytes_break_it(tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes) -> None:
    read(tmp_path_factory.getbasetemp(), start + data)


def test_somewhere_else_than_on_this_machine() -> None:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://pages.warc.gz", "wb") as file:
        file.write(b"".join(members("warc", "gzip")))
    pages = [page for page in read_archive("memory://pages.warc.gz") if isinstance(page, Page)]
    assert numbers(pages) == [0, 1, 2, 3]


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    for source in (tmp_path / "absent", tmp_path, "nosuch://a/b", "memory://absent"):
        with pytest.raises(UserError):
            list(read_archive(source))


REAL = {
    "warc_commoncrawl/whirlwind.warc": (1, {}),
    "warc_commoncrawl/whirlwind.warc.gz": (1, {}),
    "warc_commoncrawl/whirlwind.warc.wet.gz": (1, {}),
    "warc_commoncrawl/whirlwind.warc.wat.gz": (0, {}),
    "warc_iipc/org/archive/format/arc/IAH-20080430204825-00000-blackbook-truncated.arc": (3, {"not_text": 4}),
    "warc_iipc/org/archive/format/gzip/IAH-urls-wget.warc.gz": (3, {"status": 9, "not_text": 4}),
    "warc_iipc/org/archive/format/gzip/abcd.gz": (0, {"damaged": 1}),
    "warc_iipc/org/archive/format/gzip/double-single-inflate-error.gz": (0, {"damaged": 1}),
    "warc_iipc/org/archive/format/gzip/empty.gz": (0, {}),
    "warc_iipc/org/archive/format/warc/IAH-urls-wget.warc": (3, {"status": 9, "not_text": 4}),
    "warc_iipc/org/archive/format/warc/mutliple-headers.warc": (1, {}),
    "warc_iipc/org/archive/resource/html/link-extraction-test.warc": (6, {"no_address": 1}),
    "warc_warcio/bad.arc": (0, {"damaged": 2, "not_http": 1}),
    "warc_warcio/example-bad-non-chunked.warc.gz": (1, {"revisit": 1}),
    "warc_warcio/example-bad.warc.gz.bad": (1, {"revisit": 1, "status": 1}),
    "warc_warcio/example-digest.warc": (0, {}),
    "warc_warcio/example-iana.org-chunked.warc": (1, {}),
    "warc_warcio/example-resource.warc.gz": (1, {}),
    "warc_warcio/example-space-in-url.arc": (0, {"truncated": 1}),
    "warc_warcio/example-trunc.warc": (1, {"damaged": 1}),
    "warc_warcio/example-wget-bad-target-uri.warc.gz": (1, {}),
    "warc_warcio/example-wrong-chunks.warc.gz": (1, {}),
    "warc_warcio/example.arc": (1, {}),
    "warc_warcio/example.arc.gz": (1, {}),
    "warc_warcio/example.warc.gz": (1, {"revisit": 1}),
    "warc_warcio/post-test.warc.gz": (0, {"not_text": 3}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_whole_and_damaged(test_data: Path, name: str) -> None:
    found = list(read_archive(test_data / "web" / name))
    n_pages, reasons = REAL[name]
    assert sum(isinstance(page, Page) for page in found) == n_pages
    assert Counter(page.reason for page in found if isinstance(page, DroppedPage)) == reasons
    assert all(page.body for page in found if isinstance(page, Page))
