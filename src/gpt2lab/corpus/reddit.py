"""Lists of links: dumps of Reddit submissions (NDJSON, as Pushshift publishes them), or one address a line.

WebText's links are those "which received at least 3 karma" (Radford et al. 2019, section 2.1): what counts is
the score of a submission that leads out of Reddit. None of them is younger than December 2017.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpt2lab.corpus.links import DroppedLink, Link, check_link
from gpt2lab.corpus.open_files import DamagedFile, read_lines

MIN_SCORE = 3
"""Karma that a submission of WebText's has at least"""

_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))  # Reddit's interface escapes these in every text


def read_links(
    source: str | Path, min_score: int = MIN_SCORE, before: str = "", *, allow_private: bool = False
) -> Iterator[Link | DroppedLink]:
    """The links of one file, and every entry that gives none with its reason.

    A line that starts with ``{`` is a submission, any other line is an address (blank lines and those that
    start with ``#`` are passed over). The reasons are those of `check_link`, and ``low_score``,
    ``self_post``, ``too_late``, ``removed``, ``broken_line``, ``long_line`` and ``damaged`` (the packed file
    breaks off).

    Args:
        source: a path or a URL that fsspec can open; plain, gzip, bzip2, xz or zstd.
        min_score: a submission's least score; a plain list has none.
        before: a date, ``"2018-01-01"``; what was submitted on it or later is dropped. Empty: no such limit.
        allow_private: see `check_link`.

    Raises:
        UserError: the file cannot be opened.
    """
    number = 0
    try:
        for number, line in enumerate(read_lines(source), 1):
            where = f"{source}:{number}"
            if line is None:
                yield DroppedLink(where, "long_line")
            elif line.startswith(b"{"):
                yield _submitted(line, where, min_score, before, allow_private)
            elif line.strip() and not line.startswith(b"#"):
                yield check_link(
                    line.decode("utf-8", "replace").strip("\ufeff \t"), allow_private=allow_private
                )
    except DamagedFile as error:
        yield DroppedLink(str(source), "damaged", f"after line {number:,}: {error}")


def _submitted(
    line: bytes, where: str, min_score: int, before: str, allow_private: bool
) -> Link | DroppedLink:
    """The link that one submission gives."""
    try:
        submission: Any = json.loads(line)
        url, score, date = submission["url"], int(submission["score"]), _date(submission)
        if not isinstance(url, str):
            raise TypeError("its url is no text")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, OSError) as error:
        return DroppedLink(where, "broken_line", f"{type(error).__name__}: {error}")
    for entity, character in _ENTITIES:
        url = url.replace(entity, character)
    short = url[:200]
    if submission.get("is_self") or not url or url.startswith("/r/"):
        return DroppedLink(short, "self_post")
    if score < min_score:
        return DroppedLink(short, "low_score", str(score))
    if before and date >= before:
        return DroppedLink(short, "too_late", date)
    if submission.get("removed_by_category") or url in ("[deleted]", "[removed]"):
        return DroppedLink(short, "removed")
    link = check_link(url, allow_private=allow_private)
    return link if isinstance(link, DroppedLink) else Link(link.url, score, date)


def _date(submission: Any) -> str:
    """The day of a submission in UTC; empty where it does not say."""
    created = submission.get("created_utc")  # a number, in some years' dumps as text
    return "" if created is None else datetime.fromtimestamp(float(created), UTC).date().isoformat()
