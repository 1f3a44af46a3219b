import gzip
import os
from pathlib import Path

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.corpus.page_files import page_kind, read_pages
from gpt2lab.corpus.pages import DroppedPage, Page

pytest.importorskip("fastwarc")
WARC = (
    b"WARC/1.0\r\nWARC-Type: resource\r\nWARC-Target-URI: http://a.com/\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 5\r\n\r\nhello\r\n\r\n"
)


def test_a_folder_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "b.HTM").write_bytes(b"<p>b")
    (tmp_path / "a page.html").write_bytes(b"<p>a")
    (tmp_path / "c.xhtml.gz").write_bytes(gzip.compress(b"<p>c"))
    (tmp_path / "d.warc.gz").write_bytes(gzip.compress(WARC))
    (tmp_path / ".hidden.html").write_bytes(b"<p>hidden")
    (tmp_path / "e.txt").write_bytes(b"no page")
    os.utime(tmp_path / "a page.html", (0, 0))
    pages = [page for page in read_pages(tmp_path) if isinstance(page, Page)]
    assert [page.body for page in pages] == [b"<p>a", b"<p>c", b"hello", b"<p>b"]
    assert pages[0].url == tmp_path.as_uri() + "/a%20page.html"
    assert pages[0].date == "1970-01-01T00:00:00Z"
    assert [page.content_type for page in pages] == [
        "text/html",
        "application/xhtml+xml",
        "text/plain",
        "text/html",
    ]


def test_files_that_are_no_page(tmp_path: Path) -> None:
    (tmp_path / "a.html.gz").write_bytes(gzip.compress(bytes(range(256)) * 30)[:-20])
    (tmp_path / "b.html.gz").write_bytes(gzip.compress(bytes(50_000_000)))
    (tmp_path / "c.html").write_bytes(b"x" * 1001)
    found = list(read_pages(tmp_path, 10_000))
    assert [page.reason if isinstance(page, DroppedPage) else None for page in found] == [
        "damaged",
        "too_large",
        None,
    ]
    (tmp_path / "e.txt").write_bytes(b"no page")
    for missing in ("e.txt", "absent.html"):
        with pytest.raises(UserError):
            list(read_pages(tmp_path / missing))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.warc.gz", ".warc.gz"),
        ("a.WARC", ".warc"),
        ("a.warc.wet.zst", ".warc.wet.zst"),
        ("a.gz", None),
        ("html", None),
    ],
)
def test_kinds(name: str, kind: str | None) -> None:
    assert page_kind(name) == kind
