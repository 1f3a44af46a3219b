"""Extraction in a process of its own, so that no page can hang or kill the one that reads many.

The limits of `extraction` keep every page that was ever found slow to a few seconds; this is for the next
one. Time spent inside a parser cannot be interrupted from within a process, only with it.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import IO, Any, Self

from gpt2lab.base.errors import UserError
from gpt2lab.corpus.documents import Document, Dropped
from gpt2lab.corpus.extraction import Extractor
from gpt2lab.corpus.pages import Page

SECONDS = 60.0  # for one page; ten times what any page within the limits was found to take


class ExtractionProcess:
    """Does what `extraction.extract` does; a context manager, or `close` it.

    Two more reasons: ``too_slow``, ``extractor_crashed``. The process then makes room for a new one.

    Args:
        extractor: which.
        seconds: of waiting for one page.
    """

    def __init__(self, extractor: Extractor, seconds: float = SECONDS) -> None:
        self._extractor = extractor
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def extract(self, page: Page) -> Document | Dropped:
        """A page's main text, or why there is none.

        Raises:
            UserError: the extractor is not installed.
        """
        process = self._process = self._process or _start(self._extractor)
        assert process.stdin
        assert process.stdout
        with _killed_after(process, self._seconds) as expired:
            try:
                write_page(process.stdin, page)
                answer = process.stdout.readline()
            except BrokenPipeError:
                answer = b""
        if not answer.endswith(b"\n"):
            self.close()
            return Dropped(page.url, "", "too_slow" if expired.is_set() else "extractor_crashed")
        return _read_answer(answer)

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _start(extractor: Extractor) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: a module of the same name in the current folder must not take the place of a library's
        [sys.executable, "-P", "-m", "gpt2lab.corpus.extraction_worker", extractor],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libxml2's complaints about pages
    )


@contextmanager
def _killed_after(process: subprocess.Popen[bytes], seconds: float) -> Iterator[threading.Event]:
    """Kill `process` if the block takes longer; the event tells whether that was so."""
    expired = threading.Event()

    def kill() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


def write_page(stream: IO[bytes], page: Page) -> None:
    """A line of JSON that says how many bytes the page has, and the bytes."""
    header = asdict(page) | {"body": len(page.body)}
    stream.write(json.dumps(header).encode() + b"\n" + page.body)
    stream.flush()


def read_page(stream: IO[bytes]) -> Page | None:
    """What `write_page` wrote; None at the end."""
    line = stream.readline()
    if not line:
        return None
    header: dict[str, Any] = json.loads(line)
    return Page(**header | {"body": stream.read(header["body"])})


def write_answer(stream: IO[bytes], answer: Document | Dropped | UserError) -> None:
    """A line of JSON."""
    if isinstance(answer, UserError):
        told = {"what": answer.what, "where": answer.where, "fix": answer.fix}
    else:
        told = asdict(answer)
    stream.write(json.dumps(told).encode() + b"\n")
    stream.flush()


def _read_answer(line: bytes) -> Document | Dropped:
    told: dict[str, Any] = json.loads(line)
    if "what" in told:
        raise UserError(told["what"], where=told["where"], fix=told["fix"])
    return Dropped(**told) if "reason" in told else Document(**told)
