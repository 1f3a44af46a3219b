"""The records of WARC and ARC files, read past damage: whatever is whole is read, whatever is not is counted.

FastWARC does the unpacking and the framing (`make bench` compares it with warcio, the reference); it stops at
the first damage, so here reading is started again at the next record that can be found. ARC, the format
before WARC, it does not know; an ARC record is one line and then its bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from gpt2lab.base.extras import import_extra
from gpt2lab.corpus.archive_files import ARC_HEADER, ArchiveFile, read_line
from gpt2lab.corpus.pages import DroppedPage

_MOST_FALSE_STARTS = 1000  # in a row; after as many, what is left is not an archive


@dataclass(frozen=True)
class Record:
    """One whole record.

    Attributes:
        kind: ``"response"``, ``"conversion"``, ``"resource"``, ...: WARC's own word for it.
        url: its address.
        link: the address that led there, in archives that say so (ours do); else the same.
        date: ``"2024-05-18T01:58:10Z"``.
        content_type: of the block: ``"application/http; msgtype=response"``.
        block: what it holds.
    """

    kind: str
    url: str
    link: str
    date: str
    content_type: str
    block: bytes


LINK_FIELD = "GPT2Lab-Link"
"""The field of our WARC records that names the link that led to the page."""


class _Counted(Exception):  # noqa: N818
    """A record that starts well and cannot, or need not, be read to its end; it has been counted."""


def read_records(archive: ArchiveFile, name: str, limit: int) -> Iterator[Record | DroppedPage]:
    """Every record of an archive, and for each damage and each record above `limit` a dropped page.

    The reasons are ``damaged`` (a gap between records, with its place and cause), ``truncated`` (a record
    shorter than it says) and ``too_large``.

    Args:
        archive: open.
        name: the file's, for the damages that belong to no record.
        limit: most bytes of a record; memory stays within some such records.
    """
    start: int | None = archive.first
    false_starts = 0
    gap: tuple[int, str] | None = None
    while start is not None and false_starts < _MOST_FALSE_STARTS:
        found, resume = False, start + 1
        try:
            for resume, record in _records_from(archive, start, limit):  # noqa: B007  it is used after a break
                if gap is not None:
                    yield DroppedPage(name, "damaged", f"between bytes {gap[0]:,} and {start:,}: {gap[1]}")
                found, gap = True, None
                yield record
            break
        except _Counted:
            pass
        except OSError as error:
            gap = gap or (resume - 1, str(error))
        false_starts = 0 if found else false_starts + 1
        start = archive.next_start(resume)
    if gap is not None:
        yield DroppedPage(name, "damaged", f"after byte {gap[0]:,}: {gap[1]}")


Found = tuple[int, Record | DroppedPage]
"""Where to look for the next record if this is the last that can be read, and the record itself"""


def _records_from(archive: ArchiveFile, start: int, limit: int) -> Iterator[Found]:
    """The records from `start` to the first damage, which raises `_Counted` or `OSError`."""
    if ARC_HEADER.match(archive.first_line(start)):
        yield from _arc_records(archive, start, limit)
    else:
        yield from _warc_records(archive, start, limit)


def _warc_records(archive: ArchiveFile, start: int, limit: int) -> Iterator[Found]:
    warc = import_extra("fastwarc.warc", "corpus")
    reader = archive.reader(start)
    for entry in warc.ArchiveIterator(reader, parse_http=False):
        fields = entry.headers
        at = reader.frame_start_position() if archive.packing else entry.stream_pos
        url = (fields.get("WARC-Target-URI") or "").strip("<>")
        length = fields.get("Content-Length") or ""
        size = int(length) if length.isascii() and length.isdecimal() else -1
        if not archive.packing and at + size > archive.size:
            yield (
                at + 1,
                DroppedPage(url, "truncated", f"{size:,} bytes, and there are {archive.size - at:,}"),
            )
            raise _Counted
        if size > limit:
            yield at + 1, DroppedPage(url, "too_large", f"a record of {size:,} bytes")
            if archive.packing:  # to read on would be to unpack it all; only its header says how long it is
                raise _Counted
            continue
        try:
            block = entry.reader.read(size) if size > 0 else b""
        except OSError as error:
            yield at + 1, DroppedPage(url, "damaged", str(error))
            raise _Counted from error
        if len(block) != size:
            yield at + 1, DroppedPage(url, "truncated", f"{len(block):,} of {length or 'unknown'} bytes")
            raise _Counted
        record = Record(
            kind=fields.get("WARC-Type") or "",
            url=url,
            link=fields.get(LINK_FIELD) or url,
            date=fields.get("WARC-Date") or "",
            content_type=fields.get("Content-Type") or "",
            block=block,
        )
        # A record of no bytes may stand inside a packed one, at the same place: then look from there.
        yield (at + 1 if archive.packing else at + size), record


def _arc_records(archive: ArchiveFile, start: int, limit: int) -> Iterator[Found]:
    reader, position = archive.reader(start), start
    while line := read_line(reader):
        at = reader.frame_start_position() if archive.packing else position
        position += len(line)
        if not line.strip():
            continue
        header = ARC_HEADER.match(line)
        if header is None:
            raise OSError("Invalid ARC header")
        url, _, date, content_type, length = (field.decode("utf-8", "replace") for field in header.groups())
        size = int(length)
        if size > limit:
            yield at + 1, DroppedPage(url, "too_large", f"a record of {size:,} bytes")
            raise _Counted
        try:
            block = reader.read(size)
        except OSError as error:
            yield at + 1, DroppedPage(url, "damaged", str(error))
            raise _Counted from error
        position += size
        if len(block) != size:
            yield at + 1, DroppedPage(url, "truncated", f"{len(block):,} of {length} bytes")
            raise _Counted
        digits = date.ljust(14, "0")
        iso = f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}T{digits[8:10]}:{digits[10:12]}:{digits[12:14]}Z"
        kind = "filedesc" if url.startswith("filedesc:") else "response"
        yield (at + 1 if archive.packing else at + size), Record(kind, url, url, iso, content_type, block)
