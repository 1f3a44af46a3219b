"""One split of a folder of token shards, read as windows or as one long stream.

Window i of context length T covers tokens [i*T, i*T + T + 1) of its shard: T inputs and, shifted by one, T
targets. Windows neither overlap in their targets nor straddle shards, as in llm.c; the fewer than T tokens
left at the end of a shard are in no window.

Folders without a manifest are the published ones: `fineweb_train_000001.bin`, `edu_fineweb_val_000000.bin`
or nanoGPT's `train.bin` and `val.bin`. There the file names say which split a shard belongs to.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import UserError
from gpt2lab.data.manifest import Manifest, load_manifest, verify_files
from gpt2lab.data.order import permute
from gpt2lab.data.shards import AnyShard, open_shard
from gpt2lab.data.split import Split

_SPLIT_IN_NAME = re.compile(r"(?<![a-z])(train|val)(?![a-z])", re.IGNORECASE)
_SAMPLE_TOKENS = 2**16  # read from the head of each shard without a manifest when it is opened: 128 kB


class TokenDataset:
    """A read-only concatenation of shards; use `TokenDataset.open`.

    Attributes:
        folder: where the shards lie.
        split: "train" or "val".
        shards: in reading order.
        manifest: None for published shards, which have none.
        vocab_size: every token is below it; None where nobody has said.
        n_tokens: in all shards together.
    """

    def __init__(
        self,
        folder: Path,
        split: Split,
        shards: Sequence[AnyShard],
        manifest: Manifest | None,
        vocab_size: int | None,
    ) -> None:
        self.folder = folder
        self.split = split
        self.shards = tuple(shards)
        self.manifest = manifest
        self.vocab_size = vocab_size
        self._lengths = np.array([len(shard) for shard in shards], dtype=np.int64)
        self.n_tokens = int(self._lengths.sum())

    @classmethod
    def open(
        cls,
        folder: Path,
        split: Split,
        *,
        vocab_size: int | None = None,
        tokenizer_fingerprint: str | None = None,
        verify: bool = False,
    ) -> Self:
        """Open the shards of one split.

        Args:
            folder: holds the shards and, unless they were published without, `manifest.json`.
            split: "train" or "val".
            vocab_size: of the model that will read the tokens. Given, tokens that do not fit are an error:
                by the manifest; without one by a sample from the head of each shard; and in any case in
                every window that is read, so that none ever reaches an embedding table.
            tokenizer_fingerprint: of the tokenizer that goes with the model; compared with the manifest's.
            verify: also compare the SHA-256 of every shard of the split with the manifest (sizes always
                are). Needs a manifest.

        Raises:
            UserError: no such folder or split, a shard cut short, altered or foreign, another vocabulary.
        """
        _require_folder(folder)
        manifest = load_manifest(folder)
        if manifest is None:
            if verify:
                raise UserError(
                    "there are no checksums to verify against: the folder has no manifest.json",
                    where=folder,
                    fix="Compare the files with their publisher's checksums by hand",
                )
            names = [path.name for path in sorted(folder.glob("*.bin")) if split_named(path.name) == split]
        else:
            _require_same_vocabulary(folder, manifest, vocab_size, tokenizer_fingerprint)
            listed = [shard for shard in manifest.shards if shard.split == split]
            verify_files(folder, listed, checksums=verify)
            names = [shard.file for shard in listed]
        if not names:
            raise _no_such_split(folder, split)
        shards = [open_shard(folder / name) for name in names]
        if vocab_size is not None and manifest is None:
            for shard in shards:
                _require_below(int(shard.tokens[:_SAMPLE_TOKENS].max()), vocab_size, shard.path)
        known_size = manifest.vocab_size if manifest and vocab_size is None else vocab_size
        return cls(folder, split, shards, manifest, known_size)

    @property
    def documents(self) -> int | None:
        """How many documents there are, where a manifest says so."""
        return self.manifest.splits[self.split].documents if self.manifest else None

    @property
    def text_bytes(self) -> int | None:
        """UTF-8 bytes of the text behind the tokens, where a manifest says so."""
        return self.manifest.splits[self.split].text_bytes if self.manifest else None

    @property
    def fingerprint(self) -> str:
        """A SHA-256 that changes with the data: a run that resumes on other tokens can notice.

        Made of the length and the first 65,536 tokens of each shard in order, so it costs a few reads; it
        does not see a change further in (`verify` does, against a manifest).
        """
        digest = hashlib.sha256()
        for shard in self.shards:
            digest.update(f"{shard.kind.name} {len(shard)}\n".encode())
            digest.update(shard.tokens[:_SAMPLE_TOKENS].tobytes())
        return digest.hexdigest()

    def n_windows(self, context_length: int) -> int:
        """How many windows of `context_length` inputs (and one more token) the split holds."""
        return int(self._windows_per_shard(context_length).sum())

    def in_order(
        self, positions: NDArray[np.int64], context_length: int, seed: int, epoch: int
    ) -> NDArray[np.int64]:
        """The numbers of the windows at these places of an epoch's reading order; shape as `positions`."""
        return permute(positions, self.n_windows(context_length), seed, epoch)

    def windows(self, indices: NDArray[np.int64], context_length: int) -> NDArray[np.int64]:
        """Read windows by number.

        Args:
            indices: window numbers, each in [0, n_windows(context_length)); any order, any repetition.
            context_length: inputs a window.

        Returns:
            Tokens, shape (len(indices), context_length + 1).

        Raises:
            UserError: a token is not below `vocab_size`.
        """
        ends = np.cumsum(self._windows_per_shard(context_length))
        assert indices.size == 0 or (indices.min() >= 0 and indices.max() < ends[-1])
        shard_numbers = np.searchsorted(ends, indices, side="right")
        starts = (indices - np.concatenate([[0], ends])[shard_numbers]) * context_length
        rows = np.empty((len(indices), context_length + 1), dtype=np.int64)
        for row, number, start in zip(rows, shard_numbers.tolist(), starts.tolist(), strict=True):
            row[:] = self.shards[number].tokens[start : start + context_length + 1]
        if self.vocab_size is not None and rows.size and rows.max() >= self.vocab_size:
            worst_row = int(rows.max(axis=1).argmax())
            path = self.shards[int(shard_numbers[worst_row])].path
            _require_below(int(rows[worst_row].max()), self.vocab_size, path)
        return rows

    def stream(self, start: int, stop: int) -> NDArray[np.int64]:
        """Tokens [start, stop) of all shards end to end; fewer where the stream ends first.

        Raises:
            UserError: a token is not below `vocab_size`.
        """
        pieces = []
        offset = 0
        for shard in self.shards:
            if start < offset + len(shard) and stop > offset:  # others need not be here
                piece = shard.tokens[max(start - offset, 0) : max(stop - offset, 0)].astype(np.int64)
                if piece.size and self.vocab_size is not None:
                    _require_below(int(piece.max()), self.vocab_size, shard.path)
                pieces.append(piece)
            offset += len(shard)
        return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)

    def _windows_per_shard(self, context_length: int) -> NDArray[np.int64]:
        return (self._lengths - 1) // context_length


def _require_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    if folder.is_file():
        raise UserError(
            "this is a file, and a dataset is a folder of shards",
            where=folder,
            fix=f"Name the folder: {folder.parent}",
        )
    raise UserError("no such folder of token shards", where=folder, fix="Check the spelling of the path")


def split_named(name: str) -> str | None:
    """The split in a published shard's file name: the last of the words "train" and "val" in it."""
    found = _SPLIT_IN_NAME.findall(name.removesuffix(".bin"))
    return found[-1].lower() if found else None


def _no_such_split(folder: Path, split: Split) -> UserError:
    files = sorted(path.name for path in folder.glob("*.bin"))
    held = f"its {len(files)} .bin files are {', '.join(files[:3])}, ..." if files else "it has no .bin files"
    return UserError(
        f"no `{split}` shards in this folder: {held}",
        where=folder,
        fix=f"Name a folder whose manifest.json or file names (such as {split}.bin) hold that split",
    )


def _require_same_vocabulary(
    folder: Path, manifest: Manifest, vocab_size: int | None, tokenizer_fingerprint: str | None
) -> None:
    """A model may have more rows than the vocabulary (padding); it may not have fewer."""
    if vocab_size is not None and manifest.vocab_size > vocab_size:
        raise UserError(
            f"the vocabulary does not fit the shards: they were written with {manifest.vocab_size:,} tokens "
            f"and the model has {vocab_size:,}",
            where=folder,
            fix="Use the tokenizer and vocabulary size the shards were built with, or build them again",
        )
    if tokenizer_fingerprint is not None and tokenizer_fingerprint != manifest.tokenizer_fingerprint:
        raise UserError(
            f"the vocabulary does not fit the shards: they were written with tokenizer "
            f"{manifest.tokenizer_fingerprint[:12]} and this one is {tokenizer_fingerprint[:12]}",
            where=folder,
            fix="Use the tokenizer the shards were built with, or build them again with this one",
        )


def _require_below(largest: int, vocab_size: int, path: Path) -> None:
    if largest >= vocab_size:
        raise UserError(
            f"the vocabulary does not fit the shard: it holds token {largest:,} "
            f"and the model has {vocab_size:,}",
            where=path,
            fix="Use the tokenizer the shard was built with, or build it again with this one",
        )
