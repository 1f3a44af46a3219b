"""The stages ``tokens`` and ``shards``: documents to token ids, file by file, and those to shards.

A shard is a stretch of the one long stream that the files of a split make when they follow one another, so
each shard can be written by itself, on any core and in any order.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from gpt2lab.base.groups import groups_of_size
from gpt2lab.corpus.documents import Document
from gpt2lab.corpus.stage import Call, Counts, FileFacts, Task
from gpt2lab.corpus.stage_files import utf8_length
from gpt2lab.corpus.verdicts import read_remaining
from gpt2lab.data.shards import ShardKind, Tokens, kind_for, write_shard_in_pieces
from gpt2lab.data.split import SPLITS, Split, split_of
from gpt2lab.tokenizer import Tokenizer, load_tokenizer

_BATCH_CHARACTERS = 1_000_000  # what the tokenizer does not spread over threads: every core has its process
_PIECE_TOKENS = 4_000_000


def write_tokens(call: Call) -> Counts:
    """Documents to two files of token ids, those of the training split and those of the held-out one.

    The ids are as wide as in the shards; each document is preceded by ``<|endoftext|>`` where the vocabulary
    has it.

    Inputs: a file of documents; the vocabulary's tokenizer.json; files of verdicts. Parameters:
    `validation_fraction`; `fingerprint`, of the vocabulary.
    """
    tokenizer = _load_tokenizer(call.inputs[1], call.parameters["fingerprint"])
    width = kind_for(tokenizer.vocab_size).dtype
    prefix = b"" if tokenizer.end_of_text is None else np.array([tokenizer.end_of_text], width).tobytes()
    counts = {split: {"documents": 0, "tokens": 0, "bytes": 0} for split in SPLITS}
    remaining = (document for _, document in read_remaining(call.inputs[0], call.inputs[2:]))
    with call.outputs[0].open("wb") as train, call.outputs[1].open("wb") as val:
        files = {"train": train, "val": val}
        for batch in groups_of_size(remaining, _characters, _BATCH_CHARACTERS):
            tokens = tokenizer.encode_batch([document.text for document in batch])
            for document, ids in zip(batch, tokens, strict=True):
                split = split_of(document.id, call.parameters["validation_fraction"])
                files[split].write(prefix + ids.astype(width, copy=False).tobytes())
                counts[split]["documents"] += 1
                counts[split]["tokens"] += len(ids) + bool(prefix)
                counts[split]["bytes"] += utf8_length(document.text)
    return dict[str, Any](counts.items())


def shard_tasks(
    token_files: Sequence[tuple[FileFacts, int]], split: Split, shard_tokens: int, vocab_size: int
) -> list[Task]:
    """The tasks that write the shards of one split.

    Args:
        token_files: the files of the stage ``tokens``, each with the number of its tokens.
        split: which one.
        shard_tokens: tokens in every shard but the last.
        vocab_size: decides the width of a token.
    """
    total = sum(n_tokens for _, n_tokens in token_files)
    tasks = []
    for number, start in enumerate(range(0, total, shard_tokens)):
        end = min(start + shard_tokens, total)
        inputs: list[FileFacts] = []
        skipped = position = 0
        for file, n_tokens in token_files:
            if position < end and position + n_tokens > start and n_tokens:
                if not inputs:
                    skipped = start - position
                inputs.append(file)
            position += n_tokens
        parameters = {"skip": skipped, "tokens": end - start, "vocab_size": vocab_size}
        tasks.append(Task(f"{split}_{number:06d}", tuple(inputs), parameters))
    return tasks


def write_shard_file(call: Call) -> Counts:
    """A stretch of the stream of tokens to a shard.

    Inputs: the files of tokens that the stretch lies in. Parameters: `skip`, tokens of the first file before
    it; `tokens`, its length; `vocab_size`.
    """
    parameters = call.parameters
    kind = kind_for(parameters["vocab_size"])
    pieces = _stretch(call.inputs, kind, parameters["skip"], parameters["tokens"])
    write_shard_in_pieces(call.outputs[0], pieces, parameters["tokens"], kind)
    return {"tokens": parameters["tokens"]}


def _stretch(files: Sequence[Path], kind: ShardKind, skip: int, n: int) -> Iterator[Tokens]:
    """`n` tokens from `skip` tokens after the beginning of the first file, some millions at a time."""
    for path in files:
        with path.open("rb") as file:
            file.seek(skip * kind.dtype.itemsize)
            while n and len(piece := np.fromfile(file, kind.dtype, min(n, _PIECE_TOKENS))):
                yield cast(Tokens, piece)
                n -= len(piece)
        skip = 0


def _characters(document: Document) -> int:
    return len(document.text)


@lru_cache(maxsize=1)
def _load_tokenizer(path: Path, fingerprint: str) -> Tokenizer:
    """Remembered for as long as the same vocabulary lies there."""
    tokenizer = load_tokenizer(path)
    assert tokenizer.fingerprint == fingerprint
    return tokenizer
