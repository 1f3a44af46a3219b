"""Token shards: the three kinds of `.bin` file that GPT-2 code exchanges, memory-mapped.

- llm.c and modded-nanogpt: 256 little-endian int32 words of header (magic 20240520, version 1, number of
  tokens, zeros), then one uint16 a token. This is the kind we write.
- llm.c's second kind for vocabularies above 65,536: the same with magic 20240801, version 7 and uint32.
- nanoGPT: uint16 tokens and nothing else. No magic, so such a file is believed only where nothing speaks
  against it (`_require_headerless`): a damaged or foreign file must not be trained on as if it were tokens.

Formats: https://github.com/karpathy/llm.c/blob/master/dev/data/data_common.py and
https://github.com/karpathy/nanoGPT/blob/master/data/openwebtext/prepare.py
"""

import codecs
import errno
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import atomic_file

HEADER_WORDS = 256
HEADER_BYTES = 4 * HEADER_WORDS
MAX_SHARD_TOKENS = 2**31 - 1  # the count is a signed 32-bit word

Tokens = NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True)
class ShardKind:
    """One of the three layouts."""

    name: str
    dtype: np.dtype[np.uint16] | np.dtype[np.uint32]
    magic: int | None  # None: there is no header
    version: int | None

    @property
    def header_bytes(self) -> int:
        """Bytes before the first token."""
        return 0 if self.magic is None else HEADER_BYTES


UINT16 = ShardKind("llm.c uint16", np.dtype("<u2"), magic=20240520, version=1)
UINT32 = ShardKind("llm.c uint32", np.dtype("<u4"), magic=20240801, version=7)
HEADERLESS = ShardKind("nanoGPT uint16, no header", np.dtype("<u2"), magic=None, version=None)

_SHORTEST_TEXT = 64  # bytes; fewer can be text and tokens alike

_OTHER_LLM_C_FILES = {  # magics of files that lie beside shards and are easily named by mistake
    20240326: "model weights",
    20240327: "a debugging state",
    20240328: "a tokenizer",
    20240522: "a multiple-choice evaluation set",
}


@dataclass(frozen=True)
class Shard:
    """An open shard. `tokens` is a read-only view of the file: nothing is read until it is indexed."""

    path: Path
    kind: ShardKind
    tokens: Tokens

    def __len__(self) -> int:
        return len(self.tokens)


class AnyShard(Protocol):
    """A shard to read tokens from, open already or not before its tokens are asked for."""

    @property
    def path(self) -> Path:
        """Where it lies, or will lie."""

    @property
    def kind(self) -> ShardKind:
        """Its layout."""

    @property
    def tokens(self) -> Tokens:
        """A read-only view of the file."""

    def __len__(self) -> int: ...


def kind_for(vocab_size: int) -> ShardKind:
    """The kind to write for a vocabulary: two bytes a token where they suffice, else four."""
    return UINT16 if vocab_size <= 2**16 else UINT32


def write_shard(path: Path, tokens: Tokens, kind: ShardKind) -> None:
    """Write one shard with llm.c's header; it appears whole or not at all.

    Args:
        path: where to.
        tokens: ids, already known to fit `kind`.
        kind: `UINT16` or `UINT32`.

    Raises:
        UserError: the disk is full or the folder may not be written.
    """
    with atomic_file(path) as temporary:
        write_shard_in_pieces(temporary, [tokens], len(tokens), kind)


def write_shard_in_pieces(path: Path, pieces: Iterable[Tokens], n_tokens: int, kind: ShardKind) -> None:
    """Write a shard in place, piece by piece, so that it need not fit into memory.

    Args:
        path: where to; give a temporary name.
        pieces: its tokens in order, `n_tokens` in all.
        n_tokens: how many there are.
        kind: `UINT16` or `UINT32`.
    """
    assert kind.magic is not None
    assert 0 < n_tokens <= MAX_SHARD_TOKENS
    header = np.zeros(HEADER_WORDS, dtype="<i4")
    header[:3] = (kind.magic, kind.version, n_tokens)
    with path.open("wb") as file:
        file.write(header.tobytes())
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype=kind.dtype).data)
        assert file.tell() == HEADER_BYTES + n_tokens * kind.dtype.itemsize


def open_shard(path: Path) -> Shard:
    """Map a shard of any of the three kinds; `.kind` says which it is.

    Raises:
        UserError: missing, empty, cut short, damaged, or not a token shard at all.
    """
    size, head = _size_and_head(path)
    words = np.frombuffer(head[: len(head) // 4 * 4], dtype="<i4")
    magic = int(words[0]) if len(words) else None
    kind = next((kind for kind in (UINT16, UINT32) if kind.magic == magic), None)
    if kind is None:
        _require_headerless(path, size, head, words)
        return _map(path, HEADERLESS, size // HEADERLESS.dtype.itemsize)
    if len(head) < HEADER_BYTES:
        raise UserError(
            f"the shard is cut short inside its header: {size:,} bytes of {HEADER_BYTES:,}",
            where=path,
            fix="Copy or build it again",
        )
    if words[1] != kind.version:
        raise UserError(
            f"shard version {words[1]}, and this program reads version {kind.version} of magic {kind.magic}",
            where=path,
            fix="Build the shards again with a current program",
        )
    return _map(path, kind, _checked_count(path, kind, size, int(words[2])))


def _size_and_head(path: Path) -> tuple[int, bytes]:
    """The size of a file and its first bytes (as many as a header has, or fewer)."""
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise UserError("no such token shard", where=path, fix="Check the spelling of the path") from error
    except IsADirectoryError as error:
        raise UserError("this is a folder, not a shard", where=path, fix="Name a .bin file in it") from error
    if not head:
        raise UserError("the shard is empty (0 bytes)", where=path, fix="Copy or build it again")
    return size, head


def _checked_count(path: Path, kind: ShardKind, size: int, promised: int) -> int:
    """The header's number of tokens, once it agrees with the size of the file."""
    item = kind.dtype.itemsize
    held, odd_bytes = divmod(size - HEADER_BYTES, item)
    if promised == held == 0:
        raise UserError("the shard holds no tokens", where=path, fix="Build it again from a text")
    if promised != held or odd_bytes:
        cut = held < promised
        raise UserError(
            f"the shard is {'cut short' if cut else 'damaged'}: its header promises {promised:,} tokens "
            f"({HEADER_BYTES + promised * item:,} bytes) and the file holds {held:,} ({size:,} bytes)",
            where=path,
            fix="Copy or download it again" if cut else "Build the shard again",
        )
    return promised


def _require_headerless(path: Path, size: int, head: bytes, words: NDArray[np.int32]) -> None:
    """Refuse a file without a known magic unless it is what nanoGPT writes.

    nanoGPT's own names end in `train.bin` and `val.bin`; llm.c's numbered names never do, so a numbered
    shard whose magic was damaged is not mistaken for one. No GPT-2 text starts with one of the two magics:
    as uint16 both begin with an id above 55,000.
    """
    magic = int(words[0]) if len(words) else 0
    if magic in _OTHER_LLM_C_FILES:
        problem = f"this is {_OTHER_LLM_C_FILES[magic]} of llm.c (magic {magic}), not a token shard"
        raise UserError(problem, where=path, fix="Name the files whose magic is 20240520")
    if not path.stem.endswith(("train", "val")):
        raise UserError(
            f"not a token shard: it starts with {magic}, not with llm.c's magic 20240520 or 20240801",
            where=path,
            fix="If these are nanoGPT's uint16 tokens without a header, let the name end in train.bin or "
            "val.bin; otherwise copy or build it again",
        )
    if len(words) == HEADER_WORDS and not words[3:].any():
        raise UserError(
            f"the header is damaged: it starts with {magic}, not with magic 20240520 or 20240801",
            where=path,
            fix="Copy or build the shard again",
        )
    if _is_text(head):
        raise UserError("this looks like text, not like tokens", where=path, fix="Build shards from it first")
    if size % HEADERLESS.dtype.itemsize:
        raise UserError(
            f"the shard is cut short: {size:,} bytes are not a whole number of 2-byte tokens",
            where=path,
            fix="Copy or download it again",
        )
    if (path.parent / "meta.pkl").exists():
        raise UserError(
            "these ids belong to a vocabulary of their own, which nanoGPT left in meta.pkl beside them, "
            "and pickles are never read",
            where=path,
            fix="Build shards from the original text instead",
        )


def _is_text(head: bytes) -> bool:
    """Whether bytes are UTF-8 without zeros. Real tokens have zero bytes: ids below 256, such as commas."""
    if len(head) < _SHORTEST_TEXT or 0 in head:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut in two
    except UnicodeDecodeError:
        return False
    return True


def _map(path: Path, kind: ShardKind, n_tokens: int) -> Shard:
    """Map the tokens of a file whose size has been checked."""
    try:
        mapped = np.memmap(path, dtype=kind.dtype, mode="r", offset=kind.header_bytes, shape=(n_tokens,))
    except OSError as error:
        if error.errno == errno.EMFILE:
            raise UserError(
                "too many files are open at once: every shard keeps one",
                where=path.parent,
                fix="Raise the limit with `ulimit -n 65536`, or build fewer, larger shards",
            ) from error
        raise
    return Shard(path, kind, np.asarray(mapped))  # a plain view: slicing an np.memmap takes 7x as long
