"""A set of n-gram numbers that another, far larger stream of them is looked up in.

Most of what is looked up is not there, and a table of one byte for each 1/16 of a number's share says so at
once: it stays in the processor's cache, so only one look-up in about fifteen goes on to a binary search.
"""

import numpy as np
from numpy.typing import NDArray

from gpt2lab.corpus.ngrams import Hashes, Places

_PLACES_FOR_EACH = 16


class NgramIndex:
    """The different members of `hashes`, sorted.

    Attributes:
        members: shape (members,).
    """

    def __init__(self, hashes: Hashes) -> None:
        self.members = np.unique(hashes)
        bits = max(_PLACES_FOR_EACH * len(self.members), 2).bit_length()
        self._shift = np.uint64(64 - bits)
        self._maybe = np.zeros(1 << bits, dtype=bool)
        self._maybe[self._prefix(self.members)] = True

    def find(self, hashes: Hashes) -> tuple[Places, Places]:
        """Which of `hashes` are members: where they stand in `hashes`, in order, and where in `members`."""
        asked = self._maybe.take(self._prefix(hashes), mode="clip").nonzero()[0]
        some = hashes.take(asked)
        places = np.searchsorted(self.members, some)
        places[places == len(self.members)] = 0
        found = self.members.take(places) == some if len(self.members) else np.zeros(0, dtype=bool)
        return asked[found], places[found]

    def contains(self, hashes: Hashes) -> NDArray[np.bool_]:
        """For each of `hashes` whether it is a member."""
        result = np.zeros(len(hashes), dtype=bool)
        result[self.find(hashes)[0]] = True
        return result

    def _prefix(self, hashes: Hashes) -> Places:
        return (hashes >> self._shift).astype(np.intp)
