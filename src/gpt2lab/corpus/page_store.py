"""What was fetched, as WARC files in a folder: one record a link, each packed on its own and written at once.

A page is a ``response`` record, a link that gave none a ``metadata`` record with the reason. So the files say
by themselves which links are done. Every run starts a file of its own. A run that was killed may have left
half a record at the end of its last file; the next one cuts it off.
"""

import array
import fcntl
import gzip
import uuid
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Self

import numpy as np

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import disk_errors_explained, make_folder, remove_leftovers
from gpt2lab.base.progress import Progress
from gpt2lab.corpus.archive_records import LINK_FIELD
from gpt2lab.corpus.links import DroppedLink
from gpt2lab.corpus.unique_links import link_key
from gpt2lab.corpus.web_archives import DROPPED_TYPE

FILE_BYTES = 1_000_000_000
"""From this size on a file is finished and the next one is started"""

_NAME = "pages-{:05d}.warc.gz"
_HEAD_BYTES = 64 << 10  # of a record: more than its own header
_UNSENT = (
    "content-encoding",
    "transfer-encoding",
    "content-length",
)  # no longer true of a body as it is stored


class PageStore:
    """A folder of WARC files that one process adds to.

    Args:
        folder: made where it does not exist.
        user_agent: who fetched, for the first record of each file.

    Raises:
        UserError: another process writes here, or nobody may.

    Use it in a ``with`` block.
    """

    def __init__(self, folder: Path, user_agent: str) -> None:
        self.folder = folder
        self._user_agent = user_agent
        self._file: IO[bytes] | None = None
        self._done = np.empty(0, np.uint64)

    def __enter__(self) -> Self:
        make_folder(self.folder)
        with disk_errors_explained(self.folder):
            self._lock = (self.folder / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise UserError(
                "another process fetches into this folder", where=self.folder, fix="Wait for it or stop it"
            ) from error
        remove_leftovers(self.folder)
        files = sorted(self.folder.glob("pages-*.warc.gz"))
        done = array.array("Q")
        with Progress(
            sum(file.stat().st_size for file in files), "reading what is there", "bytes"
        ) as progress:
            for file in files:
                size = file.stat().st_size
                done.extend(_links_done(file))
                progress.advance(size)
        self._done = np.unique(np.asarray(done, np.uint64))
        self._number = int(files[-1].name[6:11]) + 1 if files else 0
        return self

    def __exit__(self, *_: object) -> None:
        self._finish_file()
        self._lock.close()

    def __contains__(self, url: str) -> bool:
        """Whether a link had its record when the store was opened."""
        key = np.uint64(_short_key(url))
        place = int(np.searchsorted(self._done, key))
        return place < len(self._done) and bool(self._done[place] == key)

    def add_page(
        self, link: str, url: str, status_line: str, headers: list[tuple[str, str]], body: bytes, address: str
    ) -> None:
        """Store what a server answered.

        Args:
            link: what was asked for at first.
            url: what was asked for at last, after redirects.
            status_line: ``"HTTP/1.1 200 OK"``.
            headers: as they came. Those about the transfer, which are no longer true, get the prefix
                ``X-Crawl-``, as Common Crawl has it.
            body: unpacked.
            address: of the server.
        """
        lines = [status_line]
        lines += [
            f"{'X-Crawl-' if name.lower() in _UNSENT else ''}{name}: {value}" for name, value in headers
        ]
        lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(line.replace("\r", " ").replace("\n", " ") for line in lines)
        block = head.encode("latin-1", "replace") + b"\r\n\r\n" + body
        content_type = "application/http; msgtype=response"
        self._add("response", url, content_type, block, {LINK_FIELD: link, "WARC-IP-Address": address})

    def add_dropped(self, dropped: DroppedLink) -> None:
        """Store that a link gave no page, and why."""
        block = f"{dropped.reason}: {dropped.detail}".encode("utf-8", "replace")
        self._add("metadata", dropped.url, DROPPED_TYPE, block, {})

    def _add(self, kind: str, url: str, content_type: str, block: bytes, more: dict[str, str]) -> None:
        with disk_errors_explained(self.folder):
            if self._file is None:
                # Unbuffered: each record is handed to the system at once and in one piece. A kill in the
                # middle of that, or a power cut, leaves half a record at most, at the end.
                path = self.folder / _NAME.format(self._number)
                self._file = path.open("xb", buffering=0)
                self._number += 1
                about = f"software: gpt2lab\r\nhttp-header-user-agent: {self._user_agent}\r\nrobots: obey\r\n"
                self._write(_record("warcinfo", path.name, "application/warc-fields", about.encode(), {}))
            self._write(_record(kind, url, content_type, block, more))
            if self._file.tell() >= FILE_BYTES:
                self._finish_file()

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        view = memoryview(data)
        while view:  # the system may take less at once, above all when the disk is about to be full
            view = view[self._file.write(view) :]

    def _finish_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _record(kind: str, url: str, content_type: str, block: bytes, more: dict[str, str]) -> bytes:
    """One packed WARC record (ISO 28500)."""
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {
        "WARC-Type": kind,
        "WARC-Filename" if kind == "warcinfo" else "WARC-Target-URI": url,
        "WARC-Date": date,
        "WARC-Record-ID": f"<{uuid.uuid5(uuid.NAMESPACE_URL, f'{kind} {date} {url}').urn}>",
        **more,
        "Content-Type": content_type,
        "Content-Length": str(len(block)),
    }
    head = "WARC/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
    return gzip.compress(head.encode() + block + b"\r\n\r\n", 6, mtime=0)


def _short_key(url: str) -> int:
    """64 bits: among the paper's 45 million links one in 18,000 crawls confuses two."""
    return int.from_bytes(link_key(url)[:8], "big")


def _links_done(path: Path) -> Iterator[int]:
    """The keys of the links that have a record in a file of ours; half a record at its end is cut off."""
    with path.open("r+b") as file:
        end = 0
        for end, head in _whole_members(file):  # noqa: B007  the last end is used
            fields = dict(
                line.split(": ", 1) for line in head.decode("utf-8", "replace").split("\r\n") if ": " in line
            )
            link = fields.get(LINK_FIELD) or fields.get("WARC-Target-URI")
            if link:
                yield _short_key(link)
        file.truncate(end)


def _whole_members(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Of each whole gzip member where it ends, and the WARC header with which its content begins."""
    end, data = 0, b""
    while True:
        stream = zlib.decompressobj(31)
        head, length = b"", 0
        while not stream.eof:
            data = data or file.read(1 << 16)
            if not data:
                return
            try:
                piece = stream.decompress(data)
            except zlib.error:
                return
            head += piece[: _HEAD_BYTES - len(head)]
            length += len(data) - len(stream.unused_data)
            data = stream.unused_data
        end += length
        yield end, head.partition(b"\r\n\r\n")[0]
