"""Word n-grams as 64-bit numbers: the common ground of near-duplicates and of overlap reports.

A word is a run of letters and digits, lower-cased, as in the GPT-2 paper's overlap study (section 4:
"lower-cased alphanumeric words, with a single space as a delimiter"). A word's number is its BLAKE2b hash,
so it is the same on every machine; two different n-grams share a number with probability 2^-64.
"""

import hashlib
import re

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_WORD = re.compile(r"[^\W_]+")
_ASCII_WORDS = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # any large odd number: the last words keep all 64 bits


class _WordNumbers(dict[str, int]):
    """Remembers each word's number, for a text has far fewer different words than words."""

    _MOST_REMEMBERED = 1_000_000  # bounds memory at about 150 MB on endless input

    def __missing__(self, word: str) -> int:
        if len(self) >= self._MOST_REMEMBERED:
            self.clear()
        number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        self[word] = number
        return number


_numbers = _WordNumbers()


def words(text: str) -> list[str]:
    """The lower-cased alphanumeric words of `text`, in order."""
    if text.isascii():  # the same words, found twice as fast
        return text.translate(_ASCII_WORDS).split()
    return _WORD.findall(text.lower())


def word_hashes(text: str) -> Hashes:
    """One number for each word of `text`, shape (words,)."""
    found = words(text)
    return np.fromiter(map(_numbers.__getitem__, found), dtype=np.uint64, count=len(found))


def ngram_hashes(hashes: Hashes, n: int) -> Hashes:
    """One number for each run of `n` words, shape (max(words - n + 1, 0),), in order.

    Args:
        hashes: the text's `word_hashes`.
        n: words in a run, at least 1.
    """
    n_windows = max(len(hashes) - n + 1, 0)
    mixed = np.zeros(n_windows, dtype=np.uint64)
    for offset in range(n if n_windows else 0):
        mixed = mixed * _MULTIPLIER + hashes[offset : offset + n_windows]
    return _scramble(mixed)


def _scramble(numbers: Hashes) -> Hashes:
    """A one-to-one map of 64-bit numbers whose results look random: the last step of MurmurHash3."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        numbers = (numbers ^ (numbers >> np.uint64(33))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(33))
