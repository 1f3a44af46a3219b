"""Verdicts: which documents of a file go, by their rows; the file itself stays as it is.

The stages that look at a whole corpus take few documents out, so they do not write all the others again.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from gpt2lab.corpus.decontaminate import shared_stretches
from gpt2lab.corpus.documents import Document
from gpt2lab.corpus.evaluation_files import evaluation_texts
from gpt2lab.corpus.ngram_index import NgramIndex
from gpt2lab.corpus.overlap import set_hashes
from gpt2lab.corpus.parquet_files import DROPPED, RowWriter, read_rows
from gpt2lab.corpus.stage import Call, Counts
from gpt2lab.corpus.stage_files import Tally, document_row, read_kept, utf8_length

_SHOWN_CHARS = 300  # of a quotation
VERDICT = pa.schema([*DROPPED, pa.field("row", pa.int64())])
"""A dropped document and where it stood in the file of documents."""


def drop_duplicates(call: Call) -> Counts:
    """The stage ``duplicates``: the verdicts on one file's documents that repeat others.

    Inputs: a file of documents; the output of ``near``, if there is one; every output of ``exact``.
    Parameters: `first_number`, of the file's first document in the corpus; `documents`, how many it holds;
    `near`, whether there is an output of ``near``.
    """
    first = call.parameters["first_number"]
    here = range(first, first + call.parameters["documents"])
    verdicts: dict[int, tuple[str, str]] = {}
    for position, file in enumerate(call.inputs[1:]):
        near = call.parameters["near"] and position == 0
        for number, survivor, similarity in read_rows(file, ["number", "duplicate_of", "similarity"]):
            if number in here:
                detail = f"{similarity:.3f} of {survivor}" if near else survivor
                verdicts[number - first] = ("near_duplicate" if near else "exact_duplicate", detail)
    return write_verdicts(call, iter(enumerate(read_kept(call.inputs[0]))), verdicts, "duplicates")


def drop_contaminated_documents(call: Call) -> Counts:
    """The stage ``decontaminate``: the verdicts on one file's documents that quote an evaluation set.

    Inputs: a file of documents, the verdicts on its duplicates, the evaluation sets' files. Parameters:
    `min_words`, the length of a quotation; `evaluation`, the hashes of the sets' files.
    """
    index = _evaluation_index(call.inputs[2:], tuple(call.parameters["evaluation"]))
    verdicts = {}
    for row, document in read_remaining(call.inputs[0], call.inputs[1:2]):
        stretches = shared_stretches(document.text, index, min_words=call.parameters["min_words"])
        if stretches:
            start, end = stretches[0]
            verdicts[row] = ("contaminated", document.text[start : min(end, start + _SHOWN_CHARS)])
    remaining = read_remaining(call.inputs[0], call.inputs[1:2])  # read again, for it may not fit into memory
    return write_verdicts(call, remaining, verdicts, "decontaminate")


@lru_cache(maxsize=1)
def _evaluation_index(files: tuple[Path, ...], hashes: tuple[str, ...]) -> NgramIndex:
    """The n-grams of all evaluation sets; remembered for as long as the files stay as they are."""
    return NgramIndex(set_hashes(text for file in files for text in evaluation_texts(file)))


def write_verdicts(
    call: Call, documents: Iterator[tuple[int, Document]], verdicts: dict[int, tuple[str, str]], stage: str
) -> Counts:
    """Write the `VERDICT`s on those documents whose rows have one (reason and detail), and count all."""
    tally = Tally()
    with RowWriter(call.outputs[0], VERDICT) as writer:
        for row, document in documents:
            n_bytes = utf8_length(document.text)
            tally.read(n_bytes)
            if row in verdicts:
                reason, detail = verdicts[row]
                writer.write((*document_row(document), stage, reason, detail, row))
                tally.drop(stage, reason, n_bytes)
            else:
                tally.keep(n_bytes)
    return tally.counts


def read_remaining(documents: Path, verdicts: Sequence[Path]) -> Iterator[tuple[int, Document]]:
    """The documents of a file that no verdict takes out, each with its row."""
    gone = {row for file in verdicts for (row,) in read_rows(file, ["row"])}
    return ((row, document) for row, document in enumerate(read_kept(documents)) if row not in gone)
