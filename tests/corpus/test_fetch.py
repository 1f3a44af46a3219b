import asyncio
import gzip
import os
import random
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.corpus import addresses, fetch, links, page_store
from gpt2lab.corpus.fetch import FetchOptions, FetchReport
from gpt2lab.corpus.links import DroppedLink, Link
from gpt2lab.corpus.page_files import read_pages
from gpt2lab.corpus.pages import DroppedPage, Page

for module in ("aiohttp", "ada_url", "protego", "fastwarc", "brotli"):
    pytest.importorskip(module)

NewSite = Callable[..., Any]
Handler = Any
Answer = Callable[[Handler], None]
QUICK = FetchOptions(delay_s=0, deadline_s=20, backoff_s=0.05, retries=1, allow_private=True)


def page(
    body: bytes = b"<p>hello", status: int = 200, content_type: str | None = "text/html", **headers: str
) -> Answer:
    """An ordinary answer; ``Retry_After="3"`` is the header ``Retry-After``."""

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if content_type is not None:
            handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirect(to: str, status: int = 302) -> Answer:
    return page(b"", status, Location=to)


def raw(*pieces: bytes | float) -> Answer:
    """Bytes as they are, and seconds to wait between them; then the connection is closed."""

    def answer(handler: Handler) -> None:
        handler.close_connection = True
        for piece in pieces:
            if isinstance(piece, bytes):
                handler.wfile.write(piece)
                handler.wfile.flush()
            elif handler.server.stop.wait(piece):
                return

    return answer


@pytest.fixture(autouse=True)
def _no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing outside this machine is asked, not even what a name stands for."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "localhost" or host.replace(".", "").isdigit() or ":" in host:
            return real(host, *arguments, **options)
        host.encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def run(folder: Path, urls: Iterable[str | DroppedLink], **options: Any) -> FetchReport:
    entries = [url if isinstance(url, DroppedLink) else Link(url) for url in urls]
    return fetch.fetch(entries, folder, FetchOptions(**{**vars(QUICK), **options}))


def stored(folder: Path) -> tuple[dict[str, Page], dict[str, DroppedPage]]:
    found = list(read_pages(folder))
    pages = {entry.url: entry for entry in found if isinstance(entry, Page)}
    dropped = {entry.url: entry for entry in found if isinstance(entry, DroppedPage)}
    assert len(pages) + len(dropped) == len(found)  # nothing twice
    return pages, dropped


def reason_of(folder: Path, url: str, **options: Any) -> str | None:
    """Why a link gave no page; None if it did."""
    report = run(folder, [url], **options)
    _, dropped = stored(folder)
    assert report.dropped == Counter(entry.reason for entry in dropped.values())
    assert report.pages + sum(report.dropped.values()) == 1
    return dropped[url].reason if dropped else None


def test_pages_arrive_as_they_were_sent(tmp_path: Path, new_site: NewSite) -> None:
    html = "<p>ünïcode\r\n".encode("latin-1") * 100
    site = new_site(
        {
            "/a?b=1": page(html, content_type="text/html; charset=ISO-8859-1"),
            "/gzip": page(gzip.compress(html), Content_Encoding="gzip"),
            "/deflate": page(zlib.compress(html), Content_Encoding="deflate"),
            "/chunked": raw(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"5\r\nhello\r\n6\r\n there\r\n0\r\n\r\n"
            ),
            "/empty": page(b""),
            "/odd": page(b"x", X_Odd="caf\xe9"),
        }
    )
    urls = [site.url + path for path in site.answers]
    report = run(tmp_path, urls, contact="someone@example.com")
    pages, dropped = stored(tmp_path)
    assert dropped == {}
    assert {url: page.body for url, page in pages.items()} == dict(
        zip(urls, [html, html, html, b"hello there", b"", b"x"], strict=True)
    )
    assert (pages[urls[0]].content_type, pages[urls[0]].charset) == ("text/html", "ISO-8859-1")
    assert pages[urls[0]].date[:2] == "20"
    assert (report.pages, report.page_bytes, report.done_before) == (6, 3 * len(html) + 12, 0)
    assert site.paths().count("/a?b=1") == 1
    assert all(agent.startswith("gpt2lab/") and "someone@example.com" in agent for agent in site.agents)


def test_the_files_are_sound_warc(tmp_path: Path, new_site: NewSite) -> None:
    """As another reader sees them: FastWARC, with nothing of ours around it."""
    from fastwarc.warc import ArchiveIterator

    site = new_site({"/a": redirect("/b"), "/b": page(gzip.compress(b"hello"), Content_Encoding="gzip")})
    run(tmp_path, [site.url + "/a", site.url + "/c"])
    (path,) = tmp_path.glob("*.warc.gz")
    with path.open("rb") as file:
        records = [(record, record.reader.read()) for record in ArchiveIterator(file, parse_http=True)]
        records[1:] = sorted(records[1:], key=lambda entry: entry[0].headers["WARC-Type"], reverse=True)
        assert [record.headers["WARC-Type"] for record, _ in records] == ["warcinfo", "response", "metadata"]
        record, body = records[1]
        assert body == b"hello"
        assert record.headers["WARC-Target-URI"] == site.url + "/b"
        assert record.headers["GPT2Lab-Link"] == site.url + "/a"
        assert record.headers["WARC-IP-Address"] == "127.0.0.1"
        assert record.http_headers["X-Crawl-Content-Encoding"] == "gzip"
        assert record.http_headers["Content-Length"] == "5"
    assert len(list(tmp_path.iterdir())) == 2  # and the lock


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
MISBEHAVIOUR: dict[str, tuple[Any, str | None, dict[str, Any]]] = {
    "not found": (page(b"", 404), "status", {}),
    "gone": (page(b"", 410), "status", {}),
    "broken server": (page(b"", 500), "status", {}),
    "picture": (page(b"GIF89a", content_type="image/gif"), "not_text", {}),
    "no type": (page(b"<p>", content_type=None), "not_text", {}),
    "just fits": (page(b"x" * 1000), None, {"max_bytes": 1000}),
    "too large, and says so": (page(b"x" * 1001), "too_large", {"max_bytes": 1000}),
    "too large, and does not say so": (raw(OK, b"\r\n", b"x" * 1001), "too_large", {"max_bytes": 1000}),
    "gzip bomb": (page(gzip.compress(bytes(30_000_000)), Content_Encoding="gzip"), "too_large", {}),
    "deflate bomb": (page(zlib.compress(bytes(30_000_000)), Content_Encoding="deflate"), "too_large", {}),
    "gzip that is none": (page(b"hello", Content_Encoding="gzip"), "bad_packing", {}),
    "gzip of gzip": (page(b"hello", Content_Encoding="gzip, gzip"), "unknown_packing", {}),
    "unknown packing": (page(b"hello", Content_Encoding="sdch"), "unknown_packing", {}),
    "not HTTP": (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "bad_answer", {}),
    "nothing": (raw(), "broken_off", {}),
    "breaks off": (raw(OK, b"Content-Length: 100\r\n\r\nhello"), "broken_off", {}),
    "breaks off in a chunk": (raw(OK, b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe"), "broken_off", {}),
    "bad chunk": (raw(OK, b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhe"), "bad_answer", {}),
    "header without end": (raw(OK, b"X: " + b"x" * 200_000), "bad_answer", {}),
    "headers without end": (raw(OK, b"X: y\r\n" * 500_000), "bad_answer", {}),
    "continue without end": (
        raw(*[b"HTTP/1.1 100 Continue\r\n\r\n", 0.01] * 300),
        "timeout",
        {"deadline_s": 0.4},
    ),
    "silence": (raw(60.0), "timeout", {"deadline_s": 0.3}),
    "slow header": (raw(OK, *[b"X", 0.1] * 100), "timeout", {"deadline_s": 0.5}),
    "slow body": (
        raw(OK, b"\r\n", *[b"x", 0.05] * 200),
        "timeout",
        {"deadline_s": 0.5, "min_bytes_per_s": 0},
    ),
    "too slow body": (raw(OK, b"\r\n", *[b"x", 0.05] * 200), "too_slow", {}),
    "redirect to itself": (redirect("/x"), "redirect_loop", {}),
    "redirect to itself by another spelling": (redirect("//127.1:{port}/y/../x#a"), "redirect_loop", {}),
    "redirect to a picture": (redirect("/a.jpg"), "media_file", {}),
    "redirect to the paper's excluded site": (
        redirect("http://en.wikipedia.org/wiki/X"),
        "excluded_site",
        {},
    ),
    "redirect to a file": (redirect("file:///etc/passwd"), "not_web", {}),
    "redirect to nowhere": (redirect("http://["), "malformed", {}),
    "redirect with a password": (redirect("http://a:b@example.com/"), "credentials", {}),
    "redirect without a place": (page(b"", 302), "status", {}),
}


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_a_server_that_misbehaves(
    tmp_path: Path, new_site: NewSite, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    answer, reason, options = MISBEHAVIOUR[name]
    monkeypatch.setattr("gpt2lab.corpus.asking._GRACE_S", 0.3)
    site = new_site({})
    if "{port}" in name or "spelling" in name:
        answer = redirect(f"//127.1:{site.port}/y/../x#a")
    site.answers["/x"] = answer
    assert reason_of(tmp_path, site.url + "/x", **{"max_bytes": 1_000_000, **options}) == reason


def test_a_bomb_is_noticed_while_it_grows(tmp_path: Path, new_site: NewSite) -> None:
    bomb = gzip.compress(bytes(100_000_000))
    site = new_site({"/x": page(bomb, Content_Encoding="gzip")})
    run(tmp_path / "first", [site.url + "/y"])  # so that what is imported once does not count
    tracemalloc.start()
    assert reason_of(tmp_path / "second", site.url + "/x", max_bytes=1_000_000) == "too_large"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12_000_000


def test_redirects_are_followed_and_counted(tmp_path: Path, new_site: NewSite) -> None:
    other = new_site({"/end": page(b"the end")})
    site = new_site(
        {
            f"/{number}": redirect(f"/{number + 1}", status)
            for number, status in enumerate((301, 302, 303, 307))
        }
        | {"/4": redirect(other.url + "/end", 308), "/long": redirect("/0")}
    )
    run(tmp_path, [site.url + "/0", site.url + "/long"])
    pages, dropped = stored(tmp_path)
    assert {url: page.body for url, page in pages.items()} == {other.url + "/end": b"the end"}
    assert {url: entry.reason for url, entry in dropped.items()} == {site.url + "/long": "too_many_redirects"}
    run(tmp_path, [site.url + "/0", site.url + "/long"])
    assert other.paths() == ["/end"]  # done is what was asked for, whatever it led to


def test_a_loop_over_two_sites(tmp_path: Path, new_site: NewSite) -> None:
    first, second = new_site({}), new_site({})
    first.answers["/a"] = redirect(second.url + "/b")
    second.answers["/b"] = redirect(first.url + "/a")
    assert reason_of(tmp_path, first.url + "/a") == "redirect_loop"


ROBOTS: dict[str, tuple[Any, str | None]] = {
    "none": (page(b"", 404), None),
    "forbidden to look": (page(b"", 403), None),
    "allows": (page(b"User-agent: *\nDisallow: /private\n", content_type="text/plain"), None),
    "forbids": (page(b"User-agent: *\nDisallow: /\n", content_type="text/plain"), "robots_forbid"),
    "forbids us": (page(b"User-agent: gpt2lab\nDisallow: /x\n\nUser-agent: *\nAllow: /"), "robots_forbid"),
    "allows only us": (page(b"User-agent: *\nDisallow: /\n\nUser-agent: GPT2Lab\nDisallow:\n"), None),
    "by pattern": (page(b"User-agent: *\nDisallow: /*x$\n"), "robots_forbid"),
    "with a byte order mark": (page(b"\xef\xbb\xbfUser-agent: *\nDisallow: /\n"), "robots_forbid"),
    "packed": (
        page(gzip.compress(b"User-agent: *\nDisallow: /\n"), Content_Encoding="gzip"),
        "robots_forbid",
    ),
    "is a page": (page(b"<html>no such thing, but 200</html>"), None),
    "rubbish": (page(bytes(range(256)) * 1000), None),
    "without end": (page(b"User-agent: *\nDisallow: /\n" + b"# more\n" * 500_000), "robots_forbid"),
    "bomb": (page(gzip.compress(b"\n" * 50_000_000), Content_Encoding="gzip"), None),
    "moved": (redirect("/elsewhere"), "robots_forbid"),
    "moves on and on": (redirect("/robots.txt?more"), "robots_unreachable"),
    "moved to a file": (redirect("file:///etc/passwd"), "robots_unreachable"),
    "fails": (page(b"", 503), "robots_unreachable"),
    "fails at first": ([page(b"", 503), page(b"", 404)], None),
    "hangs": (raw(30.0), "timeout"),
    "leaves": (raw(), "broken_off"),
    "asks for a day's pause": (page(b"User-agent: *\nCrawl-delay: 86400\n"), "robots_forbid"),
}


@pytest.mark.parametrize("name", ROBOTS)
def test_robots_txt(tmp_path: Path, new_site: NewSite, name: str) -> None:
    answer, reason = ROBOTS[name]
    site = new_site(
        {
            "/robots.txt": answer,
            "/robots.txt?more": redirect("/robots.txt?more"),
            "/elsewhere": page(b"User-agent: *\nDisallow: /x"),
            "/x": page(),
        }
    )
    assert reason_of(tmp_path, site.url + "/x", deadline_s=0.5 if name == "hangs" else 20) == reason
    assert ("/x" in site.paths()) == (reason is None)


def test_robots_txt_is_asked_once_a_site_and_counts_after_redirects(
    tmp_path: Path, new_site: NewSite
) -> None:
    closed = new_site({"/robots.txt": page(b"User-agent: *\nDisallow: /secret\n"), "/secret": page()})
    site = new_site(
        {f"/{number}": page() for number in range(20)} | {"/to": redirect(closed.url + "/secret")}
    )
    report = run(tmp_path, [f"{site.url}/{number}" for number in range(20)] + [site.url + "/to"], per_site=8)
    assert report.pages == 20
    assert report.dropped == {"robots_forbid": 1}
    assert [path for path, _ in site.requests].count("/robots.txt") == 1
    assert closed.paths() == []


def private(address: str) -> bool:
    """In these tests 127.0.0.1 stands for the public internet, and all else is private."""
    return address == "127.0.0.1"


@pytest.fixture
def small_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "is_public", private)
    monkeypatch.setattr(links, "is_public", private)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost", "[::1]", "0.0.0.0"]
)
def test_nothing_on_this_machine_is_asked(tmp_path: Path, new_site: NewSite, host: str) -> None:
    """Even if a link to it has slipped past the reader of the list."""
    site = new_site({"/x": page()})
    url = f"http://{host}:{site.port}/x"
    assert run(tmp_path, [url], allow_private=False).dropped in (
        {"private_address": 1},
        {"unreachable": 1},  # where the machine has no IPv6 at all
    )
    assert site.requests == []


def test_a_redirect_to_a_private_address(tmp_path: Path, new_site: NewSite, small_internet: None) -> None:
    site = new_site({"/x": redirect("http://127.0.0.2:{port}/secret")})
    site.answers["/x"] = redirect(f"http://127.0.0.2:{site.port}/secret")
    assert reason_of(tmp_path, site.url + "/x", allow_private=False) == "private_address"
    assert site.paths() == ["/x"]


def test_a_redirect_of_robots_txt_to_a_private_address(
    tmp_path: Path, new_site: NewSite, small_internet: None
) -> None:
    site = new_site({"/x": page()})
    site.answers["/robots.txt"] = redirect(f"http://127.0.0.2:{site.port}/secret")
    assert reason_of(tmp_path, site.url + "/x", allow_private=False) == "robots_unreachable"
    assert site.paths() == []


@pytest.mark.parametrize("answers", [["127.0.0.2"], ["127.0.0.1", "127.0.0.2"], ["::1"]])
def test_a_name_that_stands_for_something_private_when_it_counts(
    tmp_path: Path,
    new_site: NewSite,
    small_internet: None,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[str],
) -> None:
    """The name's owner gives a public address to whoever checks it first, and a private one later."""
    site = new_site({"/robots.txt": page(b"", 404, Connection="close")})
    looked_up: list[str] = []

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        address = answers[min(len(looked_up), len(answers) - 1)]
        looked_up.append(address)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        where = (address, port, 0, 0) if ":" in address else (address, port)
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", _async(getaddrinfo))
    monkeypatch.setattr("gpt2lab.corpus.asking._REMEMBER_NAMES_S", 0)
    report = run(
        tmp_path, [f"http://rebind.example:{site.port}/{number}" for number in range(4)], allow_private=False
    )
    asked = len(site.requests)
    assert asked == (1 if len(answers) > 1 else 0)  # robots.txt, by the first look-up
    assert report.pages == 0
    assert set(report.dropped) <= {"private_address", "unreachable"}


def _async(function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(_: Any, *arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    return call


def test_names_and_ports_that_lead_nowhere(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert reason_of(tmp_path / "a", f"http://127.0.0.1:{port}/") == "unreachable"
    assert reason_of(tmp_path / "b", "http://no-such-host.invalid/") == "unknown_host"


@pytest.mark.parametrize(
    "host", ["a..b", "a" * 70 + ".invalid", "a_b.invalid", "-.invalid", "%20", "xn--a.invalid"]
)
def test_names_that_are_none(tmp_path: Path, host: str) -> None:
    link = links.check_link(f"http://{host}/")
    if isinstance(link, Link):
        assert reason_of(tmp_path, link.url) in ("unknown_host", "bad_answer")


def test_too_many_open_files_is_no_fault_of_the_link(
    tmp_path: Path, new_site: NewSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = new_site({"/x": page()})

    def checked_socket(_: Any) -> socket.socket:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("gpt2lab.corpus.asking.checked_socket", checked_socket)
        with pytest.raises(UserError, match="may not open more connections"):
            run(tmp_path, [site.url + "/x"], allow_private=False)
    assert run(tmp_path, [site.url + "/x"]).pages == 1


def test_a_certificate_that_nobody_knows(tmp_path: Path, new_site: NewSite) -> None:
    site = new_site({"/": page()})  # it does not even speak TLS
    assert reason_of(tmp_path, f"https://127.0.0.1:{site.port}/") in ("tls", "unreachable", "broken_off")


def test_without_a_network_no_link_is_to_blame(
    tmp_path: Path, new_site: NewSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt2lab.corpus.outage._SITES", 5)
    site = new_site({"/": page()})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    gone = [f"http://127.0.0.{number}:{port}/" for number in range(1, 9)]
    with pytest.raises(UserError, match="none of the last 5 sites could be reached"):
        run(tmp_path, gone, retries=0)
    assert stored(tmp_path) == ({}, {})
    few = [*gone[:3], f"{gone[0]}a", f"{gone[0]}b", site.url + "/"]
    report = run(tmp_path / "few", few, retries=0)
    assert (report.done_before, report.pages, report.dropped) == (0, 1, {"unreachable": 5})
    assert len(stored(tmp_path / "few")[1]) == 5


def test_a_site_is_asked_at_its_pace(tmp_path: Path, new_site: NewSite) -> None:
    slow = new_site({f"/{n}": page() for n in range(4)})
    slower = new_site({"/robots.txt": page(b"User-agent: *\nCrawl-delay: 0.3\n"), "/1": page(), "/2": page()})
    run(tmp_path, [f"{slow.url}/{n}" for n in range(4)] + [slower.url + "/1", slower.url + "/2"], delay_s=0.1)
    for site, pause in ((slow, 0.1), (slower, 0.3)):
        times = [when for path, when in site.requests if path != "/robots.txt"]
        assert all(later - earlier > pause * 0.99 for earlier, later in zip(times, times[1:], strict=False))
        assert site.most_at_once == 1


def test_many_sites_at_once_and_few_questions_each(tmp_path: Path, new_site: NewSite) -> None:
    sites = [
        new_site({f"/{n}": raw(0.05, OK, b"Content-Length: 2\r\n\r\nhi") for n in range(6)}) for _ in range(3)
    ]
    report = run(tmp_path, [f"{site.url}/{n}" for site in sites for n in range(6)], per_site=2, concurrency=4)
    assert report.pages == 18
    assert all(site.most_at_once <= 2 for site in sites)


def test_a_busy_site_is_left_alone_for_as_long_as_it_asks(tmp_path: Path, new_site: NewSite) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=5), usegmt=True)
    site = new_site(
        {
            "/a": [page(b"", 429, Retry_After="1"), page(b"at last")],
            "/b": page(b"b"),
            "/date": [page(b"", 503, Retry_After=soon), page(b"at last")],
            "/tomorrow": page(b"", 503, Retry_After="86400"),
            "/nonsense": [page(b"", 503, Retry_After="soon"), page(b"at last")],
        }
    )
    report = run(tmp_path, [site.url + path for path in site.answers])
    _, dropped = stored(tmp_path)
    assert {url: entry.detail for url, entry in dropped.items()} == {site.url + "/tomorrow": "503"}
    assert report.pages == 4
    assert site.paths().count("/tomorrow") == 1
    asked = site.requests
    for path, least in (("/a", 0.99), ("/date", 0.5)):  # asked for the date long before it comes
        first = next(index for index, (other, _) in enumerate(asked) if other == path)
        assert asked[first + 1][0] == path  # nothing else of this site in between
        assert asked[first + 1][1] - asked[first][1] > least


def test_a_failure_is_tried_again_and_then_counted(tmp_path: Path, new_site: NewSite) -> None:
    site = new_site({"/a": [raw(), raw(), page(b"third")], "/b": raw(), "/c": page(b"", 404)})
    report = run(tmp_path, [site.url + path for path in site.answers], retries=2)
    assert report.pages == 1
    assert report.dropped == {"broken_off": 1, "status": 1}
    times = Counter(site.paths())
    assert (times["/a"], times["/c"]) == (3, 1)
    assert 3 <= times["/b"] <= 6  # aiohttp asks once more where a connection that was open already breaks


def test_what_the_list_reader_dropped_is_counted_and_nothing_is_asked_twice(
    tmp_path: Path, new_site: NewSite
) -> None:
    site = new_site({"/a": page()})
    entries = [DroppedLink("x", "malformed"), site.url + "/a", site.url + "/a", DroppedLink("y", "low_score")]
    report = run(tmp_path, entries)
    assert report.dropped == {"malformed": 1, "low_score": 1, "duplicate": 1}
    assert site.paths() == ["/a"]
    again = run(tmp_path, entries)
    assert (again.pages, again.done_before) == (0, 1)
    assert site.paths() == ["/a"]


def test_files_of_a_bounded_size(tmp_path: Path, new_site: NewSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_store, "FILE_BYTES", 3000)
    site = new_site({f"/{n}": page(os.urandom(1000)) for n in range(10)})
    run(tmp_path, [site.url + path for path in site.answers])
    files = sorted(tmp_path.glob("*.warc.gz"))
    assert len(files) > 2
    assert all(file.stat().st_size < 5000 for file in files)
    assert len(stored(tmp_path)[0]) == 10
    assert run(tmp_path, [site.url + path for path in site.answers]).done_before == 10


@pytest.mark.parametrize("damage", ["cut", "garbage", "cut in the trailer", "empty"])
def test_half_a_record_is_cut_off_and_its_link_asked_again(
    tmp_path: Path, new_site: NewSite, damage: str
) -> None:
    site = new_site({f"/{n}": page(os.urandom(500)) for n in range(5)})
    urls = [site.url + path for path in site.answers]
    run(tmp_path, urls)
    (file,) = tmp_path.glob("*.warc.gz")
    whole = file.read_bytes()
    half = {"cut": whole[:-100], "cut in the trailer": whole[:-1], "empty": b""}
    file.write_bytes(half.get(damage, whole + b"\x1f\x8b\x08" + bytes(99)))
    again = run(tmp_path, urls)
    n_lost = {"cut": 1, "garbage": 0, "cut in the trailer": 1, "empty": 5}[damage]
    assert (again.pages, again.done_before) == (n_lost, 5 - n_lost)
    pages, dropped = stored(tmp_path)
    assert sorted(pages) == sorted(urls)
    assert dropped == {}


def test_a_full_disk_is_one_clear_error_and_what_is_stored_stays(
    tmp_path: Path, new_site: NewSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = new_site({f"/{n}": page() for n in range(5)})
    urls = [site.url + path for path in site.answers]
    run(tmp_path, urls[:2])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(page_store.PageStore, "_write", full)
        with pytest.raises(UserError, match="the disk is full"):
            run(tmp_path, urls)
    assert run(tmp_path, urls).done_before == 2
    assert len(stored(tmp_path)[0]) == 5


def test_two_at_a_time_is_one_too_many(tmp_path: Path) -> None:
    with (
        page_store.PageStore(tmp_path, "me"),
        pytest.raises(UserError, match="another process fetches"),
        page_store.PageStore(tmp_path, "me"),
    ):
        pass


@pytest.mark.parametrize(
    "option", ["delay_s", "concurrency", "max_bytes", "deadline_s", "per_site", "retries"]
)
def test_options_that_make_no_sense(option: str) -> None:
    for value in (-1, float("nan"), float("inf")):
        with pytest.raises(UserError, match=option):
            FetchOptions(**{option: value})


FETCH = """
import sys
from pathlib import Path
from gpt2lab.corpus.fetch import FetchOptions, fetch
from gpt2lab.corpus.links import Link
urls = Path(sys.argv[1]).read_text().split()
options = FetchOptions(delay_s=0, per_site=4, allow_private=True)
fetch([Link(url) for url in urls], Path(sys.argv[2]), options)
"""


def assert_at_most_half_a_record(dropped: dict[str, DroppedPage]) -> None:
    """What a kill in the middle of a write leaves at the end; the next run cuts it off."""
    assert [entry.reason for entry in dropped.values()] in ([], ["truncated"], ["damaged"])


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_killed_and_resumed(tmp_path: Path, new_site: NewSite, how: int) -> None:
    """In the end each page is there once, and none was asked for again that had its record."""
    n_pages = 60
    site = new_site({f"/{n}": raw(0.01, OK, b"\r\n", b"page %d " % n * 500) for n in range(n_pages)})
    urls = [f"{site.url}/{n}" for n in range(n_pages)]
    (tmp_path / "urls").write_text("\n".join(urls))
    folder = tmp_path / "out"
    command = [sys.executable, "-c", FETCH, str(tmp_path / "urls"), str(folder)]
    for goal in (10, 30):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while len(site.paths()) < goal and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(how)
        process.wait(60)
        pages, dropped = stored(folder)
        assert_at_most_half_a_record(dropped)
        for url, entry in pages.items():
            assert entry.body == b"page %s " % url.rsplit("/", 1)[1].encode() * 500
    before = set(stored(folder)[0])
    asked = len(site.paths())
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert set(site.paths()[asked:]) == {url.removeprefix(site.url) for url in urls if url not in before}
    pages, dropped = stored(folder)
    assert sorted(pages) == sorted(urls)
    assert dropped == {}


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path: Path, new_site: NewSite) -> None:
    rng = random.Random(0)
    site = new_site({f"/{n}": raw(0.02, OK, b"\r\n", rng.randbytes(20_000)) for n in range(1500)})
    (tmp_path / "urls").write_text("\n".join(f"{site.url}{path}" for path in site.answers))
    folder = tmp_path / "out"
    command = [sys.executable, "-c", FETCH, str(tmp_path / "urls"), str(folder)]
    done: set[str] = set()
    for _ in range(20):
        asked = len(site.paths())
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while len(site.paths()) == asked and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.wait(60)
        assert not done & {site.url + path for path in site.paths()[asked:]}  # nothing is asked for twice
        pages, dropped = stored(folder)
        assert done <= set(pages)
        assert_at_most_half_a_record(dropped)
        done = set(pages)
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert set(stored(folder)[0]) == {site.url + path for path in site.answers}
    assert [path for path in folder.iterdir() if path.suffix != ".gz" and path.name != ".lock"] == []
