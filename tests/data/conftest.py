"""Datasets for tests of the data floor."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from gpt2lab.data.dataset import TokenDataset
from gpt2lab.data.shards import UINT32, Shard
from gpt2lab.data.split import Split


def _numbered(lengths: Sequence[int], vocab_size: int | None = None, split: Split = "train") -> TokenDataset:
    stream = np.arange(sum(lengths), dtype=np.uint32)
    pieces = np.split(stream, np.cumsum(lengths)[:-1])
    shards = [Shard(Path(f"{split}_{i:06d}.bin"), UINT32, piece) for i, piece in enumerate(pieces)]
    return TokenDataset(Path("nowhere"), split, shards, None, vocab_size)


@pytest.fixture(scope="session")
def numbered() -> Callable[..., TokenDataset]:
    """Make a dataset in memory, with shards of the given lengths, whose token i is simply i."""
    return _numbered
