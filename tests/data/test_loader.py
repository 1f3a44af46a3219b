"""Batches: decided by the step alone, the same for any number of processes and any micro-batch."""

from collections.abc import Callable
from itertools import zip_longest

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import UserError
from gpt2lab.data.dataset import TokenDataset
from gpt2lab.data.loader import BatchLoader

MakeDataset = Callable[..., TokenDataset]
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=4).filter(lambda lengths: max(lengths) > 10)


def share(loader: BatchLoader, step: int, micro_batch: int, rank: int, world_size: int) -> list[list[int]]:
    """All windows one process reads in one step, each as its T + 1 tokens."""
    rows: list[list[int]] = []
    sizes = []
    for inputs_BT, targets_BT in loader.micro_batches(step, micro_batch, rank, world_size):
        assert inputs_BT.dtype == targets_BT.dtype == torch.int64
        assert inputs_BT.is_contiguous()
        assert targets_BT.is_contiguous()
        assert inputs_BT.shape == targets_BT.shape == (len(inputs_BT), loader.context_length)
        assert torch.equal(inputs_BT[:, 1:], targets_BT[:, :-1])
        sizes.append(len(inputs_BT))
        rows += torch.cat([inputs_BT, targets_BT[:, -1:]], dim=1).tolist()
    assert all(size == micro_batch for size in sizes[:-1])
    assert all(1 <= size <= micro_batch for size in sizes[-1:])
    return rows


@given(
    lengths=LENGTHS,
    context_length=st.integers(1, 10),
    batch_windows=st.integers(1, 24),
    step=st.integers(0, 1000),
    seed=st.integers(0, 2**32),
    micro_batch=st.integers(1, 30),
)
def test_the_global_batch_is_the_same_for_any_world_and_micro_batch(
    lengths: list[int],
    context_length: int,
    batch_windows: int,
    step: int,
    seed: int,
    micro_batch: int,
    numbered: MakeDataset,
) -> None:
    loader = BatchLoader(numbered(lengths), context_length, batch_windows, seed)
    expected = loader.dataset.windows(loader.window_indices(step), context_length).tolist()
    for world_size in (1, 2, 3, 8):
        shares = [share(loader, step, micro_batch, rank, world_size) for rank in range(world_size)]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        dealt = [row for round_ in zip_longest(*shares) for row in round_ if row is not None]
        assert dealt == expected


@given(lengths=LENGTHS, batch_windows=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_every_epoch_reads_every_window_once(
    lengths: list[int], batch_windows: int, seed: int, numbered: MakeDataset
) -> None:
    loader = BatchLoader(numbered(lengths), 5, batch_windows, seed)
    n = loader.n_windows
    steps = -(-3 * n // batch_windows)
    samples = np.concatenate([loader.window_indices(step) for step in range(steps)])[: 3 * n]
    for epoch in samples.reshape(3, n):
        assert sorted(epoch) == list(range(n))
    if n > 20:
        assert samples[:n].tolist() != samples[n : 2 * n].tolist()


def test_the_step_alone_decides(numbered: MakeDataset) -> None:
    one = BatchLoader(numbered([5000]), 16, 12, seed=7)
    for step in range(40):  # a run that has been reading since step 0 ...
        list(one.micro_batches(step, 4))
    fresh = BatchLoader(numbered([5000]), 16, 12, seed=7)  # ... and one that resumes at step 40
    assert share(one, 40, 4, 0, 1) == share(fresh, 40, 5, 0, 1)
    other = BatchLoader(numbered([5000]), 16, 12, seed=8)
    assert share(other, 40, 4, 0, 1) != share(fresh, 40, 4, 0, 1)


def test_golden_batch(numbered: MakeDataset) -> None:
    """A change here changes every run: it must never happen."""
    loader = BatchLoader(numbered([100, 57]), 10, 6, seed=1)
    assert loader.n_windows == 14
    assert loader.window_indices(2).tolist() == GOLDEN_BATCH  # spans the first two epochs


GOLDEN_BATCH = [6, 10, 13, 3, 10, 11]


def test_far_into_a_run(numbered: MakeDataset) -> None:
    loader = BatchLoader(numbered([100]), 10, 6, seed=1)
    indices = loader.window_indices(10**12)
    assert ((indices >= 0) & (indices < 9)).all()


def test_too_short_for_one_window(numbered: MakeDataset) -> None:
    BatchLoader(numbered([5, 11, 3]), 10, 1, seed=0)
    with pytest.raises(UserError, match="its longest shard has 10 tokens, a context of 10 needs 11"):
        BatchLoader(numbered([5, 10, 3]), 10, 1, seed=0)


def test_a_foreign_token_never_reaches_the_model(numbered: MakeDataset) -> None:
    loader = BatchLoader(numbered([50, 51], vocab_size=100), 10, 10, seed=0)
    with pytest.raises(UserError, match=r"train_000001\.bin: .*holds token 100 and the model has 100"):
        list(loader.micro_batches(0, 10))
