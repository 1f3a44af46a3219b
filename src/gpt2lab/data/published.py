"""Published token shards on the Hub, fetched as they are read: each when first needed, the next in advance.

The order of reading goes from shard to shard, and within each through its windows in a permutation of its
own; so a step needs one shard, or two where one ends, and a run of a billion tokens fetches ten shards of a
hundred million and no more. The order follows from the list of files and their sizes alone, which is known
before any of them is here: as everywhere, the step number decides the batch.
"""

import hashlib
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import UserError, speaks
from gpt2lab.base.hub_dataset import HubDataset
from gpt2lab.base.hub_wire import ConnectionLostError
from gpt2lab.data.dataset import TokenDataset, split_named
from gpt2lab.data.order import permute
from gpt2lab.data.shards import HEADER_BYTES, UINT16, ShardKind, Tokens, open_shard
from gpt2lab.data.split import Split

WAITS_S: tuple[float, ...] = (5, 15, 60, 180, 600)
"""Pauses before a download that broke off is tried again: a run outlives a quarter of an hour offline"""


class FetchedShard:
    """A shard on the Hub that is brought here and mapped when its tokens are first asked for."""

    kind: ShardKind = UINT16

    def __init__(self, hub: HubDataset, name: str, following: "FetchedShard | None") -> None:
        self.path = hub.folder / name
        self.name = name
        self._hub, self._following = hub, following
        self._n_tokens, odd = divmod(hub.files[name].size - HEADER_BYTES, UINT16.dtype.itemsize)
        if odd or self._n_tokens <= 0:
            raise self._foreign()
        self._tokens: Tokens | None = None
        self._whole = False  # here, and compared with its sum
        self._coming: Thread | None = None

    def __len__(self) -> int:
        return self._n_tokens

    @property
    def tokens(self) -> Tokens:
        """The tokens; waits for the download where it is not over yet.

        Raises:
            UserError: the shard cannot be had, or is not one of llm.c's first kind.
        """
        if self._tokens is None:
            if self._coming:
                self._coming.join()
            shard = open_shard(self.path if self._whole else self._fetched())
            if shard.kind != UINT16 or len(shard) != self._n_tokens:
                raise self._foreign()
            self._tokens = shard.tokens
            if self._following and not self._whole:
                self._following.come()
            self._whole = True
        return self._tokens

    def come(self) -> None:
        """Fetch it in the background; what goes wrong is met again when its tokens are asked for."""

        def fetch() -> None:
            with suppress(UserError):
                self._hub.fetch(self.name, quiet=True)

        if self._coming is None and not self._hub.is_here(self.name):
            self._coming = Thread(target=fetch, name=f"fetching {self.name}", daemon=True)
            self._coming.start()

    def let_go(self) -> None:
        """Unmap the file: what has been read would else count as this process's memory."""
        self._tokens = None

    def _fetched(self) -> Path:
        """The file, after some patience with the network."""
        for wait_s in WAITS_S:
            try:
                return self._hub.fetch(self.name, quiet=not speaks())
            except ConnectionLostError as error:
                if speaks():
                    print(f"{error.what}; trying again in {wait_s:g} s", file=sys.stderr, flush=True)
                time.sleep(wait_s)
        return self._hub.fetch(self.name)

    def _foreign(self) -> UserError:
        return UserError(
            "this is not a shard of llm.c's uint16 kind (magic 20240520, version 1)",
            where=f"{self._hub.repo}, {self.name}",
            fix="Download the files and give their folder, or choose another dataset",
        )


class PublishedTokens(TokenDataset):
    """One split of a published dataset; reads as any other, in an order that goes from shard to shard."""

    def __init__(
        self, shards: Sequence[FetchedShard], hub: HubDataset, split: Split, vocab_size: int | None
    ) -> None:
        super().__init__(hub.folder, split, shards, None, vocab_size)
        self._fetched = tuple(shards)
        self._hub = hub
        self._mapped: set[FetchedShard] = set()

    @property
    def fingerprint(self) -> str:
        """A SHA-256 over what the Hub says each file's sum is, so that nothing has to be fetched for it."""
        sums = (f"{shard.name} {self._hub.files[shard.name].sum}" for shard in self._fetched)
        return hashlib.sha256("\n".join(sums).encode()).hexdigest()

    def in_order(
        self, positions: NDArray[np.int64], context_length: int, seed: int, epoch: int
    ) -> NDArray[np.int64]:
        """See `TokenDataset`: shard after shard, each in a permutation of its own."""
        ends = np.cumsum(self._windows_per_shard(context_length))
        numbers = np.searchsorted(ends, positions, side="right")
        indices = np.empty_like(positions)
        for number in np.unique(numbers).tolist():
            inside, first = numbers == number, int(ends[number - 1]) if number else 0
            key = epoch * len(ends) + number
            size = int(ends[number]) - first
            indices[inside] = first + permute(positions[inside] - first, size, seed, key)
        return indices

    def windows(self, indices: NDArray[np.int64], context_length: int) -> NDArray[np.int64]:
        """See `TokenDataset`; shards other than those of these windows are let go."""
        rows = super().windows(indices, context_length)
        ends = np.cumsum(self._windows_per_shard(context_length))
        used = {self._fetched[number] for number in np.searchsorted(ends, indices, side="right").tolist()}
        for shard in self._mapped - used:
            shard.let_go()
        self._mapped = used
        return rows


class PublishedShards:
    """Token shards on the Hub: the counterpart of a folder of shards.

    Args:
        hub: the dataset they are files of.
    """

    def __init__(self, hub: HubDataset) -> None:
        self.hub = hub

    def names(self, split: Split) -> list[str]:
        """The files of a split, in reading order."""
        return [name for name in self.hub.files if name.endswith(".bin") and split_named(name) == split]

    def announce(self, tokens: int) -> None:
        """Say what a run that reads so many training tokens fetches, and make sure that it fits on the disk.

        Raises:
            UserError: it does not.
        """
        names, size = self.names("val"), 0
        for name in self.names("train"):
            if size >= tokens:
                break
            names.append(name)
            size += (self.hub.files[name].size - HEADER_BYTES) // UINT16.dtype.itemsize
        self.hub.announce(names, "as training goes")

    def open(self, split: Split, vocab_size: int | None) -> PublishedTokens:
        """One split; nothing is fetched before it is read.

        Raises:
            UserError: there is no such split, or its files are of another kind.
        """
        shards: list[FetchedShard] = []
        for name in reversed(self.names(split)):
            shards.insert(0, FetchedShard(self.hub, name, shards[0] if shards else None))
        if not shards:
            raise UserError(
                f"no `{split}` shards in this dataset: none of its {len(self.hub.files):,} files is a .bin "
                f"with {split!r} in its name",
                where=self.hub.repo,
                fix="Choose another dataset, or download the files and give their folder",
            )
        return PublishedTokens(shards, self.hub, split, vocab_size)


def open_split(
    data: Path | PublishedShards,
    split: Split,
    *,
    vocab_size: int | None = None,
    tokenizer_fingerprint: str | None = None,
) -> TokenDataset:
    """One split of a folder of shards or of published ones; see `TokenDataset.open`."""
    if isinstance(data, PublishedShards):
        return data.open(split, vocab_size)
    return TokenDataset.open(data, split, vocab_size=vocab_size, tokenizer_fingerprint=tokenizer_fingerprint)
