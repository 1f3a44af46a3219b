"""How much of a sample is copied: the longest span that stands word for word in the training text.

A span of length n is in the text exactly if its hash is among the hashes of the text's spans of length n
(and, to be sure, the span itself is found there). Whether a sample holds a copied span of length n can only
turn from yes to no as n grows, so the longest is found by bisection, one pass over the text a guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
_FACTOR = 0x9E3779B97F4A7C15 | 1  # odd, so that multiplying loses nothing modulo 2^64


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

    Memory: about 20 bytes a character while a length is looked up.
    """

    def __init__(self, documents: Sequence[str]) -> None:
        # U+FFFF is no character, so it cannot be in a sample.
        self._text = "\uffff".join(documents)
        self._codes = _codes(self._text)

    def longest_copied_spans(self, samples: Sequence[str]) -> list[CopiedSpan]:
        """For each sample the longest span that stands in the text (the first of several; maybe empty).

        All samples are bisected together, so that each pass over the text serves all of them.
        """
        shortest = [0] * len(samples)  # a span this long is known to be copied
        longest = [len(sample) for sample in samples]  # none longer than this can be
        spans = [CopiedSpan("", 0)] * len(samples)
        while open_ones := [i for i in range(len(samples)) if shortest[i] < longest[i]]:
            length = (shortest[open_ones[0]] + longest[open_ones[0]] + 1) // 2
            of_text = np.sort(_span_hashes(self._codes, length))
            for i in open_ones:
                if not shortest[i] < length <= longest[i]:
                    continue
                if found := self._first_copy(samples[i], length, of_text):
                    spans[i], shortest[i] = found, length
                else:
                    longest[i] = length - 1
        return spans

    def _first_copy(self, sample: str, length: int, of_text: Hashes) -> CopiedSpan | None:
        of_sample = _span_hashes(_codes(sample), length)
        places = np.searchsorted(of_text, of_sample)
        places[places == len(of_text)] = 0
        if not len(of_text):
            return None
        for start in np.flatnonzero(of_text[places] == of_sample).tolist():
            span = sample[start : start + length]
            if span in self._text:  # the hashes of two different spans may be equal
                return CopiedSpan(span, start)
        return None


def _codes(text: str) -> Hashes:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)


def _span_hashes(codes: Hashes, length: int) -> Hashes:
    """A hash of every span of `length` characters: sum of code x factor^position, brought to one position.

    With prefix sums P of code[i] x f^i modulo 2^64, P[s + n] - P[s] is the span's sum times f^s, which
    multiplying by the inverse of f^s undoes.
    """
    if length > len(codes):
        return np.zeros(0, dtype=np.uint64)
    inverse = pow(_FACTOR, -1, 2**64)
    powers, inverses = (_powers(base, len(codes)) for base in (_FACTOR, inverse))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_scatter(codes) * powers, dtype=np.uint64)])
    n_spans = len(codes) - length + 1
    hashes: Hashes = (sums[length:] - sums[:n_spans]) * inverses[:n_spans]
    return hashes


def _scatter(codes: Hashes) -> Hashes:
    """Small numbers to large ones: sums of unscattered codes would collide for similar texts."""
    mixed = (codes + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    scattered: Hashes = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0x94D049BB133111EB)
    return scattered


def _powers(base: int, n: int) -> Hashes:
    """base^0, base^1, ..., base^(n-1) modulo 2^64."""
    powers = np.full(n, base % 2**64, dtype=np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)
