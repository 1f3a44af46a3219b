"""A whole split as windows in reading order, for an exact held-out loss.

Training windows drop the tail of each shard; here every token but the very first of the split is predicted
exactly once, so that the summed loss over `TokenDataset.text_bytes` is the bits per byte of the whole text.
(The first token is `<|endoftext|>` in shards written here.) The shards are read as one stream: a window may
run from one into the next.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from gpt2lab.base.errors import UserError
from gpt2lab.data.dataset import TokenDataset

NO_TARGET = -100  # what torch's cross_entropy ignores by default


def sequential_windows(
    dataset: TokenDataset, context_length: int, batch_windows: int, max_tokens: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of non-overlapping windows that predict a split from its beginning to its end.

    Each window starts afresh: its first token is predicted from one token of context, its last from
    `context_length`. All batches have the same shape, so that a compiled model sees only one: what is left
    over in the last is padded with input 0 and target -100. To share the work between processes, let rank r
    of w take `itertools.islice(batches, r, None, w)`.

    Args:
        dataset: the split.
        context_length: inputs a window.
        batch_windows: windows a batch.
        max_tokens: predict only the first so many tokens; None predicts all.

    Yields:
        Contiguous int64 `(inputs_BT, targets_BT)`, each (batch_windows, context_length).

    Raises:
        UserError: the split has fewer than two tokens, or a token does not fit the vocabulary.
    """
    assert max_tokens is None or max_tokens >= 1
    if dataset.n_tokens < 2:
        raise UserError(
            f"the `{dataset.split}` split has only one token: there is nothing to predict",
            where=dataset.folder,
            fix="Hold out more text",
        )
    n_targets = dataset.n_tokens - 1
    if max_tokens is not None:
        n_targets = min(n_targets, max_tokens)
    tokens_a_batch = batch_windows * context_length
    for start in range(0, n_targets, tokens_a_batch):
        stop = min(start + tokens_a_batch, n_targets)
        tokens = dataset.stream(start, stop + 1)
        inputs = np.zeros(tokens_a_batch, dtype=np.int64)
        targets = np.full(tokens_a_batch, NO_TARGET, dtype=np.int64)
        inputs[: stop - start] = tokens[:-1]
        targets[: stop - start] = tokens[1:]
        shape = (batch_windows, context_length)
        yield torch.from_numpy(inputs).view(shape), torch.from_numpy(targets).view(shape)


def overlapping_windows(
    dataset: TokenDataset, context_length: int, batch_windows: int, stride: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of windows that predict a split from its beginning to its end with more context.

    Each window begins `stride` tokens after the one before it and predicts only the tokens that one did not
    reach, so every token but the first is predicted exactly once, and past the first window from at least
    `context_length - stride` tokens of context. It takes context_length / stride times the work.

    Args:
        dataset: the split.
        context_length: inputs a window.
        batch_windows: windows a batch.
        stride: new targets a window, at most `context_length`.

    Yields:
        As `sequential_windows` does.
    """
    assert 1 <= stride <= context_length
    tokens = dataset.stream(0, dataset.n_tokens)
    n_targets = len(tokens) - 1
    starts = np.arange(0, max(1, n_targets - context_length + stride), stride)
    padded = np.full(starts[-1] + context_length + 1, NO_TARGET, dtype=np.int64)
    padded[: len(tokens)] = tokens
    for first in range(0, len(starts), batch_windows):
        batch = starts[first : first + batch_windows]
        windows = padded[batch[:, None] + np.arange(context_length + 1)]
        inputs, targets = np.maximum(windows[:, :-1], 0), windows[:, 1:].copy()
        targets[batch > 0, : context_length - stride] = NO_TARGET
        yield torch.from_numpy(inputs), torch.from_numpy(targets)
