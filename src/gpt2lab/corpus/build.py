"""Documents to token shards: split by a hash of each document, encoded on all cores, one folder at the end.

The folder holds llm.c shards, their manifest, and the vocabulary they are written in (`tokenizer/`), so that
whoever trains on it needs nothing else.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gpt2lab.base.errors import UserError
from gpt2lab.base.groups import groups_of_size
from gpt2lab.base.progress import Progress
from gpt2lab.corpus.documents import Document, read_documents
from gpt2lab.data.manifest import Manifest, load_manifest
from gpt2lab.data.split import SPLITS, split_of
from gpt2lab.data.writer import SHARD_TOKENS, write_dataset
from gpt2lab.tokenizer import Tokenizer

TOKENIZER_FOLDER = "tokenizer"
_BATCH_CHARS = 8_000_000  # encoded at once: enough to keep all cores busy, little enough for any memory
_HELD_OUT = 10  # held-out documents to be expected; with fewer, chance decides how much is held out, or none
_MIN_PIECE_CHARS = 200


def build_shards(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    validation_fraction: float,
    sources: Sequence[str],
    shard_tokens: int = SHARD_TOKENS,
) -> Manifest:
    """Write `documents` as token shards, each preceded by ``<|endoftext|>`` where the vocabulary has it.

    Args:
        documents: read once, in order.
        tokenizer: what to encode with; a copy goes into `folder`.
        folder: made here; appears whole or not at all.
        validation_fraction: share of documents held out, chosen by a hash of each document's id.
        sources: where the text came from, for the manifest.
        shard_tokens: tokens in every shard but the last.

    Raises:
        UserError: no documents, one split is empty, `folder` is not new, or the disk is full.
    """
    with (
        write_dataset(
            folder,
            tokenizer_fingerprint=tokenizer.fingerprint,
            vocab_size=tokenizer.vocab_size,
            end_of_text=tokenizer.end_of_text,
            sources=sources,
            shard_tokens=shard_tokens,
        ) as dataset,
        Progress(None, "tokenising", "documents") as progress,
    ):
        counts = dict.fromkeys(SPLITS, 0)
        for batch in groups_of_size(documents, _characters, _BATCH_CHARS):
            tokens = tokenizer.encode_batch([document.text for document in batch])
            for document, ids in zip(batch, tokens, strict=True):
                split = split_of(document.id, validation_fraction)
                counts[split] += 1
                dataset.append(split, ids, text_bytes=len(document.text.encode("utf-8", "replace")))
            progress.advance(len(batch))
        for split, count in counts.items():
            if not count:
                raise UserError(
                    f"none of the {sum(counts.values()):,} documents fell into the {split!r} split",
                    where=", ".join(sources),
                    fix=f"Give more text, or change data.validation_fraction (it is {validation_fraction:g})",
                )
        tokenizer.save(dataset.folder / TOKENIZER_FOLDER)
    manifest = load_manifest(folder)
    assert manifest is not None
    return manifest


def prepare(
    paths: Sequence[Path], tokenizer: Tokenizer, folder: Path, validation_fraction: float
) -> Manifest:
    """Text and JSON-lines files (or folders of them) to token shards; see `build_shards`.

    With so few documents that fewer than 10 can be expected to be held out (below 200 documents, at a share
    of 5%), long ones are cut at blank lines and the pieces are split as documents are: there is no other way
    to hold out some of a single book. Held-out pieces are then of the same books as the training text. If no
    piece falls to the held-out side, the one whose turn comes next does.
    """
    documents = read_documents(paths)
    few = math.ceil(_HELD_OUT / max(validation_fraction, 1e-3))
    first = list(itertools.islice(documents, few))
    every: Iterable[Document] = itertools.chain(first, documents)
    if len(first) < few:
        size = max(_MIN_PIECE_CHARS, sum(len(document.text) for document in first) // (2 * few))
        cut = (cut_into_pieces(d, size) if len(d.text) > size else [d] for d in first)
        every = pieces = list(itertools.chain.from_iterable(cut))
        if len(pieces) == 1:
            raise UserError(
                "the text is too short to hold some of it out for validation",
                where=", ".join(map(str, paths)),
                fix=f"Give more text: at least {2 * _MIN_PIECE_CHARS} characters",
            )
        validation_fraction = _fraction_that_holds_some_out(pieces, validation_fraction)
    return build_shards(
        every,
        tokenizer,
        folder,
        validation_fraction=validation_fraction,
        sources=[str(path) for path in paths],
    )


def cut_into_pieces(document: Document, min_chars: int) -> Iterator[Document]:
    """Cut into pieces of at least `min_chars` (the last may be shorter); joined they are the document again.

    A cut is made after the first blank line between `min_chars` and four times as many; without one, after a
    line; without one, after a word; without one, at `min_chars`. A piece's id is the document's with its
    number: ``"book.txt#3"``.
    """
    start, number = 0, 0
    while start < len(document.text):
        end = _end_of_piece(document.text, start + min_chars, start + 4 * min_chars)
        yield Document(f"{document.id}#{number}", document.text[start:end], document.source)
        start, number = end, number + 1


def _end_of_piece(text: str, earliest: int, latest: int) -> int:
    if earliest >= len(text):
        return len(text)
    for separator in ("\n\n", "\n", " "):
        gap = text.find(separator, earliest, latest)
        if gap >= 0:
            return gap + len(separator)
    return earliest


def _fraction_that_holds_some_out(pieces: Sequence[Document], fraction: float) -> float:
    """The least share, not below `fraction`, that holds out at least one piece; 0 stays 0."""

    def enough(share: float) -> bool:
        return any(split_of(piece.id, share) == "val" for piece in pieces)

    if fraction == 0 or enough(fraction):
        return fraction
    too_low, high = fraction, 1.0
    for _ in range(40):  # bisection: raising the share only ever moves pieces from "train" to "val"
        middle = (too_low + high) / 2
        too_low, high = (too_low, middle) if enough(middle) else (middle, high)
    return high


def _characters(document: Document) -> int:
    return len(document.text)
