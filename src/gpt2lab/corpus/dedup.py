"""Duplicates: the same document twice, nearly the same document, the same paragraph in many documents.

Near-duplicates are found the usual way (Broder, "On the resemblance and containment of documents", 1997;
the banding is chapter 3 of Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets"): a document is the
set of its word 5-grams, 112 MinHashes in 14 bands of 8 propose pairs, the Jaccard similarity of the two sets
decides. Pairs connect documents into groups; of each group the lowest id survives. Nothing here is drawn
anew from run to run or differs between machines.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpt2lab.corpus.clean import paragraphs
from gpt2lab.corpus.documents import Document, Dropped
from gpt2lab.corpus.ngrams import Hashes, ngram_hashes, word_hashes, words

SHINGLE_WORDS = 5
BANDS = 14
ROWS = 8  # a pair at similarity s becomes a candidate with probability 1 - (1 - s^8)^14: 0.9996 at 0.9

_SEED = 2019
_BLOCK = 2048  # shingles hashed at a time: 112 of them each in four bytes stay in the processor's cache


@dataclass(frozen=True)
class Deduplicated:
    """What is left, in the order of the input, and what went, with the id of what it repeats."""

    kept: list[Document]
    dropped: list[Dropped]


def remove_duplicates(documents: Sequence[Document], threshold: float = 0.8) -> Deduplicated:
    """Keep one of each group of equal or nearly equal documents: the one with the lowest id.

    Documents linked through others are one group, even where its two ends are less alike than `threshold`.
    Texts with fewer than five words are only compared for equality.

    Args:
        documents: all of them; they are compared with each other.
        threshold: the least Jaccard similarity of the sets of word 5-grams that makes two near-duplicates.
    """
    by_id = sorted(range(len(documents)), key=lambda index: (documents[index].id, index))
    ordered = [documents[index] for index in by_id]
    original, groups = _exact_groups(ordered)
    shingles = {index: shingle_set(ordered[index].text) for index in sorted(set(original))}
    for first, second in near_duplicate_pairs(shingles, threshold, groups):
        groups.join(first, second)

    dropped: dict[int, Dropped] = {}
    for index, document in enumerate(ordered):
        survivor = groups.find(index)
        if survivor != index:
            reason = "exact_duplicate" if original[index] == original[survivor] else "near_duplicate"
            dropped[by_id[index]] = Dropped(document.id, document.text, reason, ordered[survivor].id)
    return Deduplicated(
        kept=[document for index, document in enumerate(documents) if index not in dropped],
        dropped=[dropped[index] for index in sorted(dropped)],
    )


class Groups:
    """Union-find over 0..size-1; a group is known by its lowest member."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, member: int) -> int:
        """The lowest member of `member`'s group."""
        while self._parent[member] != member:
            self._parent[member] = self._parent[self._parent[member]]
            member = self._parent[member]
        return member

    def join(self, first: int, second: int) -> None:
        """Make two groups one."""
        low, high = sorted((self.find(first), self.find(second)))
        self._parent[high] = low


def content_key(text: str) -> bytes:
    """128 bits that are equal for texts that differ only in case, spaces, line ends and punctuation.

    A text without any word is known by itself.
    """
    found = words(text)
    return hashlib.blake2b((" ".join(found) if found else text).encode(), digest_size=16).digest()


def _exact_groups(ordered: Sequence[Document]) -> tuple[list[int], Groups]:
    """For each document the first one with the same content, and the groups that this makes."""
    first: dict[bytes, int] = {}
    original = [first.setdefault(content_key(document.text), i) for i, document in enumerate(ordered)]
    groups = Groups(len(ordered))
    for index, earlier in enumerate(original):
        groups.join(index, earlier)
    return original, groups


def shingle_set(text: str) -> Hashes:
    """The different word 5-grams of `text` as sorted numbers, shape (shingles,)."""
    return np.unique(ngram_hashes(word_hashes(text), SHINGLE_WORDS))


def jaccard(first: Hashes, second: Hashes) -> float:
    """The share of the two sets' members that both have, in [0, 1]; 0 for two empty sets."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / max(len(first) + len(second) - shared, 1)


def near_duplicate_pairs(
    shingles: dict[int, Hashes], threshold: float, groups: Groups
) -> Iterator[tuple[int, int]]:
    """Pairs of documents at least `threshold` alike, enough of them to connect every group.

    The caller joins each pair in `groups` as it comes: pairs inside one group are not compared again, so a
    thousand copies of one page cost a thousand comparisons and not half a million.

    Args:
        shingles: for each document its `shingle_set`.
        threshold: the least Jaccard similarity.
        groups: what is known to belong together so far.
    """
    unlike: set[tuple[int, int]] = set()
    for bucket in _buckets(shingles):
        representatives: list[int] = []
        for member in bucket:
            for other in representatives:
                pair = (other, member)
                if groups.find(other) == groups.find(member):
                    break
                if pair not in unlike:
                    if jaccard(shingles[other], shingles[member]) >= threshold:
                        yield pair
                        break
                    unlike.add(pair)
            representatives.append(member)


def _buckets(shingles: dict[int, Hashes]) -> Iterator[list[int]]:
    """Groups of documents that agree in all rows of some band."""
    indices = [index for index, members in shingles.items() if len(members)]
    signatures = np.stack([signature(shingles[index]) for index in indices]) if indices else np.empty((0, 0))
    for band in range(BANDS if indices else 0):
        bucket: defaultdict[bytes, list[int]] = defaultdict(list)
        for index, row in zip(indices, signatures[:, band * ROWS : (band + 1) * ROWS], strict=True):
            bucket[row.tobytes()].append(index)
        yield from (members for members in bucket.values() if len(members) > 1)


_random = np.random.Generator(np.random.PCG64(_SEED))
_FACTORS = _random.integers(0, 2**32, (BANDS * ROWS, 1), dtype=np.uint32) | np.uint32(1)
_OFFSETS = _random.integers(0, 2**32, (BANDS * ROWS, 1), dtype=np.uint32)


def signature(shingles: Hashes) -> NDArray[np.uint32]:
    """The MinHashes of a set: for each of 112 random orders of all numbers, the first that it holds.

    Args:
        shingles: its members, shape (shingles,), not empty.

    Returns:
        shape (112,). The share in which two signatures agree estimates the Jaccard similarity.
    """
    high = (shingles >> np.uint64(32)).astype(np.uint32)
    lowest = np.full(BANDS * ROWS, np.iinfo(np.uint32).max, dtype=np.uint32)
    for start in range(0, len(high), _BLOCK):
        hashed = high[start : start + _BLOCK] * _FACTORS + _OFFSETS
        np.minimum(lowest, hashed.min(axis=1), out=lowest)
    return lowest


def remove_repeated_paragraphs(documents: Iterable[Document], min_chars: int = 40) -> Deduplicated:
    """Take out every paragraph that an earlier document already holds: licences, shared boilerplate.

    A paragraph repeated within one document stays. Every paragraph taken out is in `dropped`, with the
    reason ``repeated_paragraph``; a document that loses them all is not in `kept`.

    Args:
        documents: in the order in which the first one with a paragraph keeps it.
        min_chars: shorter paragraphs ("See above.") are no sign of copying and stay.
    """
    owner: dict[bytes, str] = {}
    kept, dropped = [], []
    for document in documents:
        own: list[str] = []
        keys: list[bytes] = []
        for paragraph in paragraphs(document.text):
            key = content_key(paragraph)
            if len(paragraph) >= min_chars and key in owner:
                dropped.append(Dropped(document.id, paragraph, "repeated_paragraph", owner[key]))
            else:
                own.append(paragraph)
                keys.append(key)
        owner.update((key, document.id) for key in keys if key not in owner)
        if own:
            kept.append(replace(document, text="\n\n".join(own)))
    return Deduplicated(kept, dropped)
