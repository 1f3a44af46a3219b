"""One question to one web server, bounded in every way: bytes, seconds, and bytes a second.

Redirects are not followed here; they come back as answers, for whoever asked to look at.
"""

import asyncio
import errno
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from gpt2lab.base.errors import UserError
from gpt2lab.base.extras import import_extra
from gpt2lab.corpus.addresses import PrivateAddressError, checked_socket
from gpt2lab.corpus.http_message import media_type

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

_PIECE = 1 << 16
_REMEMBER_NAMES_S = 300
_KEEP_OPEN_S = 3.0  # until a site's next turn; longer, and a fast crawl holds a thousand idle ones
_GRACE_S = 5.0  # a slow start is forgiven for as long
_REDIRECTS = (301, 302, 303, 307, 308)
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Limits:
    """What one question may cost.

    Attributes:
        max_bytes: of the body, unpacked.
        deadline_s: from looking up the name to the last byte.
        min_bytes_per_s: a body that comes slower, after the first seconds, is given up.
    """

    max_bytes: int
    deadline_s: float
    min_bytes_per_s: float


@dataclass(frozen=True)
class Answer:
    """What a server answered.

    Attributes:
        status_line: ``"HTTP/1.1 200 OK"``.
        headers: as they came, in order.
        body: unpacked; empty for a redirect.
        address: the server's.
        moved_to: where a redirect points, as it was written; None for a page.
    """

    status: int
    status_line: str
    headers: list[tuple[str, str]]
    body: bytes
    address: str
    moved_to: str | None


class NoAnswer(Exception):  # noqa: N818
    """A question that brought nothing.

    Args:
        reason: one word.
        detail: for people.
        retry_after_s: it may bring something after so many seconds; None if never, 0 if the server has not
            said when.
    """

    def __init__(self, reason: str, detail: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s


def open_session(user_agent: str, concurrency: int, *, allow_private: bool) -> "ClientSession":
    """An aiohttp session that keeps no cookies, obeys no proxy, and connects to public addresses only."""
    aiohttp = import_extra("aiohttp", "corpus")
    connector = aiohttp.TCPConnector(
        limit=2 * concurrency,
        keepalive_timeout=_KEEP_OPEN_S,
        ttl_dns_cache=_REMEMBER_NAMES_S,
        socket_factory=None if allow_private else checked_socket,
    )
    session: ClientSession = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=15),
        headers={
            "User-Agent": user_agent,
            "Accept": "text/html,application/xhtml+xml,text/plain;q=0.9",
            "Accept-Encoding": "gzip, deflate, br",
            "Accept-Language": "en,*;q=0.5",
        },
    )
    return session


async def ask(
    session: "ClientSession", url: str, limits: Limits, content_types: Collection[str] | None = None
) -> Answer:
    """Ask for `url`.

    Args:
        session: from `open_session`.
        url: in its one spelling.
        limits: what it may cost.
        content_types: the media types whose body is wanted, of the status 200. Without them any is, whatever
            the status; it is then cut where it grows too large.

    Raises:
        NoAnswer: with the reason ``status``, ``not_text``, ``too_large``, ``too_slow``, ``timeout``, ``tls``,
            ``unknown_host``, ``private_address``, ``unreachable``, ``broken_off``, ``unknown_packing``,
            ``bad_packing`` or ``bad_answer``.
        UserError: this process has too many open files.
    """
    aiohttp, yarl = import_extra("aiohttp", "corpus"), import_extra("yarl", "corpus")
    try:
        async with (
            asyncio.timeout(limits.deadline_s),
            session.get(yarl.URL(url, encoded=True), allow_redirects=False) as response,
        ):
            return await _answer(response, limits, content_types)
    except TimeoutError as error:
        raise NoAnswer("timeout", str(error), 0) from error
    except aiohttp.ClientConnectorDNSError as error:
        raise NoAnswer("unknown_host", str(error.os_error)) from error
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
        raise NoAnswer("tls", str(error)) from error
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, PrivateAddressError):
            raise NoAnswer("private_address", str(error.os_error)) from error
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise UserError(
                "this process may not open more connections", fix="Lower --concurrency, or raise `ulimit -n`"
            ) from error
        raise NoAnswer("unreachable", str(error.os_error), 0) from error
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        raise NoAnswer("broken_off", str(error), 0) from error
    except aiohttp.ClientPayloadError as error:
        problems = import_extra("aiohttp.http_exceptions", "corpus")
        if isinstance(error.__cause__, problems.ContentEncodingError):
            raise NoAnswer("bad_packing", str(error)) from error
        raise NoAnswer("broken_off", str(error), 0) from error
    except (aiohttp.ClientError, ValueError, UnicodeError) as error:
        raise NoAnswer("bad_answer", str(error)) from error


async def _answer(
    response: "ClientResponse", limits: Limits, content_types: Collection[str] | None
) -> Answer:
    status = int(response.status)
    transport = response.connection and response.connection.transport
    peer = transport and transport.get_extra_info("peername")
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers]
    version = response.version or (1, 1)
    status_line = f"HTTP/{version[0]}.{version[1]} {status} {response.reason or ''}".rstrip()
    moved_to = response.headers.get("Location") if status in _REDIRECTS else None
    body = b""
    if moved_to is None and (content_types is None or status == 200):
        kind, _ = media_type(response.headers.get("Content-Type", ""))
        if content_types is not None and kind not in content_types:
            raise NoAnswer("not_text", kind)
        body = await _body(response, limits, cut=content_types is None)
    elif moved_to is None:
        again = _retry_after(response.headers.get("Retry-After")) if status in _TRY_AGAIN else None
        raise NoAnswer("status", str(status), again)
    return Answer(status, status_line, headers, body, str(peer[0]) if peer else "", moved_to)


async def _body(response: "ClientResponse", limits: Limits, *, cut: bool) -> bytes:
    """The body, unpacked by aiohttp in small pieces, so that a bomb is noticed while it is growing."""
    if response.content_length is not None and response.content_length > limits.max_bytes and not cut:
        raise NoAnswer("too_large", f"{response.content_length:,} bytes")
    packing = response.headers.get("Content-Encoding", "").strip().lower()
    if packing not in ("", "identity", "gzip", "deflate", "br"):
        raise NoAnswer("unknown_packing", packing[:100])
    parts: list[bytes] = []
    size, started = 0, time.monotonic()
    async for part in response.content.iter_chunked(_PIECE):
        parts.append(part)
        size += len(part)
        if size > limits.max_bytes and cut:
            break
        if size > limits.max_bytes:
            raise NoAnswer("too_large", f"more than {limits.max_bytes:,} bytes")
        took = time.monotonic() - started
        if took > _GRACE_S and size < took * limits.min_bytes_per_s:
            raise NoAnswer("too_slow", f"{size:,} bytes in {took:.0f} s")
    return b"".join(parts)[: limits.max_bytes]


def _retry_after(value: str | None) -> float:
    """Seconds that a server asks us to wait: given as such or as a date; 0 if it does not say."""
    if value is None:
        return 0.0
    if value.strip().isascii() and value.strip().isdecimal():
        return float(value[:9])
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    now = datetime.now(UTC)
    return max(0.0, (when.astimezone(UTC) - now).total_seconds())
