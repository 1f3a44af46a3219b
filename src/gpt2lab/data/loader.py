"""Which windows make up a training step, and the tensors of one process: decided by the step number alone.

Sample n of a run is the window at place n % n_windows in the order of epoch n // n_windows (a permutation,
`TokenDataset.in_order`), and the step reads samples step * batch_windows + j (where batches grow,
`batch_sizes` counts them). Nothing else enters, so to resume is
to know the step; every window is read once an epoch; and the global batch does not depend on how many
processes share it (rank r of w takes samples r, r + w, r + 2w, ...) nor on the micro-batches each process
cuts its share into.

Reading happens in the foreground: gathering a micro-batch of 16 x 1,024 tokens from the page cache takes a
fraction of a millisecond, too little for a prefetching thread to win anything.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2lab.base.errors import UserError
from gpt2lab.data.batch_sizes import BatchSizes
from gpt2lab.data.dataset import TokenDataset


class BatchLoader:
    """The training batches of a dataset.

    Args:
        dataset: the tokens.
        context_length: inputs a window.
        batch_windows: windows in a global batch, over all processes. It may exceed the number of windows:
            the batch then spans epochs.
        seed: of the order.
        sizes: of batches that grow up to `batch_windows`; without it all are full.

    Attributes:
        n_windows: windows in the dataset: an epoch is `n_windows / batch_windows` steps.

    Raises:
        UserError: the dataset is too short for one window.
    """

    def __init__(
        self,
        dataset: TokenDataset,
        context_length: int,
        batch_windows: int,
        seed: int,
        sizes: BatchSizes | None = None,
    ) -> None:
        assert context_length >= 1
        assert batch_windows >= 1
        self.sizes = sizes or BatchSizes(batch_windows)
        assert self.sizes.full == batch_windows
        self.dataset = dataset
        self.context_length = context_length
        self.batch_windows = batch_windows
        self.seed = seed
        self.n_windows = dataset.n_windows(context_length)
        if self.n_windows == 0:
            raise UserError(
                f"the `{dataset.split}` split is too short for one window: its longest shard has "
                f"{max(map(len, dataset.shards)):,} tokens, a context of {context_length:,} "
                f"needs {context_length + 1:,}",
                where=dataset.folder,
                fix="Give more text, or a shorter context",
            )

    def window_indices(self, step: int) -> NDArray[np.int64]:
        """The windows of the global batch of `step` (from 0), in order; shape (windows in this batch,)."""
        first, size = self.sizes.span(step)
        samples = np.arange(first, first + size, dtype=np.int64)
        epochs, positions = np.divmod(samples, self.n_windows)
        indices = np.empty_like(positions)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            inside = epochs == epoch
            indices[inside] = self.dataset.in_order(positions[inside], self.context_length, self.seed, epoch)
        return indices

    def micro_batches(
        self, step: int, micro_batch: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One process's share of the global batch of `step`, cut into micro-batches.

        Args:
            step: from 0.
            micro_batch: windows at once. The last micro-batch is smaller where it does not divide the share.
            rank: this process, in [0, world_size).
            world_size: processes that share the batch. Where it does not divide the batch the first ranks
                get one window more; a rank beyond the batch gets none.

        Yields:
            Contiguous int64 `(inputs_BT, targets_BT)` with `targets_BT[b, t] == inputs_BT[b, t + 1]`.

        Raises:
            UserError: a token does not fit the vocabulary.
        """
        assert micro_batch >= 1
        assert 0 <= rank < world_size
        share = self.window_indices(step)[rank::world_size]
        for start in range(0, len(share), micro_batch):
            rows = self.dataset.windows(share[start : start + micro_batch], self.context_length)
            tokens_BT = torch.from_numpy(rows)
            yield tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous()
