"""Training text that quotes an evaluation set, found by shared word n-grams.

One shared 8-gram is no sign of copying ("at the end of the day it is not" is in every book), so what counts
is a stretch of words all of which lie in shared n-grams. Thirteen words is the length that GPT-3 took for
copying (Brown et al. 2020, appendix C). GPT-2 left its training text as it was and only reported the overlap.
"""

import numpy as np

from gpt2lab.corpus.ngram_index import NgramIndex
from gpt2lab.corpus.ngrams import locate_words, ngram_hashes
from gpt2lab.corpus.overlap import PAPER_N

MIN_WORDS = 13


def shared_stretches(
    text: str, index: NgramIndex, *, n: int = PAPER_N, min_words: int = MIN_WORDS
) -> list[tuple[int, int]]:
    """Where `text` goes along with the evaluation sets for at least `min_words` words.

    Args:
        text: of a training document.
        index: the n-grams of the evaluation sets.
        n: words in an n-gram of `index`.
        min_words: shorter stretches are chance.

    Returns:
        Start and end of each stretch, in characters, in order, none touching another.
    """
    hashes, starts, ends = locate_words(text)
    first = index.find(ngram_hashes(hashes, n))[0]  # the first word of each shared n-gram
    if not len(first):
        return []
    breaks = np.flatnonzero(np.diff(first) > n)  # beyond n the next one shares no word and touches none
    begin = first[np.append(0, breaks + 1)]
    last = first[np.append(breaks, len(first) - 1)] + n - 1
    long_enough = last - begin + 1 >= min_words
    return list(zip(starts[begin[long_enough]].tolist(), ends[last[long_enough]].tolist(), strict=True))
