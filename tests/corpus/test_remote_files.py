"""Archives that lie elsewhere: found, read as if they lay here, and never cut short by a line that breaks."""

import gzip
import io
from dataclasses import replace

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import read_json
from gpt2lab.corpus import remote_files
from gpt2lab.corpus.pages import Page
from gpt2lab.corpus.pipeline import build_corpus
from gpt2lab.corpus.recipe import ShardsConfig, load_corpus_recipe
from gpt2lab.corpus.remote_files import find_remote_files, open_url
from gpt2lab.corpus.sources import find_archives
from gpt2lab.corpus.web_archives import read_archive
from gpt2lab.corpus.workers import Processes

pytest.importorskip("fastwarc")

SENTENCE = "The man who was there at {} said that it was not the dog, and that they had been away with it. "


def page(number):
    paragraphs = "".join(f"<p>{SENTENCE.format(100 * number + i) * 3}</p>" for i in range(6))
    return f"<html><body><article>{paragraphs}</article></body></html>".encode()


def archive(numbers):
    return b"".join(gzip.compress(record(n), mtime=0) for n in numbers)


def record(number):
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page(number)
    head = (
        "WARC/1.0\r\nWARC-Type: response\r\n"
        f"WARC-Target-URI: http://a.example/{number}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


class BreakingStore(MemoryFileSystem):
    """A store of which every connection breaks `failures` times before it gives anything."""

    protocol = "breaking"
    failures = 0

    def _open(self, path, mode="rb", **options):
        file = super()._open(path, mode, **options)
        return file if mode != "rb" else _Breaking(self, file.getvalue())


class _Breaking(io.BytesIO):
    def __init__(self, store, data):
        super().__init__(data)
        self.store, self.left = store, store.failures

    def read(self, size=-1):
        if self.left:
            self.left -= 1
            super().read(7)  # the place in the file is lost too
            raise ConnectionResetError("the line broke")
        return super().read(size)


@pytest.fixture
def store(monkeypatch):
    fsspec.register_implementation("breaking", BreakingStore, clobber=True)
    monkeypatch.setattr(remote_files, "_PAUSES_S", (0.0, 0.0))
    with fsspec.open("breaking://crawl/pages.warc.gz", "wb") as file:
        file.write(archive(range(5)))
    yield BreakingStore
    BreakingStore.store.clear()
    BreakingStore.failures = 0


def test_a_line_that_breaks_twice_costs_nothing(store):
    store.failures = 2
    pages = [page for page in read_archive("breaking://crawl/pages.warc.gz") if isinstance(page, Page)]
    assert [page.url for page in pages] == [f"http://a.example/{n}" for n in range(5)]


def test_a_line_that_stays_broken_is_told_and_not_taken_for_damage(store):
    store.failures = 3
    with pytest.raises(UserError, match="cannot be read: the line broke"):
        list(read_archive("breaking://crawl/pages.warc.gz"))


def test_a_line_that_breaks_inside_a_record_is_told(store, monkeypatch):
    found = read_archive("breaking://crawl/pages.warc.gz")
    assert isinstance(next(found), Page)
    monkeypatch.setattr(_Breaking, "read", _refuse)
    with pytest.raises(UserError, match="cannot be read: gone"):
        list(found)


def _refuse(self, size=-1):
    raise ConnectionResetError("gone")


def test_a_url_stands_for_a_file_for_what_matches_it_or_for_all_below(tmp_path):
    for name in ("b.warc.gz", "a.warc", "sub/c.arc.gz", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    def names(url):
        return [file.url.removeprefix(f"file://{tmp_path}/") for file in find_archives([url])]

    assert names(f"file://{tmp_path}/b.warc.gz") == ["b.warc.gz"]
    assert names(f"file://{tmp_path}/*.warc*") == ["a.warc", "b.warc.gz"]
    assert names(f"file://{tmp_path}") == ["a.warc", "b.warc.gz", "sub/c.arc.gz"]
    for url, told in (
        (f"file://{tmp_path}/absent.warc", "no such file, or no way to it"),
        (f"file://{tmp_path}/notes.txt", "no file here that is read from afar"),
        (f"file://{tmp_path}/*.zst", "no file here that is read from afar"),
        ("nosuch://a/b.warc", "nothing here can open this"),
    ):
        with pytest.raises(UserError, match=told):
            find_remote_files(url, lambda name: name if "arc" in name else None, "archives")


def test_what_is_given_from_its_beginning_only_is_refused(store, monkeypatch):
    def refuse(*_):
        raise ValueError("Cannot seek streaming HTTP file")

    monkeypatch.setattr(_Breaking, "seek", refuse)
    with pytest.raises(UserError, match="from its beginning only"):
        open_url("breaking://crawl/pages.warc.gz")


def test_a_corpus_from_afar_is_the_corpus_from_here(made, tmp_path):
    folder = tmp_path / "pages"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.warc.gz").write_bytes(archive(range(20 * number, 20 * number + 20)))
    recipe = load_corpus_recipe("webtext")
    recipe = replace(recipe, shards=ShardsConfig(str(made / "vocabulary"), 0.2, 10_000))

    def build(source, name):
        with Processes(2) as runner:
            return build_corpus(recipe, [source], tmp_path / name, runner=runner, memory=10**8)

    here, afar = build(str(folder), "here"), build(f"file://{folder}/*.warc.gz", "afar")
    assert sum(split["documents"] for split in here["splits"].values()) == 40
    assert afar["splits"] == here["splits"]
    assert afar["shards"] == here["shards"]  # their hashes too
    assert [source["file"] for source in afar["sources"]] == [f"file://{folder}/{n}.warc.gz" for n in (0, 1)]

    log = tmp_path / "afar" / "stages" / "log.jsonl"
    done = log.read_text()
    build(f"file://{folder}/*.warc.gz", "afar")
    assert log.read_text() == done  # nothing has changed, so nothing is read again
    (folder / "1.warc.gz").write_bytes(archive(range(20, 60)))
    assert sum(s["documents"] for s in build(f"file://{folder}/*.warc.gz", "afar")["splits"].values()) == 60
    assert read_json(tmp_path / "afar" / "manifest.json")["sources"][1]["version"]
