"""Near-duplicates of a corpus larger than memory: four stages over files.

``buckets``: documents that share a band, one partition of bands at a time (`dedup` says what a band is).
``shingles``: the sets of word 5-grams of those documents alone, made again from their texts.
``pairs``: members of each bucket compared by the exact Jaccard similarity of their sets.
``near``: groups that the pairs connect; of each the document with the lowest id stays.

What comes out does not depend on the number of partitions or on who did what first: groups are what all
pairs together connect.
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from gpt2lab.corpus.dedup import Comparisons, Groups, jaccard, pairs_in_bucket, shingle_set
from gpt2lab.corpus.exact_duplicates import DUPLICATES
from gpt2lab.corpus.ngrams import Hashes
from gpt2lab.corpus.parquet_files import RowWriter, read_rows
from gpt2lab.corpus.partitions import read_partition, runs_of_equals
from gpt2lab.corpus.stage import Call, Counts
from gpt2lab.corpus.stage_files import read_kept

_REMEMBERED = 4  # libraries, the models of earlier stages and tables take the rest of what a process may hold

BUCKET = pa.schema([("members", pa.list_(pa.int64()))])
"""Numbers of documents that share a band, rising."""

SHINGLES = pa.schema([("number", pa.int64()), ("id", pa.string()), ("length", pa.int64())])
"""A document in some bucket, and how many shingles it has; they lie in another file, in this order."""

PAIR = pa.schema([("first", pa.int64()), ("second", pa.int64())])
"""Two documents that are near-duplicates."""


def find_buckets(call: Call) -> Counts:
    """The bands of one partition to the different `BUCKET`s of two or more documents.

    Inputs: the outputs of the stage ``exact``, then the second outputs of ``fingerprints``. Parameters:
    `partition`; `exact_files`, how many of the inputs are of the first kind.
    """
    n_exact = call.parameters["exact_files"]
    rows = read_partition(call.inputs[n_exact:], call.parameters["partition"])
    band, number = rows.column("band").to_numpy(), rows.column("number").to_numpy()
    gone = np.array([n for file in call.inputs[:n_exact] for (n,) in read_rows(file, ["number"])], np.int64)
    stays = ~np.isin(number, gone)
    band, number = band[stays], number[stays]
    order = np.lexsort((number, band))
    number = number[order]
    buckets = {tuple(number[start:end].tolist()) for start, end in runs_of_equals(band[order])}
    with RowWriter(call.outputs[0], BUCKET) as writer:
        for members in sorted(buckets):
            writer.write((members,))
    return {"buckets": len(buckets), "largest": max(map(len, buckets), default=0)}


def write_shingles(call: Call) -> Counts:
    """The `SHINGLES` of one file's documents that are in some bucket: the facts, and the sets themselves.

    Inputs: a file of documents, then every file of buckets. Parameters: `first_number`; `documents`, how many
    the file holds.
    """
    first = call.parameters["first_number"]
    here = range(first, first + call.parameters["documents"])
    wanted = {
        member
        for file in call.inputs[1:]
        for (members,) in read_rows(file, ["members"])
        for member in members
        if member in here
    }
    with RowWriter(call.outputs[0], SHINGLES) as writer, call.outputs[1].open("wb") as sets:
        for number, document in enumerate(read_kept(call.inputs[0]) if wanted else (), first):
            if number in wanted:
                shingles = shingle_set(document.text)
                writer.write((number, document.id, len(shingles)))
                sets.write(shingles.astype("<u8").tobytes())
    return {"documents": writer.rows}


def find_pairs(call: Call) -> Counts:
    """One partition's buckets to the `PAIR`s that connect what is alike in them.

    Inputs: a file of buckets, then both outputs of the stage ``shingles`` for every file. Parameters:
    `threshold`, the least Jaccard similarity of a pair.
    """
    buckets = [members for (members,) in read_rows(call.inputs[0], ["members"])]
    numbers = sorted({member for members in buckets for member in members})
    place = {number: index for index, number in enumerate(numbers)}
    store = ShingleStore(call.inputs[1::2], call.inputs[2::2], set(numbers), call.memory)
    compare = Comparisons(lambda index: store[numbers[index]], call.parameters["threshold"])
    groups = Groups(len(numbers))
    with RowWriter(call.outputs[0], PAIR) as writer:
        for members in buckets:
            for first, second in pairs_in_bucket([place[member] for member in members], compare, groups):
                groups.join(first, second)
                writer.write((numbers[first], numbers[second]))
    return {"pairs": writer.rows}


def settle_groups(call: Call) -> Counts:
    """All pairs to the `DUPLICATES`: of each group the document with the lowest id stays.

    A document that is less like the one that stays than the threshold is there through others, a chain; those
    are counted, and their similarity shows them.

    Inputs: every file of pairs, then both outputs of the stage ``shingles`` for every file. Parameters:
    `pair_files`, how many of the inputs are of the first kind; `threshold`.
    """
    n_pairs = call.parameters["pair_files"]
    facts, sets = call.inputs[n_pairs::2], call.inputs[n_pairs + 1 :: 2]
    pairs = [pair for file in call.inputs[:n_pairs] for pair in read_rows(file, ["first", "second"])]
    members = sorted({number for pair in pairs for number in pair})
    place = {number: index for index, number in enumerate(members)}
    groups = Groups(len(members))
    for first, second in pairs:
        groups.join(place[first], place[second])
    ids = {
        number: name
        for file in facts
        for number, name in read_rows(file, ["number", "id"])
        if number in place
    }
    grouped: dict[int, list[tuple[str, int]]] = {}
    for index, number in enumerate(members):
        grouped.setdefault(groups.find(index), []).append((ids[number], number))
    duplicates: list[tuple[int, str, float]] = []
    store = ShingleStore(facts, sets, set(members), call.memory)
    for group in grouped.values():
        survivor, first = min(group)
        others = sorted(number for _, number in group if number != first)
        duplicates += [(number, survivor, jaccard(store[first], store[number])) for number in others]
    with RowWriter(call.outputs[0], DUPLICATES) as writer:
        for row in sorted(duplicates):
            writer.write(row)
    sizes = Counter(len(group) for group in grouped.values())
    return {
        "groups": len(grouped),
        "duplicates": len(duplicates),
        "chained": sum(alike < call.parameters["threshold"] for _, _, alike in duplicates),
        "least_similarity": min((alike for _, _, alike in duplicates), default=1.0),
        "group_sizes": {str(size): sizes[size] for size in sorted(sizes)},
    }


class ShingleStore:
    """The `shingle_set`s of documents, read from files when they are asked for; the latest are remembered.

    Args:
        facts: first outputs of the stage ``shingles``.
        sets: second outputs, of the same tasks.
        numbers: the documents that will be asked for.
        memory: bytes that the whole process may hold; a quarter of them is for remembered sets.
    """

    def __init__(self, facts: Sequence[Path], sets: Sequence[Path], numbers: set[int], memory: int) -> None:
        self._memory = memory // _REMEMBERED
        self._held = 0
        self._recent: OrderedDict[int, Hashes] = OrderedDict()
        self._places: dict[int, tuple[int, int, int]] = {}
        self._files = list(sets)
        for index, file in enumerate(facts):
            offset = 0
            for number, length in read_rows(file, ["number", "length"]):
                if number in numbers:
                    self._places[number] = (index, offset, length)
                offset += length

    def __getitem__(self, number: int) -> Hashes:
        """The set of one document."""
        if number in self._recent:
            self._recent.move_to_end(number)
            return self._recent[number]
        index, offset, length = self._places[number]
        with self._files[index].open("rb", buffering=0) as file:
            file.seek(8 * offset)
            shingles = np.frombuffer(file.read(8 * length), dtype="<u8")
        self._recent[number] = shingles
        self._held += shingles.nbytes
        while self._held > self._memory and len(self._recent) > 2:
            self._held -= self._recent.popitem(last=False)[1].nbytes
        return shingles
