"""How much of a held-out text stands in the training text too: shared word n-grams."""

from collections.abc import Iterable

import numpy as np

from gpt2lab.corpus.documents import Document
from gpt2lab.corpus.ngrams import ngram_hashes, word_hashes


def shared_ngrams(held_out: Iterable[Document], training: Iterable[Document], n: int) -> float:
    """The share of the held-out documents' word n-grams that also occur in a training document.

    Every occurrence counts. n = 8 is the GPT-2 paper's measure of overlap (section 4), n = 13 the GPT-3
    paper's (appendix C). 0.0 where there is no n-gram at all.
    """
    held = np.concatenate([np.zeros(0, np.uint64), *(ngram_hashes(word_hashes(d.text), n) for d in held_out)])
    if not len(held):
        return 0.0
    distinct, count = np.unique(held, return_counts=True)
    seen = np.zeros(len(distinct), dtype=bool)
    for document in training:  # streamed: memory goes with the held-out side alone
        hashes = ngram_hashes(word_hashes(document.text), n)
        places = np.searchsorted(distinct, hashes)
        places[places == len(distinct)] = 0
        seen[places[distinct[places] == hashes]] = True
    return float(count[seen].sum() / count.sum())
