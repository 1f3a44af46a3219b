"""Web archives as files: how they are packed, where their records start, where reading goes on after damage.

WARC and ARC files are packed record by record: each record is a gzip member or zstd frame of its own. So a
damaged one hides no other, if its reader looks for the next start instead of giving up. Where a whole file is
one member, what follows the damage is lost.
"""

import io
import re
import struct
from typing import IO, Any

from gpt2lab.base.extras import import_extra

GZIP, ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
_DICTIONARY = b"\x5d\x2a\x4d\x18"  # a skippable zstd frame; in .warc.zst files it holds the dictionary
_LARGEST_DICTIONARY = 16 << 20

ARC_HEADER = re.compile(
    rb"^([a-z][a-z\d+.-]{1,20}:[^\r\n]{1,2500}) ([\d.]+|[\da-f:]+) (\d{12,14})"
    rb" (\S{1,200})(?: [^\r\n]{1,900})? (\d{1,15})[ \t]*\r?\n",
    re.IGNORECASE | re.MULTILINE,
)
"""An ARC record's first line, version 1 or 2: address, IP, date, media type, (more,) length."""

_PLAIN_START = re.compile(rb"^WARC/\d\.\d+\r?\n|" + ARC_HEADER.pattern, re.IGNORECASE | re.MULTILINE)
_LONGEST_LINE = 4096  # more than the first line of any ARC record
_FIRST_LOOK, _LONGEST_LOOK = 16 << 10, 1 << 20


class ArchiveFile:
    """An open archive, readable from any of its records' starts.

    Args:
        file: seekable.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._streams = import_extra("fastwarc.stream_io", "corpus")
        self._dictionary: bytes | None = None
        magic = file.read(4)
        self.first = 0
        if magic == _DICTIONARY:
            self._read_dictionary()
            magic = file.read(4)
        self.packing = GZIP if magic.startswith(GZIP) else ZSTD if magic == ZSTD else b""
        self.size = file.seek(0, 2)

    def _read_dictionary(self) -> None:
        (size,) = struct.unpack("<I", self._file.read(4).ljust(4, b"\0"))
        dictionary = self._file.read(min(size, _LARGEST_DICTIONARY))
        if dictionary.startswith(ZSTD):
            try:
                dictionary = self._streams.ZstdReader(io.BytesIO(dictionary)).read(_LARGEST_DICTIONARY)
            except OSError:  # damaged: nothing in the file can be unpacked, which the first record will tell
                dictionary = b""
        self._dictionary = dictionary
        self.first = 8 + size

    def reader(self, start: int) -> Any:
        """A stream of unpacked bytes from the record that starts at `start` on (FastWARC's, or the file)."""
        self._file.seek(start)
        if self.packing == GZIP:
            return self._streams.GzipReader(self._file)
        if self.packing == ZSTD:
            return self._streams.ZstdReader(self._file, dictionary=self._dictionary)
        return self._file

    def first_line(self, start: int) -> bytes:
        """The first line of what starts at `start`; empty if it cannot be unpacked."""
        try:
            return read_line(self.reader(start))
        except OSError:
            return b""

    def next_start(self, after: int) -> int | None:
        """Where the first record starts that starts at `after` or later; None if none does."""
        sign = re.compile(re.escape(self.packing)) if self.packing else _PLAIN_START
        position, look = max(after, self.first), _FIRST_LOOK
        while True:
            # One byte more in front: with a line's end there, `^` knows that a line starts here.
            before = min(position, 1)
            self._file.seek(position - before)
            block = self._file.read(look + _LONGEST_LINE)
            for found in sign.finditer(block, before):
                start = position - before + found.start()
                if not self.packing or _PLAIN_START.match(self.first_line(start)):
                    return start
            if len(block) < look + _LONGEST_LINE:
                return None
            position += look - before
            look = min(2 * look, _LONGEST_LOOK)


def read_line(reader: Any) -> bytes:
    """The next line with its end, or the beginning of one that is longer than any record's first line.

    Byte by byte, as a packed stream that is asked for more than is whole gives nothing but an error.
    """
    line = bytearray()
    while len(line) < _LONGEST_LINE and (byte := reader.read(1)):
        line += byte
        if byte == b"\n":
            break
    return bytes(line)
