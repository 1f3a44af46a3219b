"""Links: one spelling for each address, and why an address is not worth, or not safe, asking for.

Addresses are read the way browsers read them (the WHATWG's URL standard, by ada): only then is
``http://2130706433/`` known to be 127.0.0.1, and two spellings of one address are one. What is blocked
stands in `blocked_links.toml`; the name of the list is the reason.
"""

import functools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

from gpt2lab.base.extras import import_extra
from gpt2lab.corpus.addresses import is_literal_address, is_public

_LONGEST_URL = 2000  # characters; what is longer is a session's state or an attack, not an article
_WEB_PORTS = ("80", "443")
_FIRST_FREE_PORT = 1024  # below are the ports of mail, name and other servers, which no browser asks


@dataclass(frozen=True)
class Link:
    """An address worth asking for.

    Attributes:
        url: in its one spelling.
        score: what it was rated, where it was; None in a plain list.
        date: of the submission, ``"2016-03-01"``; empty if unknown.
    """

    url: str
    score: int | None = None
    date: str = ""


@dataclass(frozen=True)
class DroppedLink:
    """An entry of a list that is no link to ask for.

    Attributes:
        url: as it stood there; may be cut short, or a place in a file.
        reason: one word: ``"low_score"``, ``"media_file"``, ``"duplicate"``.
        detail: for people; may be empty.
    """

    url: str
    reason: str
    detail: str = ""


def canonical(url: str) -> str | None:
    """The one spelling of an address; None if a browser would not know where to go.

    Host in lower case and punycode, default port, dots and fragment gone, characters escaped one way,
    tracking marks (``utm_source=...``) cut off. The order of a query's parts and ``http`` or ``https``
    remain: to some servers they matter.
    """
    parsed = _parse(url)
    return None if parsed is None else str(parsed.href)


def _parse(url: str) -> Any:
    """ada's view of an address, spelt as `canonical` says; None if it is no address."""
    try:
        parsed = _ada().URL(url.strip())
    except ValueError:
        return None
    if parsed.hash:
        parsed.hash = ""
    if parsed.hostname.endswith("."):
        parsed.hostname = parsed.hostname.rstrip(".")
    if query := parsed.search:
        kept = _without_tracking(query[1:])
        if len(kept) < len(query) - 1:
            parsed.search = kept
    return parsed


@functools.cache
def _ada() -> Any:
    return import_extra("ada_url", "corpus")


def check_link(url: str, *, allow_private: bool = False) -> Link | DroppedLink:
    """The link that an address makes, or why it makes none.

    The reasons are ``malformed``, ``not_web``, ``too_long``, ``credentials``, ``unsafe_port``,
    ``private_address`` (written out; names are looked up when they are asked for), and the lists of
    `blocked_links.toml`: ``excluded_site``, ``not_outbound``, ``not_in_webtext``, ``media_site``,
    ``media_file``.

    Args:
        url: as someone wrote it.
        allow_private: whether addresses inside a network, and free choice of ports, are fine.
    """
    short = url[:200]
    if len(url) > _LONGEST_URL:
        return DroppedLink(short, "too_long", f"{len(url):,} characters")
    parsed = _parse(url)
    if parsed is None:
        return DroppedLink(short, "malformed")
    if parsed.protocol not in ("http:", "https:"):
        return DroppedLink(short, "not_web", parsed.protocol.rstrip(":"))
    if parsed.username or parsed.password:
        return DroppedLink(short, "credentials")
    host = parsed.hostname.strip("[]")
    if not allow_private:
        if parsed.port and parsed.port not in _WEB_PORTS and int(parsed.port) < _FIRST_FREE_PORT:
            return DroppedLink(short, "unsafe_port", parsed.port)
        if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
            return DroppedLink(short, "private_address", host)
        if is_literal_address(host) and not is_public(host):
            return DroppedLink(short, "private_address", host)
    reason = _blocked(host, parsed.pathname)
    return DroppedLink(short, *reason) if reason else Link(str(parsed.href))


def _blocked(host: str, path: str) -> tuple[str, str] | None:
    """Which list of `blocked_links.toml` names this host or this kind of file, and what it names."""
    lists = _lists()
    for site in _host_and_above(host):
        if site in lists.reason_of_host:
            return lists.reason_of_host[site], site
    ending = path.rpartition("/")[2].rpartition(".")[2].lower()
    return ("media_file", ending) if "." in path and ending in lists.endings else None


def _host_and_above(host: str) -> Iterator[str]:
    while host:
        yield host
        host = host.partition(".")[2]


def _without_tracking(query: str) -> str:
    lists = _lists()
    kept = [
        part
        for part in query.split("&")
        if (name := part.partition("=")[0].lower()) not in lists.tracking
        and not name.startswith(lists.tracking_prefixes)
    ]
    return "&".join(kept)


@dataclass(frozen=True)
class _Lists:
    reason_of_host: dict[str, str]
    endings: frozenset[str]
    tracking: frozenset[str]
    tracking_prefixes: tuple[str, ...]


@functools.cache
def _lists() -> _Lists:
    text = resources.files("gpt2lab.corpus").joinpath("blocked_links.toml").read_text("utf-8")
    table: dict[str, Any] = tomllib.loads(text)
    return _Lists(
        {host: reason for reason, entry in table.items() for host in entry.get("hosts", [])},
        frozenset(table["media_file"]["endings"]),
        frozenset(table["tracking"]["names"]),
        tuple(table["tracking"]["prefixes"]),
    )
