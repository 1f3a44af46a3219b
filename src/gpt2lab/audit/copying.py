"""How much of a sample is copied: the longest span that stands word for word in the training text.

A span of length n is in the text only if its hash is among the hashes of the text's spans of length n; the
span itself is then looked for, since two different spans may share a hash. Whether a sample holds a copied
span of length n can only turn from yes to no as n grows, so the longest is found by bisection, one pass over
the text a guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
_FACTOR = 0x9E3779B97F4A7C15  # odd, so that multiplying loses nothing modulo 2^64
_INVERSE = pow(_FACTOR, -1, 2**64)
_TABLE_BITS = 20  # one bit of a hash in a million decides which spans are looked at more closely
_BETWEEN_DOCUMENTS = "\ud800"  # half of a surrogate pair: no text that was ever UTF-8 holds one


@dataclass(frozen=True)
class CopiedSpan:
    """A stretch of a sample that the training text holds too."""

    text: str
    start: int  # where in the sample, in characters

    @property
    def words(self) -> int:
        """How many words it has, counted at white space."""
        return len(self.text.split())


class TrainingText:
    """Text to look copies up in; documents are kept apart, so that no span runs from one into the next.

    Memory: about 50 bytes a character.
    """

    def __init__(self, documents: Sequence[str]) -> None:
        self._text = _BETWEEN_DOCUMENTS.join(documents)
        self._spans = _Spans(self._text)

    def longest_copied_spans(self, samples: Sequence[str]) -> list[CopiedSpan]:
        """For each sample the longest span that stands in the text (the first of several; maybe empty).

        All samples are bisected together, so that each pass over the text serves as many as it can.
        """
        hashes = [_Spans(sample) for sample in samples]
        shortest = [0] * len(samples)  # a span this long is known to be copied
        longest = [len(sample) for sample in samples]  # none longer than this can be
        spans = [CopiedSpan("", 0)] * len(samples)
        while open_ones := [i for i in range(len(samples)) if shortest[i] < longest[i]]:
            length = _next_guess(shortest[open_ones[0]], longest[open_ones[0]])
            asked = [i for i in open_ones if shortest[i] < length <= longest[i]]
            of_samples = [hashes[i].of_length(length) for i in asked]
            copied = _members(self._spans.of_length(length), np.unique(np.concatenate(of_samples)))
            for i, of_sample in zip(asked, of_samples, strict=True):
                places = np.flatnonzero(np.isin(of_sample, copied)).tolist()
                if found := self._first_copy(samples[i], length, places):
                    spans[i], shortest[i] = found, length
                else:
                    longest[i] = length - 1
        return spans

    def _first_copy(self, sample: str, length: int, starts: list[int]) -> CopiedSpan | None:
        for start in starts:
            span = sample[start : start + length]
            if span in self._text:
                return CopiedSpan(span, start)
        return None


def _next_guess(shortest: int, longest: int) -> int:
    """Double from 16, then halve: most samples copy a few dozen characters, however long they are."""
    return min(max(16, 2 * shortest), (shortest + longest + 1) // 2)


class _Spans:
    """Hashes of all spans of any one length: sum of code x factor^position, brought to one position.

    With prefix sums P of code[i] x f^i modulo 2^64, P[s + n] - P[s] is the span's sum times f^s, which
    multiplying by the inverse of f^s undoes.
    """

    def __init__(self, text: str) -> None:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
        self._sums = np.zeros(len(codes) + 1, dtype=np.uint64)
        np.cumsum(_scatter(codes) * _powers(_FACTOR, len(codes)), out=self._sums[1:])
        self._inverses = _powers(_INVERSE, len(codes))

    def of_length(self, length: int) -> Hashes:
        """Shape (max(characters - length + 1, 0),)."""
        n_spans = max(len(self._sums) - length, 0)
        hashes: Hashes = (self._sums[length:] - self._sums[:n_spans]) * self._inverses[:n_spans]
        return hashes


def _members(many: Hashes, few: Hashes) -> Hashes:
    """Which of `few` (sorted) are among `many`; a table of bits spares most of `many` the search."""
    shift = np.uint64(64 - _TABLE_BITS)
    table = np.zeros(2**_TABLE_BITS, dtype=bool)
    table[few >> shift] = True
    likely = many[table[many >> shift]]
    return few[np.isin(few, likely)]


def _scatter(codes: Hashes) -> Hashes:
    """Small numbers to large ones: sums of unscattered codes would collide for similar texts."""
    mixed = (codes + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    scattered: Hashes = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0x94D049BB133111EB)
    return scattered


def _powers(base: int, n: int) -> Hashes:
    """base^0, base^1, ..., base^(n-1) modulo 2^64."""
    powers = np.full(n, base, dtype=np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)
