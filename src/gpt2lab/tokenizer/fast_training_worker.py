"""The process in which `fast_training` runs gigatoken: a corpus file in, merges as JSON out.

python -m gpt2lab.tokenizer.fast_training_worker CORPUS N_MERGES RESULT
"""

import json
import sys
from pathlib import Path
from typing import Any

from gigatoken import TextFileSource, train_bpe
from gigatoken.gigatoken_rs import pretokenized_counts

from gpt2lab.tokenizer.fast_training import BOUNDARY, WORDS_A_MERGE, Merges, spelled
from gpt2lab.tokenizer.training import reference_merges

_SAMPLE_BYTES = 100_000
_SAMPLE_MERGES = 500
_COUNTED_BYTES = (4_000_000, 32_000_000, 256_000_000)  # the first, or else the next, has words enough


def main(corpus: Path, n_merges: int, result: Path) -> None:
    """Count words; where they suffice, try the trainer against the reference; where it agrees, train."""
    enough = WORDS_A_MERGE * n_merges
    answer: dict[str, Any] = {"enough_words": _count_words(corpus, enough) > enough}
    if answer["enough_words"]:
        answer["agrees"] = _agrees_with_reference(corpus)
        answer["merges"] = _merges(corpus, n_merges) if answer["agrees"] else []
    result.write_text(json.dumps(answer), encoding="utf-8")


def _merges(corpus: Path, n_merges: int) -> Merges:
    source = TextFileSource([corpus], separator=BOUNDARY)
    return spelled(train_bpe(source, 256 + n_merges, [], tie_breaking="huggingface")[1])


def _agrees_with_reference(corpus: Path) -> bool:
    """Whether both trainers learn the same from the head of the corpus, where ties are many."""
    text = _head(corpus, _SAMPLE_BYTES).decode("utf-8", errors="ignore")  # drops boundaries: all one text
    sample = corpus.with_name("sample")
    sample.write_bytes(text.encode() + BOUNDARY)
    expected = reference_merges([text], _SAMPLE_MERGES)
    return _merges(sample, len(expected)) == expected


def _count_words(corpus: Path, enough: int) -> int:
    """How many different words of two bytes or more the corpus has: at least this many, or all."""
    n_words = 0
    for n_bytes in _COUNTED_BYTES:
        counts = pretokenized_counts(_head(corpus, n_bytes), BOUNDARY)
        n_words = sum(len(word) > 1 for word, _ in counts) - 1  # the last may be cut in two
        if n_words > enough:
            break
    return n_words


def _head(file: Path, n_bytes: int) -> bytes:
    with file.open("rb") as stream:
        return stream.read(n_bytes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
