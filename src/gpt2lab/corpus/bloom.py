"""A Bloom filter over n-gram numbers: which of 10^10 were seen, in 5 bytes each, and sometimes wrongly yes.

Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970. The GPT-2 paper (section 4) counts
with such filters which 8-grams of its test sets occur in WebText, with at most one wrong yes in 10^8.

In numpy, because the numbers come in arrays: rbloom, which takes them one by one, needs twice the time to add
them and nine times the time to look them up.
"""

import json
import math
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import atomic_file
from gpt2lab.corpus.ngrams import Hashes, Places, scramble

PAPER_ERROR = 1e-8

_BLOCK = 1 << 14  # numbers taken at a time: what is computed of them stays in the processor's cache
_ROOM = 1.01  # the formula is for a filter of any size on average; this one must hold it
_FORMAT = "gpt2lab Bloom filter 1"
_SECOND = np.uint64(0xD6E8FEB86659FD93)
_ONES = np.array([number.bit_count() for number in range(256)], dtype=np.uint8)
_MOST_WORDS = 1 << 32  # 32 GB of filter, more than the paper's


class BloomFilter:
    """Says of every number that was added that it was, and of at most a share `error` of others too.

    Args:
        capacity: different numbers for which `error` holds; with more it grows, and `error_now` tells.
        error: the share of wrong answers among numbers that were not added.

    Raises:
        UserError: the capacity takes more than 32 GB.
    """

    def __init__(self, capacity: int, error: float = PAPER_ERROR) -> None:
        self.capacity = capacity
        self.error = error
        self.n_probes = max(1, round(-math.log2(error)))
        bits = _ROOM * self.n_probes * max(capacity, 2) / -math.log(1 - error ** (1 / self.n_probes))
        if bits > 64 * _MOST_WORDS:
            raise UserError(
                f"a Bloom filter for {capacity:,} n-grams would take {bits / 8e9:,.0f} GB",
                fix="Give a smaller capacity or a larger error, or look the other way round (streaming)",
            )
        self._words = np.zeros(math.ceil(bits / 64), dtype=np.uint64)

    def add(self, hashes: Hashes) -> None:
        """Add numbers, shape (numbers,)."""
        for start in range(0, len(hashes), _BLOCK):
            block = hashes[start : start + _BLOCK]
            step = _step(block)
            for i in range(self.n_probes):
                word, bit = self._probe(block, step, i)
                mask = np.uint64(1) << bit
                while len(word):
                    self._words[word] |= mask  # of several masks for one word the last alone arrives
                    lost = (self._words.take(word) & mask) == 0
                    word, mask = word[lost], mask[lost]

    def contains(self, hashes: Hashes) -> NDArray[np.bool_]:
        """For each number whether it was added: no is certain, yes is wrong with probability `error_now`."""
        result = np.zeros(len(hashes), dtype=bool)
        for start in range(0, len(hashes), _BLOCK):
            block = hashes[start : start + _BLOCK]
            step = _step(block)
            places = np.arange(start, start + len(block))
            for i in range(self.n_probes):  # of what was not added, half goes at every step
                word, bit = self._probe(block, step, i)
                is_set = (self._words.take(word) >> bit) & np.uint64(1) == 1
                block, step, places = block[is_set], step[is_set], places[is_set]
            result[places] = True
        return result

    @property
    def error_now(self) -> float:
        """The share of wrong answers to be expected with what is in the filter now."""
        n_set = sum(
            int(_ONES.take(self._words[start : start + _BLOCK].view(np.uint8)).sum())
            for start in range(0, len(self._words), _BLOCK)
        )
        return float((n_set / (64 * len(self._words))) ** self.n_probes)

    @property
    def n_bytes(self) -> int:
        """Memory, and disk."""
        return self._words.nbytes

    def save(self, path: Path) -> None:
        """Write the filter as one file, whole or not at all; `load` gives it back bit for bit."""
        header = {
            "format": _FORMAT,
            "capacity": self.capacity,
            "error": self.error,
            "words": len(self._words),
        }
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            file.write(json.dumps(header).encode() + b"\n")
            file.write(self._words.astype("<u8").data)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            UserError: no such file, not a filter, or cut short.
        """
        try:
            with path.open("rb") as file:
                header = _parse_header(file.readline(1000), path)
                words = np.fromfile(file, dtype="<u8")
        except FileNotFoundError as error:
            raise UserError("no such file", where=path, fix="Check the spelling of the path") from error
        if len(words) != header["words"]:
            raise UserError("the Bloom filter is cut short", where=path, fix="Make it again")
        loaded = cls(header["capacity"], header["error"])
        loaded._words = words.astype(np.uint64)
        return loaded

    def _probe(self, hashes: Hashes, step: Hashes, i: int) -> tuple[Places, Hashes]:
        """The i-th bit of each number: its word, and its place in that.

        Two numbers make all (Kirsch and Mitzenmacher, "Less hashing, same performance", 2006).
        """
        mixed = hashes + np.uint64(i) * step
        word = ((mixed >> np.uint64(32)) * np.uint64(len(self._words))) >> np.uint64(32)
        return word.astype(np.intp), mixed & np.uint64(63)


def _step(hashes: Hashes) -> Hashes:
    return scramble(hashes ^ _SECOND) | np.uint64(1)


def _parse_header(line: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(line)
        if header["format"] == _FORMAT:
            return {
                "capacity": int(header["capacity"]),
                "error": float(header["error"]),
                "words": header["words"],
            }
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError("this is no Bloom filter", where=path, fix="Name a file that a run in Bloom mode wrote")
