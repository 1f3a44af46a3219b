"""Duplicates: the same document twice, nearly the same document, the same paragraph in many documents.

Near-duplicates are found the usual way (Broder, "On the resemblance and containment of documents", 1997;
the banding is chapter 3 of Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets"): a document is the
set of its word 5-grams, 112 MinHashes in 14 bands of 8 propose pairs, the Jaccard similarity of the two sets
decides. Pairs connect documents into groups; of each group the lowest id survives. Nothing here is drawn
anew from run to run or differs between machines.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpt2lab.corpus.clean import paragraphs
from gpt2lab.corpus.documents import Document, Dropped
from gpt2lab.corpus.ngrams import Hashes, ngram_hashes, word_hashes

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
    return fingerprint(text)[0]


def fingerprint(text: str) -> tuple[bytes, Hashes]:
    """The `content_key` of a text and its `shingle_set`, for the price of finding its words once."""
    hashes = word_hashes(text)
    said = hashes.tobytes() if len(hashes) else text.encode("utf-8", "surrogatepass")
    shingles = ngram_hashes(hashes, SHINGLE_WORDS)
    shingles.sort()
    is_new = np.ones(len(shingles), dtype=bool)  # three lines of np.unique's, without what else it does
    np.not_equal(shingles[1:], shingles[:-1], out=is_new[1:])
    return hashlib.blake2b(said, digest_size=16).digest(), shingles[is_new]


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
    return fingerprint(text)[1]


def jaccard(first: Hashes, second: Hashes) -> float:
    """The share of the two sets' members that both have, in [0, 1]; 0 for two empty sets."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / max(len(first) + len(second) - shared, 1)


def near_duplicate_pairs(
    shingles: dict[int, Hashes], threshold: float, groups: Groups
) -> Iterator[tuple[int, int]]:
    """Pairs of documents at least `threshold` alike, enough of them to connect every group.

    The caller joins each pair in `groups` as it comes; see `pairs_in_bucket`.

    Args:
        shingles: for each document its `shingle_set`.
        threshold: the least Jaccard similarity.
        groups: what is known to belong together so far.
    """
    compare = Comparisons(shingles.__getitem__, threshold)
    for bucket in _buckets(shingles):
        yield from pairs_in_bucket(bucket, compare, groups)


class Comparisons:
    """Whether two documents are near-duplicates; a pair that is not is never compared again.

    Args:
        shingles_of: a document's `shingle_set`.
        threshold: the least Jaccard similarity.
    """

    def __init__(self, shingles_of: Callable[[int], Hashes], threshold: float) -> None:
        self._shingles_of = shingles_of
        self._threshold = threshold
        self._unlike: set[tuple[int, int]] = set()

    def alike(self, first: int, second: int) -> bool:
        """Whether the Jaccard similarity of the two reaches the threshold."""
        pair = (first, second) if first < second else (second, first)
        if pair in self._unlike:
            return False
        if jaccard(self._shingles_of(first), self._shingles_of(second)) >= self._threshold:
            return True
        self._unlike.add(pair)
        return False


def pairs_in_bucket(bucket: Iterable[int], compare: Comparisons, groups: Groups) -> Iterator[tuple[int, int]]:
    """Pairs that connect all those members of a bucket that any chain of alike members connects.

    The caller joins each pair in `groups` as it comes: members of one group are not compared again, so a
    thousand copies of one page cost a thousand comparisons and not half a million.

    Args:
        bucket: documents that may be alike.
        compare: decides.
        groups: what is known to belong together so far.
    """
    members_of: dict[int, list[int]] = {}  # the groups that are in the bucket so far, by their lowest members
    for member in bucket:
        for root in list(members_of):
            if root in members_of and root != groups.find(member):
                alike = next((other for other in members_of[root] if compare.alike(other, member)), None)
                if alike is not None:
                    own = groups.find(member)
                    yield alike, member
                    joined = members_of.pop(root) + members_of.pop(own, [])
                    members_of[groups.find(member)] = joined
        members_of.setdefault(groups.find(member), []).append(member)


def _buckets(shingles: dict[int, Hashes]) -> Iterator[list[int]]:
    """Groups of documents that agree in all rows of some band."""
    bands: defaultdict[int, list[int]] = defaultdict(list)
    for index, members in shingles.items():
        if len(members):
            for band in band_hashes(members).tolist():
                bands[band].append(index)
    return (members for members in bands.values() if len(members) > 1)


def band_hashes(shingles: Hashes) -> Hashes:
    """One number for each band of a document's signature, shape (14,); another number in another band.

    Args:
        shingles: its `shingle_set`, not empty.
    """
    rows = signature(shingles).reshape(BANDS, ROWS).astype(np.uint64)
    return ngram_hashes(np.column_stack([_BAND_NUMBERS, rows]).ravel(), ROWS + 1)[:: ROWS + 1]


_BAND_NUMBERS = np.arange(1, BANDS + 1, dtype=np.uint64)
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
