"""Word n-grams as 64-bit numbers: the common ground of near-duplicates and of overlap reports.

A word is a run of letters and digits, lower-cased, as in the GPT-2 paper's overlap study (section 4:
"lower-cased alphanumeric words, with a single space as a delimiter"). Every character has a number that looks
random; a word's is a polynomial in those of its characters, scrambled, and an n-gram's one in those of its
words, modulo 2^64 (Karp and Rabin, "Efficient randomized pattern-matching algorithms", 1987). They are the
same on every machine, and two different n-grams share one by a chance of about 2^-64.

Everything is done for many characters at once: the sum of a word's terms is a difference of two running sums.
"""

import functools
import re
import sys

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Places = NDArray[np.intp]

_WORD = re.compile(r"[^\W_]+")
_NO_WORD = re.compile(r"[\W_]")
_ASCII_WORDS = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
_MULTIPLIER = 0x9E3779B97F4A7C15  # any large odd number: it has an inverse, and the last words keep all bits
_INVERSE = pow(_MULTIPLIER, -1, 2**64)
_BLOCK = 1 << 14  # characters: what is computed for them stays in the processor's cache


def words(text: str) -> list[str]:
    """The lower-cased alphanumeric words of `text`, in order."""
    if text.isascii():  # the same words, found twice as fast
        return text.translate(_ASCII_WORDS).split()
    return _WORD.findall(_lower(text))


def word_hashes(text: str) -> Hashes:
    """One number for each word of `text`, shape (words,)."""
    return locate_words(text)[0]


def locate_words(text: str) -> tuple[Hashes, Places, Places]:
    """The number of each word of `text`, where in it the word starts, and where it ends, each (words,)."""
    codes = _codes(text)
    numbers, is_alphanumeric = _character_numbers(text.isascii())
    is_word = np.zeros(len(codes) + 2, dtype=bool)
    is_alphanumeric.take(codes, out=is_word[1:-1], mode="clip")  # "clip" spares a copy; nothing is outside
    edges = np.flatnonzero(is_word[1:] != is_word[:-1])
    starts, ends = edges[::2], edges[1::2]
    hashes = np.empty(len(starts), dtype=np.uint64)
    first = 0
    while first < len(starts):
        last = int(np.searchsorted(starts, starts[first] + _BLOCK))
        from_, to = int(starts[first]), int(ends[last - 1])
        rising, falling = _powers(to - from_)
        sums = np.zeros(to - from_ + 1, dtype=np.uint64)
        np.cumsum(numbers.take(codes[from_:to], mode="clip") * falling, out=sums[1:])
        start = starts[first:last] - from_
        hashes[first:last] = (sums.take(ends[first:last] - from_) - sums.take(start)) * rising.take(start)
        first = last
    # Scrambled, or an n-gram's polynomial would only continue those of its words: "11 a" would be "1a 1".
    return scramble(hashes), starts, ends


def ngram_hashes(hashes: Hashes, n: int) -> Hashes:
    """One number for each run of `n` words, shape (max(words - n + 1, 0),), in order.

    Args:
        hashes: the text's `word_hashes`.
        n: words in a run, at least 1.
    """
    return scramble(_windows(hashes, n))


def scramble(numbers: Hashes) -> Hashes:
    """A one-to-one map of 64-bit numbers whose results look random: the last step of MurmurHash3."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        numbers = (numbers ^ (numbers >> np.uint64(33))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(33))


def _windows(hashes: Hashes, n: int) -> Hashes:
    """The polynomial of each window of `n`: two halves and, if `n` is odd, one word more."""
    if n == 1:
        return hashes
    half = n // 2
    halves = _windows(hashes, half)
    joined = halves[:-half] * np.uint64(pow(_MULTIPLIER, half, 2**64)) + halves[half:]
    return joined[:-1] * np.uint64(_MULTIPLIER) + hashes[n - 1 :] if n % 2 else joined


def _lower(text: str) -> str:
    """`text` in small letters, each decided by its letter alone: İ gives i without a dot, Σ never gives ς."""
    return text.replace("\u0130", "i").lower().replace("\u03c2", "\u03c3")


def _codes(text: str) -> NDArray[np.uint8] | NDArray[np.uint32]:
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


@functools.cache
def _character_numbers(only_ascii: bool) -> tuple[Hashes, NDArray[np.bool_]]:
    """For each code point the number of its small letter, 0 if it is no letter or digit; whether it is."""
    codes = np.arange(128 if only_ascii else sys.maxunicode + 1, dtype="<u4")
    letters = _lower(_NO_WORD.sub("\0", codes.tobytes().decode("utf-32-le", "surrogatepass")))
    small = np.frombuffer(letters.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    numbers = scramble(small.astype(np.uint64))  # which leaves 0 where it is
    return numbers, numbers != 0


@functools.lru_cache(maxsize=1)
def _powers_up_to(size: int) -> tuple[Hashes, Hashes]:
    rising, falling = (np.full(size, base, dtype=np.uint64) for base in (_MULTIPLIER, _INVERSE))
    rising[0] = falling[0] = 1
    return np.multiply.accumulate(rising), np.multiply.accumulate(falling)


def _powers(size: int) -> tuple[Hashes, Hashes]:
    """The multiplier to the powers of 0, 1, ..., size - 1, and to 0, -1, ..., 1 - size."""
    rising, falling = _powers_up_to(max(2 * _BLOCK, 1 << (size - 1).bit_length()))
    return rising[:size], falling[:size]
