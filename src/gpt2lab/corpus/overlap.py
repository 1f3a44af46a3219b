"""How much of an evaluation set stands in the training text too: shared word n-grams, as in the GPT-2 paper.

Radford et al. 2019, section 4: of each test set the share of 8-grams that the training text holds; and, to
compare, the share that the set's own training part holds (table 6). Two ways to the same figures:

- streaming: the evaluation sets' n-grams are kept, the training text goes by and marks them. Exact, memory
  goes with the evaluation sets. The way to choose.
- a Bloom filter of the training text's n-grams, as in the paper: the larger side is kept, so that sets which
  nobody thought of can be asked about later.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2lab.corpus.bloom import BloomFilter
from gpt2lab.corpus.documents import Document
from gpt2lab.corpus.ngram_index import NgramIndex
from gpt2lab.corpus.ngrams import Hashes, ngram_hashes, word_hashes

PAPER_N = 8


@dataclass(frozen=True)
class Overlap:
    """How much of one evaluation set was seen.

    Attributes:
        n_grams: in all its items; every occurrence counts, none runs across items.
        seen: how many of them occur in the text that they were looked up in.
    """

    n_grams: int
    seen: int

    @property
    def share(self) -> float:
        """In [0, 1]; 0 where there is no n-gram at all."""
        return self.seen / max(self.n_grams, 1)


class SeenNgrams:
    """The streaming way: n-grams of evaluation sets, each marked once the training text has shown it.

    Args:
        sets: the items of each evaluation set, by the set's name.
        n: words in an n-gram.

    Attributes:
        index: the n-grams of all sets.
    """

    def __init__(self, sets: Mapping[str, Iterable[str]], n: int = PAPER_N) -> None:
        self._n = n
        self._sets = {name: set_hashes(texts, n) for name, texts in sets.items()}
        self.index = NgramIndex(np.concatenate([np.zeros(0, np.uint64), *self._sets.values()]))
        self._seen = np.zeros(len(self.index.members), dtype=bool)

    def mark(self, text: str) -> None:
        """Mark every n-gram of a training document."""
        self._seen[self.index.find(ngram_hashes(word_hashes(text), self._n))[1]] = True

    def merge(self, seen: NDArray[np.bool_]) -> None:
        """Add what another process has marked in its part of the training text: its `seen`."""
        self._seen |= seen

    @property
    def seen(self) -> NDArray[np.bool_]:
        """For each member of the index whether it was marked."""
        return self._seen.copy()

    def overlaps(self) -> dict[str, Overlap]:
        """What was seen of each set so far."""
        members = NgramIndex(self.index.members[self._seen])
        return {
            name: Overlap(len(hashes), int(members.contains(hashes).sum()))
            for name, hashes in self._sets.items()
        }


def set_hashes(texts: Iterable[str], n: int = PAPER_N) -> Hashes:
    """The n-grams of all items of a set, one after the other."""
    return np.concatenate([np.zeros(0, np.uint64), *(ngram_hashes(word_hashes(text), n) for text in texts)])


def filter_of(training: Iterable[str], capacity: int, error: float, n: int = PAPER_N) -> BloomFilter:
    """The paper's way: a Bloom filter of the training text's n-grams.

    Args:
        training: its documents.
        capacity: different n-grams to be expected; words in all are an upper bound.
        error: the share of wrong answers to be borne.
        n: words in an n-gram.
    """
    seen = BloomFilter(capacity, error)
    for text in training:
        seen.add(ngram_hashes(word_hashes(text), n))
    return seen


def overlap_with(seen: BloomFilter | NgramIndex, texts: Iterable[str], n: int = PAPER_N) -> Overlap:
    """How many n-grams of an evaluation set are in `seen`."""
    hashes = set_hashes(texts, n)
    return Overlap(len(hashes), int(seen.contains(hashes).sum()))


def overlap_with_own_training(test: Sequence[str], train: Iterable[str], n: int = PAPER_N) -> Overlap:
    """How much of a set's test part stands in its own training part."""
    marked = SeenNgrams({"": test}, n)
    for text in train:
        marked.mark(text)
    return marked.overlaps()[""]


def shared_ngrams(held_out: Iterable[Document], training: Iterable[Document], n: int) -> float:
    """The share of the held-out documents' word n-grams that also occur in a training document.

    n = 8 is the GPT-2 paper's measure of overlap (section 4), n = 13 the GPT-3 paper's (appendix C).
    """
    return overlap_with_own_training(
        [document.text for document in held_out], (document.text for document in training), n
    ).share
