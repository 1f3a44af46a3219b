import bz2
import gzip
import json
import lzma
import random
import resource
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2lab.base.errors import UserError
from gpt2lab.corpus import open_files
from gpt2lab.corpus.links import DroppedLink, Link
from gpt2lab.corpus.reddit import read_links
from gpt2lab.corpus.unique_links import UniqueLinks

pytest.importorskip("ada_url")
zstd = pytest.importorskip("backports.zstd")


def as_pushshift(data: bytes) -> bytes:
    """In pieces, so without the size in its head; with a window of 2^31 bytes and a checksum."""
    which = zstd.CompressionParameter
    compressor = zstd.ZstdCompressor(options={which.window_log: 31, which.checksum_flag: 1})
    return bytes(compressor.compress(data) + compressor.flush())


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": as_pushshift,
}


def submission(url: Any = "http://example.com/", score: Any = 3, **more: Any) -> str:
    return json.dumps({"url": url, "score": score, "is_self": False, "created_utc": 1456790400, **more})


def links_in(path: Path, text: str | bytes, **options: Any) -> list[Link | DroppedLink]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_links(path, **options))


def reasons(links: list[Link | DroppedLink]) -> list[str | None]:
    return [link.reason if isinstance(link, DroppedLink) else None for link in links]


def test_submissions(tmp_path: Path) -> None:
    lines = {
        submission(): None,
        submission(score=2): "low_score",
        submission(score=-7): "low_score",
        submission(score="12"): None,
        submission(is_self=True): "self_post",
        submission(""): "self_post",
        submission("/r/news/comments/1"): "self_post",
        submission("[deleted]"): "removed",
        submission(removed_by_category="moderator"): "removed",
        submission("https://www.reddit.com/r/a"): "not_outbound",
        submission("https://i.imgur.com/a.jpg"): "media_site",
        submission("http://127.0.0.1/"): "private_address",
        submission("nonsense"): "malformed",
        submission(7): "broken_line",
        submission(score=None): "broken_line",
        submission(created_utc="soon"): "broken_line",
        submission(created_utc=1e40): "broken_line",
        submission(score=float("nan")): "broken_line",
        '{"url": "http://example.com/"}': "broken_line",
        '{"url": "http://exa': "broken_line",
        '{"a":' * 100_000: "broken_line",
        "{": "broken_line",
    }
    links = links_in(tmp_path / "RS", "\n".join(lines))
    assert reasons(links) == list(lines.values())
    assert links[0] == Link("http://example.com/", 3, "2016-03-01")
    assert isinstance(links[-1], DroppedLink)
    assert links[-1].url == f"{tmp_path / 'RS'}:{len(lines)}"


def test_karma_and_dates_are_the_readers_choice(tmp_path: Path) -> None:
    text = "\n".join(submission(score=score) for score in (1, 5, 10))
    assert reasons(links_in(tmp_path / "RS", text, min_score=6)) == ["low_score", "low_score", None]
    assert reasons(links_in(tmp_path / "RS", submission(), before="2016-03-01")) == ["too_late"]
    assert reasons(links_in(tmp_path / "RS", submission(), before="2016-03-02")) == [None]


def test_reddits_escapes_are_undone_once(tmp_path: Path) -> None:
    links = links_in(tmp_path / "RS", submission("http://example.com/?a=1&amp;b=&amp;lt;"))
    assert [link.url for link in links] == ["http://example.com/?a=1&b=&lt;"]


def test_plain_lists(tmp_path: Path) -> None:
    text = "\ufeffhttp://example.com/1\r\n\r\n# a remark\n  http://example.com/2  \nnonsense\n"
    links = links_in(tmp_path / "list.txt", text)
    assert reasons(links) == [None, None, "malformed"]
    assert [link.url for link in links[:2]] == ["http://example.com/1", "http://example.com/2"]


@pytest.mark.parametrize("packing", PACKERS)
def test_packed_dumps_whole_and_cut_short(tmp_path: Path, packing: str) -> None:
    rng = random.Random(0)
    lines = [submission(f"http://example.com/{rng.random()}") for _ in range(3000)]
    data = PACKERS[packing](("\n".join(lines) + "\n").encode())
    assert reasons(links_in(tmp_path / "RS", data)) == [None] * 3000
    cut = links_in(tmp_path / "RS", data[: len(data) * 9 // 10])
    if packing in ("gzip", "xz"):  # of the others little or nothing comes out before a block is whole
        assert len(cut) > 1000
    if packing == "plain":
        assert reasons(cut)[:-1] == [None] * (len(cut) - 1)
    else:
        assert reasons(cut) == [None] * (len(cut) - 1) + ["damaged"]


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz", "zstd"])
def test_damage_in_the_middle(tmp_path: Path, packing: str) -> None:
    rng = random.Random(0)
    text = "\n".join(submission(f"http://example.com/{rng.random()}") for _ in range(3000))
    data = bytearray(PACKERS[packing](text.encode()))
    data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    assert reasons(links_in(tmp_path / "RS", bytes(data)))[-1] == "damaged"


def test_a_line_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files, "LONGEST_LINE", 1000)
    long, short = b"x" * 1_000_000, submission().encode()
    text = b"\n".join([short, long, short, b'{"a": "' + b"y" * 993, b"y" * 1000, b"y" * 999, short])
    found = links_in(tmp_path / "RS", text)
    assert reasons(found) == [None, "long_line", None, "long_line", "long_line", "malformed", None]


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz", "zstd"])
def test_a_bomb_of_one_line_does_not_fill_the_memory(tmp_path: Path, packing: str) -> None:
    packer = zstd.compress if packing == "zstd" else PACKERS[packing]
    (tmp_path / "RS").write_bytes(packer(bytes(50_000_000)))
    tracemalloc.start()
    found = list(read_links(tmp_path / "RS"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reasons(found) == ["long_line"]
    assert peak < 25_000_000


@given(st.binary())
def test_no_bytes_break_it(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    links_in(tmp_path_factory.getbasetemp() / "any", data)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        list(read_links(tmp_path / "absent"))


def test_each_link_once(tmp_path: Path) -> None:
    links = [
        Link("http://a/", 5, "2016-01-01"),
        Link("http://b/"),
        DroppedLink("x", "malformed"),
        Link("http://a/", 9),
    ]
    with UniqueLinks(links, tmp_path) as unique:
        assert (unique.total, unique.dropped) == (3, {"malformed": 1})
        found = list(unique)
        assert set(found) == {links[0], links[1], DroppedLink("http://a/", "duplicate")}
        assert list(unique) == found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_many_duplicates_in_little_memory(tmp_path: Path, size: int) -> None:
    def links():  # type: ignore[no-untyped-def]
        for number in range(size):
            yield Link(f"http://example.com/{number % 10}", 3, "")

    before = peak_memory()
    with UniqueLinks(links(), tmp_path) as unique:
        counts = Counter(type(link).__name__ for link in unique)
    assert counts == {"Link": 10, "DroppedLink": size - 10}
    assert peak_memory() - before < 30_000_000


def peak_memory() -> int:
    """Bytes this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@settings(max_examples=20)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"))))
def test_unique_is_what_a_set_says(tmp_path_factory: pytest.TempPathFactory, urls: list[str]) -> None:
    with UniqueLinks([Link(url) for url in urls], tmp_path_factory.getbasetemp()) as unique:
        kept = [link.url for link in unique if isinstance(link, Link)]
    assert sorted(kept) == sorted(set(urls))
