"""Documents in, a folder of token shards out: `train_000000.bin`, ..., `val_000000.bin`, manifest.json.

As llm.c does, every document is preceded by `<|endoftext|>`, documents follow one another without padding,
and a shard ends after a fixed number of tokens, in the middle of a document if need be.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import atomic_folder, sha256_of
from gpt2lab.data.manifest import Manifest, ShardFacts, SplitFacts
from gpt2lab.data.shards import HEADER_BYTES, MAX_SHARD_TOKENS, kind_for, write_shard
from gpt2lab.data.split import SPLITS, Split

SHARD_TOKENS = 100_000_000  # as the published FineWeb shards: 200 MB a file


class ShardWriter:
    """Streams the documents of one split into shards of a fixed size.

    Holds the shard being filled in memory (two bytes a token up to a vocabulary of 65,536, else four).

    Args:
        folder: where the shards go.
        split: "train" or "val": the shards are called `{split}_{number:06d}.bin`.
        vocab_size: ids must be below it.
        end_of_text: the id written before every document; None writes none.
        shard_tokens: tokens in every shard but the last.
    """

    def __init__(
        self,
        folder: Path,
        split: Split,
        *,
        vocab_size: int,
        end_of_text: int | None,
        shard_tokens: int = SHARD_TOKENS,
    ) -> None:
        assert 1 <= shard_tokens <= MAX_SHARD_TOKENS
        self.folder = folder
        self.split = split
        self.vocab_size = vocab_size
        self.shards: list[ShardFacts] = []
        self.documents = self.tokens = self.text_bytes = 0
        self._prefix = np.array([] if end_of_text is None else [end_of_text], dtype=np.int64)
        self._kind = kind_for(vocab_size)
        self._buffer = np.empty(shard_tokens, dtype=self._kind.dtype)
        self._filled = 0

    def append(self, document_tokens: Sequence[int] | NDArray[np.integer], text_bytes: int) -> None:
        """Add one document.

        Args:
            document_tokens: its ids, without `<|endoftext|>`.
            text_bytes: the length of its text in UTF-8.

        Raises:
            UserError: an id is negative or not below `vocab_size`; the disk is full.
        """
        ids = np.concatenate([self._prefix, np.asarray(document_tokens, dtype=np.int64)])
        if ids.size and (ids.min() < 0 or ids.max() >= self.vocab_size):
            bad = ids[(ids < 0) | (ids >= self.vocab_size)][0]
            raise UserError(
                f"token {bad} does not belong to a vocabulary of {self.vocab_size:,}",
                where=f"document {self.documents:,} of {self.split}",
                fix="Write the shards with the tokenizer that made the tokens",
            )
        self.documents += 1
        self.tokens += len(ids)
        self.text_bytes += text_bytes
        while len(ids):
            room = len(self._buffer) - self._filled
            self._buffer[self._filled : self._filled + len(ids[:room])] = ids[:room]
            self._filled += len(ids[:room])
            ids = ids[room:]
            if self._filled == len(self._buffer):
                self._flush()

    def finish(self) -> SplitFacts:
        """Write the last, shorter shard and return the totals. The list of files is then in `shards`."""
        if self._filled:
            self._flush()
        return SplitFacts(self.documents, self.tokens, self.text_bytes)

    def _flush(self) -> None:
        path = self.folder / f"{self.split}_{len(self.shards):06d}.bin"
        tokens = self._buffer[: self._filled]
        write_shard(path, tokens, self._kind)
        size = HEADER_BYTES + tokens.nbytes
        self.shards.append(ShardFacts(path.name, self.split, self._filled, size, sha256_of(path)))
        self._filled = 0


class DatasetWriter:
    """Both splits of a dataset being written; made by `write_dataset`.

    Attributes:
        folder: what will be the dataset's folder; whatever else belongs to it may be written there too.
    """

    def __init__(self, folder: Path, writers: dict[Split, ShardWriter]) -> None:
        self.folder = folder
        self._writers = writers

    def append(
        self, split: Split, document_tokens: Sequence[int] | NDArray[np.integer], text_bytes: int
    ) -> None:
        """Add one document to one split; see `ShardWriter.append`."""
        self._writers[split].append(document_tokens, text_bytes)


@contextmanager
def write_dataset(
    folder: Path,
    *,
    tokenizer_fingerprint: str,
    vocab_size: int,
    end_of_text: int | None,
    sources: Sequence[str],
    shard_tokens: int = SHARD_TOKENS,
) -> Iterator[DatasetWriter]:
    """Write a folder of shards with its manifest: whole when the block ends well, else absent.

    >>> with write_dataset(folder, tokenizer_fingerprint=tokenizer.fingerprint, ...) as dataset:
    ...     for document in documents:
    ...         dataset.append(split_of(document.id, 0.05), tokens, text_bytes=len(document.text.encode()))

    A split without documents gets no files.

    Raises:
        UserError: `folder` already holds something (nothing is ever overwritten), there was not one token
            to write, an id does not fit the vocabulary, or the disk is full.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            "there is something here already",
            where=folder,
            fix="Name a folder that does not exist yet, or delete this one first",
        )
    with atomic_folder(folder) as temporary:
        writers = {
            split: ShardWriter(
                temporary,
                split,
                vocab_size=vocab_size,
                end_of_text=end_of_text,
                shard_tokens=shard_tokens,
            )
            for split in SPLITS
        }
        yield DatasetWriter(temporary, writers)
        totals = {split: writer.finish() for split, writer in writers.items()}
        if not any(facts.tokens for facts in totals.values()):
            raise UserError(
                "there is no text to write", where=folder, fix="Check that the sources hold documents"
            )
        Manifest(
            tokenizer_fingerprint=tokenizer_fingerprint,
            vocab_size=vocab_size,
            end_of_text=end_of_text,
            sources=tuple(sources),
            splits={split: facts for split, facts in totals.items() if facts.tokens},
            shards=tuple(shard for writer in writers.values() for shard in writer.shards),
        ).save(temporary)
