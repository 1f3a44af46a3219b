"""Rows sorted into partitions by a hash: what is compared with everything, in pieces that fit into memory.

Each task of one stage writes its rows into a file with a piece for every partition; each task of the next
reads one partition's pieces out of all those files. Rows that are equal in what was hashed meet there.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Partitions = NDArray[np.int64]


def partition_of(hashes: NDArray[np.uint64], n_partitions: int) -> Partitions:
    """Which partition each hash belongs to, shape (hashes,): they are cut into ranges of equal width."""
    return ((hashes >> np.uint64(32)) * np.uint64(n_partitions) >> np.uint64(32)).astype(np.int64)


def write_partitions(path: Path, rows: pa.Table, partition: Partitions, n_partitions: int) -> None:
    """Write rows as an Arrow file with one record batch a partition; in each, the order is that of `rows`.

    Args:
        path: written in place: give a temporary name.
        rows: all of them.
        partition: of each row, shape (rows,).
        n_partitions: how many there are; some may be empty.
    """
    ordered = rows.take(np.argsort(partition, kind="stable")).combine_chunks()
    ends = np.cumsum(np.bincount(partition, minlength=n_partitions)).tolist()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            batches = ordered.slice(start, end - start).to_batches()
            writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], rows.schema))


def read_partition(files: Sequence[Path], partition: int) -> pa.Table:
    """The rows of one partition out of every file, in the order of the files."""
    pieces = []
    for path in files:
        # Read, not mapped: what is mapped would count as memory of this process for as long as it is.
        with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
            pieces.append(pa.Table.from_batches([reader.get_batch(partition)]))
    return pa.concat_tables(pieces)


def runs_of_equals(ordered: NDArray[np.uint64]) -> list[tuple[int, int]]:
    """Where equal neighbours stand in a sorted array: (start, end) of each run of two or more."""
    edges = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    starts = np.concatenate([[0], edges])
    ends = np.concatenate([edges, [len(ordered)]])
    several = ends - starts > 1
    return list(zip(starts[several].tolist(), ends[several].tolist(), strict=True))
