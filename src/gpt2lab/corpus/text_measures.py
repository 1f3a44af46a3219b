"""What quality rules look at in a text: lines, words, repetition, each measured when it is first asked for.

Several rules ask for the same measure, and the text is then looked through only once.
"""

import itertools
import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from gpt2lab.corpus.ngrams import Hashes, Places, locate_words, ngram_hashes

_LETTER = re.compile(r"[^\W\d_]")
_PARAGRAPH_BREAK = re.compile(r"\n\s*\n")
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s|$)")


class TextMeasures:
    """Measures of one text. Shares are fractions in [0, 1], of nothing 0."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def lines(self) -> list[str]:
        """The lines that are not blank, without the spaces around them."""
        return [line for raw in self.text.split("\n") if (line := raw.strip())]

    @cached_property
    def tokens(self) -> list[str]:
        """What stands between white space: words with their punctuation, numbers, symbols."""
        return self.text.split()

    @cached_property
    def mean_token_chars(self) -> float:
        """Characters in a token, on average."""
        return sum(map(len, self.tokens)) / max(len(self.tokens), 1)

    def enough_tokens_have_letters(self, share: float) -> bool:
        """Whether at least `share` of the tokens have an alphabetic character."""
        enough = share * len(self.tokens)
        if sum(map(str.isalpha, self.tokens)) >= enough:  # quick, and sees most of them
            return True
        impure = itertools.filterfalse(str.isalpha, self.tokens)
        without = sum(_LETTER.search(token) is None for token in impure)
        return len(self.tokens) - without >= enough

    @cached_property
    def n_sentences(self) -> int:
        """Full stops, question and exclamation marks that end something."""
        return len(_SENTENCE_END.findall(self.text))

    def symbols_per_token(self, *symbols: str) -> float:
        """Occurrences of any of `symbols` for each token."""
        return sum(map(self.text.count, symbols)) / max(len(self.tokens), 1)

    def share_of_lines_starting(self, *marks: str) -> float:
        """The share of lines that start with one of `marks`."""
        return sum(line.startswith(marks) for line in self.lines) / max(len(self.lines), 1)

    def share_of_lines_ending(self, *marks: str) -> float:
        """The share of lines that end with one of `marks`."""
        return sum(line.endswith(marks) for line in self.lines) / max(len(self.lines), 1)

    def share_of_lines_up_to(self, chars: int) -> float:
        """The share of lines with at most `chars` characters."""
        return sum(len(line) <= chars for line in self.lines) / max(len(self.lines), 1)

    @cached_property
    def repeated_lines(self) -> tuple[float, float]:
        """The share of lines that an earlier line already says, and their share of the text's characters."""
        return self._repeated(self.lines)

    @cached_property
    def repeated_paragraphs(self) -> tuple[float, float]:
        """The same for paragraphs, which blank lines divide."""
        return self._repeated([piece.strip() for piece in _PARAGRAPH_BREAK.split(self.text.strip())])

    def _repeated(self, pieces: Sequence[str]) -> tuple[float, float]:
        if len(set(pieces)) == len(pieces):
            return 0.0, 0.0
        seen: set[str] = set()
        repeats = [piece for piece in pieces if piece in seen or seen.add(piece)]  # type: ignore[func-returns-value]
        return len(repeats) / len(pieces), sum(map(len, repeats)) / len(self.text)

    def top_ngram_fills(self, n: int, share: float) -> bool:
        """Whether the most frequent run of `n` words has more than `share` of the characters.

        Of several that are equally frequent, the one with most characters; one that occurs once never does.
        """
        enough = share * len(self.text)
        if self._most_frequent_pair * self._longest_span(n) <= enough:  # no longer run is more frequent
            return False
        most = _largest_group(self._ngrams(n))
        if most < 2 or most * self._longest_span(n) <= enough:
            return False
        order, first = _groups(self._ngrams(n))
        counts = np.diff(first, append=len(order))
        filled = np.add.reduceat(self._spans(n)[order], first)
        return bool(filled[counts == most].max() > enough)

    def share_in_repeated_ngrams(self, n: int) -> float:
        """The share of characters that lie in a run of `n` words which has occurred before.

        Characters in several such runs count once; what follows a word counts with it.
        """
        order, first = _groups(self._ngrams(n))
        repeats = np.delete(order, first)  # all but the first occurrence of each
        if not len(repeats):
            return 0.0
        _, starts, ends = self._words
        steps = np.zeros(len(starts) + 1, dtype=np.int64)
        np.add.at(steps, repeats, 1)
        np.add.at(steps, repeats + n, -1)
        widths = np.append(starts[1:], ends[-1]) - starts
        return float(widths[np.cumsum(steps[:-1]) > 0].sum()) / len(self.text)

    def most_in_repeated_ngrams(self, n: int) -> float:
        """What `share_in_repeated_ngrams` is at most, at a tenth of its price."""
        ordered = np.sort(self._ngrams(n))
        repeats = np.count_nonzero(ordered[1:] == ordered[:-1])
        return repeats * (self._longest_span(n + 1) if repeats else 0) / max(len(self.text), 1)

    @cached_property
    def _most_frequent_pair(self) -> int:
        return _largest_group(self._ngrams(2))

    @cached_property
    def _words(self) -> tuple[Hashes, Places, Places]:
        return locate_words(self.text)

    def _ngrams(self, n: int) -> Hashes:
        return ngram_hashes(self._words[0], n)

    def _spans(self, n: int) -> Places:
        """Characters from the start of each word to the end of the last of the `n` that begin there."""
        _, starts, ends = self._words
        return ends[n - 1 :] - starts[: max(len(starts) - n + 1, 0)]

    def _longest_span(self, n: int) -> int:
        spans = self._spans(n)
        return int(spans.max()) if len(spans) else len(self.text)


def _largest_group(numbers: Hashes) -> int:
    """How often the most frequent number occurs."""
    ordered = np.sort(numbers)
    changes = np.flatnonzero(ordered[1:] != ordered[:-1])
    return int(np.diff(changes, prepend=-1, append=len(ordered) - 1).max())


def _groups(numbers: Hashes) -> tuple[Places, Places]:
    """Places sorted by their number, equal ones in order of place, and where each number's places start."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    return order, np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(order)])
