"""Every kind of source file becomes documents, and what cannot be read a reason."""

import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.corpus.parquet_files import read_rows
from gpt2lab.corpus.sources import find_files, read_file
from gpt2lab.corpus.stage import Call

PARAMETERS = {"max_bytes": 1000, "extractor": "trafilatura"}


@pytest.fixture
def read(tmp_path):
    """Runs the stage over files; returns (id, text, url), (id, stage, reason) and the counts."""

    def read(*files):
        outputs = (tmp_path / "out.kept", tmp_path / "out.dropped")
        names = [file.name for file in files]
        counts = read_file(Call(files, outputs, {**PARAMETERS, "names": names}, 10**8))
        kept = list(read_rows(outputs[0], ["id", "text", "url"]))
        return kept, list(read_rows(outputs[1], ["id", "stage", "reason"])), counts

    return read


def test_parquet_files(read, tmp_path):
    table = pa.table({"url": ["https://a.example/", None], "text": ["one", "two"], "more": [1, 2]})
    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": [7], "text": ["three"]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "c.parquet")
    (tmp_path / "d.parquet").write_bytes(b"PAR1 and nothing")
    kept, dropped, counts = read(*sorted(tmp_path.glob("*.parquet")))
    assert kept == [
        ("a.parquet:1", "one", "https://a.example/"),
        ("a.parquet:2", "two", ""),
        ("7", "three", ""),
    ]
    assert [reason for _, _, reason in dropped] == ["no_text_column", "unreadable"]
    assert counts["kept"] == 3
    assert counts["documents"] == 5


def test_texts(read, tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.txt").write_text(" \n")
    (tmp_path / "c.txt").write_text("x" * 1001)
    lines = ['{"text": "a", "url": "https://b.example"}', "{", '{"text": "c"}']
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    kept, dropped, _ = read(*sorted(tmp_path.glob("*.[tj]*")))
    assert kept == [("a.txt", "text", ""), ("d.jsonl:1", "a", "https://b.example"), ("d.jsonl:3", "c", "")]
    where = str(tmp_path / "d.jsonl:2")
    assert dropped == [
        ("b.txt", "read", "blank"),
        (str(tmp_path / "c.txt"), "read", "too_large"),
        (where, "read", "unreadable"),
    ]


def test_lines_that_are_too_long(read, tmp_path):
    lines = ['{"text": "%s"}' % ("x" * size) for size in (1000, 1001, 5000)] + ['{"text": "y"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    kept, dropped, _ = read(tmp_path / "a.jsonl")
    assert [(identity, len(text)) for identity, text, _ in kept] == [("a.jsonl:1", 1000), ("a.jsonl:4", 1)]
    assert dropped == [
        ("a.jsonl:2", "read", "too_large"),
        (str(tmp_path / "a.jsonl:3"), "read", "too_large"),
    ]


@pytest.mark.slow
def test_a_gigabyte_of_one_tag_in_every_kind_of_file(read, tmp_path):
    """Nothing of that size is ever held, and what stands beside it is read."""
    zstd = pytest.importorskip("backports.zstd")
    tag, size = b"<div " + b"a" * 995, 10**9
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
    kind = b"WARC/1.0\r\nWARC-Type: response\r\n"
    record = kind + b"WARC-Target-URI: http://%b.example/\r\nContent-Length: %d\r\n\r\n"
    page = b"<html><body><article><p>" + b"There was nobody on the road that led to the house. " * 4
    small = record % (b"small", len(head) + len(page)) + head + page + b"\r\n\r\n"
    starts = {"a.html.zst": b"", "b.txt.zst": b"", "c.jsonl.zst": b'{"text": "'}
    starts["d.warc.zst"] = record % (b"large", len(head) + size) + head
    for name, start in starts.items():
        with zstd.ZstdFile(tmp_path / name, "wb", level=-5) as file:
            file.write(start)
            for _ in range(size // 10**6):
                file.write(tag * 1000)
    with (tmp_path / "d.warc.zst").open("ab") as file:
        file.write(zstd.compress(b"\r\n\r\n") + zstd.compress(small))
    tracemalloc.start()
    kept, dropped, _ = read(*sorted(tmp_path.glob("*.zst")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [identity for identity, _, _ in kept] == ["http://small.example/"], dropped
    assert [reason for _, _, reason in dropped] == ["too_large"] * 4
    assert peak < 30_000_000


def test_pages(read, tmp_path):
    sentence = "There was nobody on the road that led to the house when they came back from the town."
    (tmp_path / "a.html").write_text(
        f"<html><body><article><p>{sentence}</p><p>{sentence[::-1]}</p></article>"
    )
    (tmp_path / "b.html").write_text("<html><body><script>go()</script></body></html>")
    kept, dropped, counts = read(tmp_path / "a.html", tmp_path / "b.html")
    assert [identity for identity, _, _ in kept] == [(tmp_path / "a.html").as_uri()]
    assert sentence in kept[0][1]
    assert [(stage, reason) for _, stage, reason in dropped] == [("extract", "no_main_text")]
    assert counts["bytes"] == sum(file.stat().st_size for file in tmp_path.glob("*.html"))
    assert counts["kept_bytes"] == len(kept[0][1])


def test_small_files_are_read_together_and_large_ones_alone(tmp_path):
    for number in range(40):
        (tmp_path / f"{number:02}.txt").write_text("x" * 100)
    (tmp_path / "large.txt").write_text("x" * 100_000)
    groups = find_files([tmp_path])
    assert [name for group in groups for _, name in group] == sorted(file.name for file in tmp_path.iterdir())
    assert len(groups) == 1
    assert len(find_files([tmp_path / f"{number:02}.txt" for number in range(40)])) == 8
    with pytest.raises(UserError, match="no file here that text is read from"):
        (tmp_path / "empty").mkdir()
        find_files([tmp_path / "empty"])
