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
import pyarrow.compute as pc
from numpy.typing import NDArray

from gpt2lab.corpus.dedup import Comparisons, Groups, jaccard, pairs_in_bucket, shingle_set
from gpt2lab.corpus.exact_duplicates import DUPLICATES
from gpt2lab.corpus.ngrams import Hashes
from gpt2lab.corpus.parquet_files import RowWriter, read_batches, read_rows
from gpt2lab.corpus.partitions import read_partition, runs_of_equals
from gpt2lab.corpus.stage import Call, Counts
from gpt2lab.corpus.stage_files import read_kept

Numbers = NDArray[np.int64]
"""Of documents in the corpus."""

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
    store = ShingleStore(call.inputs[1::2], call.inputs[2::2], np.array(numbers, np.int64), call.memory)
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
    pairs = np.concatenate([_columns(file, "first", "second") for file in call.inputs[:n_pairs]], axis=1)
    members = np.unique(pairs)
    ids = pa.concat_tables([_rows_of(file, members) for file in facts]).column("id").combine_chunks()
    survivors = _survivors(members, pairs, ids)
    others = np.flatnonzero(survivors != np.arange(len(members)))
    store = ShingleStore(facts, sets, members, call.memory)
    least, chained = 1.0, 0
    with RowWriter(call.outputs[0], DUPLICATES) as writer:
        for place, survivor in np.column_stack([others, survivors[others]]).tolist():
            alike = jaccard(store[members[survivor]], store[members[place]])
            least, chained = min(least, alike), chained + (alike < call.parameters["threshold"])
            writer.write((int(members[place]), ids[survivor].as_py(), alike))
    sizes = Counter(np.unique(survivors, return_counts=True)[1].tolist())
    return {
        "groups": sizes.total(),
        "duplicates": len(others),
        "chained": chained,
        "least_similarity": least,
        "group_sizes": {str(size): sizes[size] for size in sorted(sizes)},
    }


def _survivors(members: Numbers, pairs: Numbers, ids: pa.Array) -> Numbers:
    """For each member the place of the one that stays of its group, which is the one with the lowest id.

    Args:
        members: numbers of documents, rising, shape (members,).
        pairs: of members, shape (2, pairs).
        ids: of the members, shape (members,).
    """
    groups = Groups(len(members))
    for first, second in zip(*np.searchsorted(members, pairs).tolist(), strict=True):
        groups.join(first, second)
    group = np.fromiter(map(groups.find, range(len(members))), np.int64, len(members))
    rank = pc.rank(ids, tiebreaker="first").to_numpy(zero_copy_only=False).astype(np.int64)
    order = np.lexsort((rank, group))
    lowest = np.zeros(len(members), np.int64)
    lowest[group[order[::-1]]] = order[::-1]  # what is written last stays: the first of each group
    return lowest[group]


def _rows_of(file: Path, numbers: Numbers) -> pa.Table:
    """The `SHINGLES` of these documents in one file."""
    batches = (
        batch.filter(pa.array(np.isin(batch.column("number").to_numpy(), numbers)))
        for batch in read_batches(file)
    )
    return pa.Table.from_batches(batches, SHINGLES)


def _columns(file: Path, *names: str) -> Numbers:
    """Columns of numbers of a whole file, shape (columns, rows)."""
    pieces = [np.empty((len(names), 0), np.int64)]
    for batch in read_batches(file, names):
        pieces.append(np.stack([batch.column(name).to_numpy() for name in names]))
    return np.concatenate(pieces, axis=1)


class ShingleStore:
    """The `shingle_set`s of documents, read from files when they are asked for; the latest are remembered.

    Args:
        facts: first outputs of the stage ``shingles``.
        sets: second outputs, of the same tasks.
        numbers: the documents that will be asked for, rising.
        memory: bytes that the whole process may hold; a quarter of them is for remembered sets.
    """

    def __init__(self, facts: Sequence[Path], sets: Sequence[Path], numbers: Numbers, memory: int) -> None:
        self._memory = memory // _REMEMBERED
        self._held = 0
        self._recent: OrderedDict[int, Hashes] = OrderedDict()
        self._files = list(sets)
        self._numbers = numbers
        self._places = np.zeros((len(numbers), 3), np.int64)  # file, first shingle, how many
        for index, file in enumerate(facts):
            number, length = _columns(file, "number", "length")
            here = np.isin(number, numbers)
            rows = np.searchsorted(numbers, number[here])
            self._places[rows] = np.stack(
                [np.full(len(rows), index), (np.cumsum(length) - length)[here], length[here]], axis=1
            )

    def __getitem__(self, number: int) -> Hashes:
        """The set of one document."""
        if number in self._recent:
            self._recent.move_to_end(number)
            return self._recent[number]
        place = int(np.searchsorted(self._numbers, number))
        if place == len(self._numbers) or self._numbers[place] != number:
            raise KeyError(number)
        index, offset, length = self._places[place].tolist()
        with self._files[index].open("rb", buffering=0) as file:
            file.seek(8 * offset)
            shingles = np.frombuffer(file.read(8 * length), dtype="<u8")
        self._recent[number] = shingles
        self._held += shingles.nbytes
        while self._held > self._memory and len(self._recent) > 2:
            self._held -= self._recent.popitem(last=False)[1].nbytes
        return shingles
