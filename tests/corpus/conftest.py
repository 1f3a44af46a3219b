"""Web servers of our own on the loopback interface: each a site that answers, or misbehaves, as told."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

Handler = BaseHTTPRequestHandler
Answer = Callable[[Handler], None]


@dataclass
class Site:
    """What a server holds, and what it was asked."""

    answers: dict[str, Answer | list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, float]] = field(default_factory=list)  # path, and when
    agents: set[str] = field(default_factory=set)
    most_at_once: int = 0
    port: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        """What it was asked for, robots.txt apart, in order."""
        return [path for path, _ in self.requests if path != "/robots.txt"]

    def answer(self, handler: Handler) -> None:
        with self._lock:
            self.requests.append((handler.path, time.monotonic()))
            self.agents.add(handler.headers.get("User-Agent", ""))
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            given = self.answers.get(handler.path, _nothing_here)
            answer = given.pop(0) if isinstance(given, list) else given
        try:
            answer(handler)
        except OSError:  # the client has left
            handler.close_connection = True
        finally:
            with self._lock:
                self._now -= 1


def _nothing_here(handler: Handler) -> None:
    handler.send_response(404)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        self.site.answer(self)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:  # clients of these tests leave whenever they like
        pass


@pytest.fixture
def new_site() -> Iterator[Callable[..., Site]]:
    """Start a server; `new_site({"/path": answer})`. A list of answers gives each of them once."""
    servers = []

    def start(answers: dict[str, Answer | list[Answer]]) -> Site:
        site = Site(answers)
        server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
        server.stop = threading.Event()  # type: ignore[attr-defined]
        site.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return site

    yield start
    for server, thread in servers:
        server.stop.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()
        thread.join()
