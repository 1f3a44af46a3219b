"""How fast are links read, pages fetched, and web archives read?

    python benchmarks/corpus_sources.py

Reads what it makes itself: pages of Python's own documentation, packed in every way; a dump of submissions
like Pushshift's; a server on the loopback interface, in a process of its own. Beside the archive reader run
FastWARC alone (the framing that the reader is built on, nothing taken apart) and warcio, where it is
installed. Readers take turns; figures are medians of MB or pages for each second of the processor, and for
the fetcher, which waits, of the clock.
"""

import argparse
import contextlib
import gzip
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Measure = Callable[[], dict[str, float]]


def make_bodies(n: int) -> list[bytes]:
    """Pages of 5 to 15 kB out of the language reference that Python carries."""
    from pydoc_data.topics import topics

    rng = random.Random(0)
    text = "\n".join(f"<p>{text}</p>" for text in topics.values()).encode()
    starts = [rng.randrange(len(text) - 15_000) for _ in range(n)]
    return [text[start : start + rng.randrange(5_000, 15_000)] for start in starts]


def make_archives(folder: Path, n: int) -> dict[str, Path]:
    """The same pages, each with its request, as WARC in every packing; as ARC the pages alone."""
    from backports import zstd

    packers: dict[str, Callable[[bytes], bytes]] = {
        "warc": bytes,
        "warc.gz": lambda data: gzip.compress(data, 6, mtime=0),
        "warc.zst": zstd.compress,
    }
    paths = {name: folder / f"pages.{name}" for name in (*packers, "arc.gz")}
    with contextlib.ExitStack() as opened:
        files = {name: opened.enter_context(path.open("wb")) for name, path in paths.items()}
        for number, body in enumerate(make_bodies(n)):
            url = b"http://host%d.example/%d" % (number % 997, number)
            answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + body
            request = b"GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: somebody\r\n\r\n"
            records = [_warc(b"request", url, request), _warc(b"response", url, answer)]
            for name, pack in packers.items():
                files[name].writelines(map(pack, records))
            arc = url + b" 10.0.0.1 20240101000000 text/html %d\n" % len(answer) + answer + b"\n"
            files["arc.gz"].write(gzip.compress(arc, 6, mtime=0))
    return paths


def _warc(kind: bytes, url: bytes, block: bytes) -> bytes:
    head = (
        b"WARC/1.0\r\nWARC-Type: %s\r\nWARC-Target-URI: %s\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
        b"WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000000>\r\n"
        b"Content-Type: application/http; msgtype=%s\r\nContent-Length: %d\r\n\r\n"
    )
    return head % (kind, url, kind, len(block)) + block + b"\r\n\r\n"


def make_dump(path: Path, n: int) -> None:
    """Submissions with the fields that Pushshift's have, a quarter of them without a link."""
    from backports import zstd

    rng = random.Random(0)
    filler = {f"field_{number}": None for number in range(30)}
    with zstd.open(path, "wb") as file:
        for number in range(n):
            url = f"https://www.site{number % 999}.example/{number}/a-title.html?id={number}&amp;utm_source=x"
            row = {"url": url, "score": rng.randrange(10), "created_utc": 1_500_000_000 + number}
            row |= {
                "is_self": number % 4 == 0,
                "selftext": "",
                "title": "What somebody found there",
                **filler,
            }
            file.write(json.dumps(row).encode() + b"\n")


def ours(path: Path) -> Iterator[int]:
    from gpt2lab.corpus.pages import Page
    from gpt2lab.corpus.web_archives import read_archive

    for page in read_archive(path):
        assert isinstance(page, Page)
        yield len(page.body)


def fastwarc(path: Path) -> Iterator[int]:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    with path.open("rb") as file:
        for record in ArchiveIterator(file, record_types=WarcRecordType.response):
            yield len(record.reader.read())


def warcio(path: Path) -> Iterator[int]:
    from warcio.archiveiterator import ArchiveIterator

    with path.open("rb") as file:
        for record in ArchiveIterator(file, arc2warc=True):
            if record.rec_type == "response":
                yield len(record.content_stream().read())


READERS = {"gpt2lab": ours, "FastWARC alone": fastwarc, "warcio": warcio}
CANNOT = {("FastWARC alone", "arc.gz"), ("warcio", "warc.zst")}


def reading(reader: Callable[[Path], Iterator[int]], path: Path, n: int) -> Measure:
    def measure() -> dict[str, float]:
        started = time.process_time()
        sizes = list(reader(path))
        seconds = time.process_time() - started
        assert len(sizes) == n
        return {"pages/s": n / seconds, "MB/s": sum(sizes) / 1e6 / seconds}

    return measure


def reading_links(path: Path, n: int) -> Measure:
    def measure() -> dict[str, float]:
        from gpt2lab.corpus.reddit import read_links

        started = time.process_time()
        assert sum(1 for _ in read_links(path)) == n
        return {"lines/s": n / (time.process_time() - started)}

    return measure


def sorting_links(folder: Path, n: int) -> Measure:
    def measure() -> dict[str, float]:
        from gpt2lab.corpus.links import Link
        from gpt2lab.corpus.unique_links import UniqueLinks

        links = (Link(f"http://site{number % 999}.example/{number // 2}") for number in range(n))
        started = time.process_time()
        with UniqueLinks(links, folder) as unique:
            assert sum(1 for _ in unique) == n
        return {"links/s": n / (time.process_time() - started)}

    return measure


SERVER = """
import asyncio, sys
BODY = open(sys.argv[1], "rb").read()
OK = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/html\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(BODY) + BODY
NONE = b"HTTP/1.1 404 Not Found\\r\\nContent-Length: 0\\r\\n\\r\\n"
async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\\r\\n\\r\\n"):
            writer.write(NONE if head.startswith(b"GET /robots.txt") else OK)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def fetching(folder: Path, port: int, n: int) -> Measure:
    """One site, asked by 32 at a time without pauses: what the machinery itself can do."""
    counter = iter(range(10**6))

    def measure() -> dict[str, float]:
        from gpt2lab.corpus.fetch import FetchOptions, fetch
        from gpt2lab.corpus.links import Link

        options = FetchOptions(delay_s=0, per_site=32, concurrency=32, allow_private=True)
        links = [Link(f"http://127.0.0.1:{port}/{number}") for number in range(n)]
        started, cpu = time.perf_counter(), time.process_time()
        report = fetch(links, folder / f"fetched-{next(counter)}", options)
        assert report.pages == n, report
        return {
            "pages/s": n / (time.perf_counter() - started),
            "pages/CPU s": n / (time.process_time() - cpu),
        }

    return measure


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("fastwarc", "warcio", "aiohttp", "ada-url", "backports.zstd"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=int, default=5000)
    parser.add_argument("--links", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures here, as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measures: dict[str, Measure] = {}
        for kind, path in make_archives(folder, options.pages).items():
            for reader, read in READERS.items():
                if (reader, kind) not in CANNOT and (reader != "warcio" or find_spec("warcio")):
                    measures[f"{kind}, {reader}"] = reading(read, path, options.pages)
        make_dump(folder / "RS.zst", options.links)
        measures["submissions"] = reading_links(folder / "RS.zst", options.links)
        measures["duplicates"] = sorting_links(folder, options.links)
        (folder / "body").write_bytes(make_bodies(1)[0])
        command = [sys.executable, "-c", SERVER, str(folder / "body")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                port = int(server.stdout.readline())
                measures["fetch"] = fetching(folder, port, min(options.pages, 2000))
                rounds = [{task: run() for task, run in measures.items()} for _ in range(options.rounds)]
            finally:
                server.terminate()
    report(rounds, options.out)


def report(rounds: list[dict[str, dict[str, float]]], out: Path | None) -> None:
    figures: dict[str, Any] = {
        task: {unit: statistics.median(round_[task][unit] for round_ in rounds) for unit in rounds[0][task]}
        for task in rounds[0]
    }
    for task, values in figures.items():
        print(f"{task:<28}" + "".join(f"{value:>12,.0f} {unit}" for unit, value in values.items()))
    if out:
        machine = {"cpus": os.cpu_count(), "machine": platform.machine()}
        out.write_text(json.dumps({"figures": figures, "versions": versions(), **machine}, indent=1))


if __name__ == "__main__":
    main()
