"""The stage ``fingerprints``: of each document what it takes to find its duplicates, without its text."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gpt2lab.corpus.dedup import BANDS, band_hashes, fingerprint
from gpt2lab.corpus.partitions import partition_of, write_partitions
from gpt2lab.corpus.stage import Call, Counts
from gpt2lab.corpus.stage_files import read_kept

PARTITION_DOCUMENTS = 50_000  # the 14 bands of so many take some 50 MB while they are sorted


def fingerprint_file(call: Call) -> Counts:
    """Documents to their keys and their bands, each file sorted into partitions.

    First output: `key` (the first and the last half of a document's `dedup.content_key`), `rest`, `number`
    (of the document in the corpus), `id`. Second output: `band` (14 of them a document, see
    `dedup.band_hashes`), `number`.

    Parameters: `first_number`, of the file's first document in the corpus; `partitions`; `near`, whether
    bands are wanted.
    """
    n_partitions, first = call.parameters["partitions"], call.parameters["first_number"]
    keys, ids = bytearray(), []
    bands: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
    banded: list[int] = []
    for number, document in enumerate(read_kept(call.inputs[0]), first):
        key, shingles = fingerprint(document.text)
        keys += key
        ids.append(document.id)
        if call.parameters["near"] and len(shingles):
            bands.append(band_hashes(shingles))
            banded.append(number)
    halves = np.frombuffer(bytes(keys), dtype="<u8").reshape(-1, 2)
    numbers = np.arange(first, first + len(ids))
    table = pa.table(
        {"key": halves[:, 0], "rest": halves[:, 1], "number": numbers, "id": pa.array(ids, pa.string())}
    )
    write_partitions(call.outputs[0], table, partition_of(halves[:, 0], n_partitions), n_partitions)
    band = np.concatenate(bands)
    table = pa.table({"band": band, "number": np.repeat(np.array(banded, np.int64), BANDS)})
    write_partitions(call.outputs[1], table, partition_of(band, n_partitions), n_partitions)
    return {}
