"""The stage ``exact``: documents with the same words, found by 128-bit keys, one partition at a time."""

import numpy as np
import pyarrow as pa

from gpt2lab.corpus.parquet_files import RowWriter
from gpt2lab.corpus.partitions import read_partition
from gpt2lab.corpus.stage import Call, Counts

DUPLICATES = pa.schema([("number", pa.int64()), ("duplicate_of", pa.string()), ("similarity", pa.float64())])
"""A document that goes, by its number in the corpus; the id of the one that stays; how alike the two are."""


def exact_duplicates(call: Call) -> Counts:
    """The keys of one partition to its `DUPLICATES`: of equal documents the one with the lowest id stays.

    Inputs: the first outputs of the stage ``fingerprints``. Parameters: `partition`.
    """
    rows = read_partition(call.inputs, call.parameters["partition"])
    key, rest, number = (rows.column(name).to_numpy() for name in ("key", "rest", "number"))
    order = np.lexsort((number, rest, key))
    key, rest, number = key[order], rest[order], number[order]
    same = (key[1:] == key[:-1]) & (rest[1:] == rest[:-1])
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    ends = np.concatenate([starts[1:], [len(key)]])
    found: list[tuple[int, str]] = []
    for start, end in zip(starts[ends - starts > 1].tolist(), ends[ends - starts > 1].tolist(), strict=True):
        ids = rows.column("id").take(order[start:end]).to_pylist()
        members = sorted(zip(ids, number[start:end].tolist(), strict=True))
        found += [(other, members[0][0]) for _, other in members[1:]]
    with RowWriter(call.outputs[0], DUPLICATES) as writer:
        for duplicate, survivor in sorted(found):
            writer.write((duplicate, survivor, 1.0))
    return {"duplicates": len(found)}
