"""Sequences of different lengths that are decoded together, joining and leaving as they please.

There is no left padding. A row's token at position p lies in slot p of the row's cache, whatever its
neighbours do; rows that are encoded together are padded on the right, and the padding's keys and values are
overwritten by the row's own later tokens before anything may look at them (a token sees only slots up to its
own position). Rows are kept in two runs, so that both are slices of the cache and nothing is copied:

    rows[:n_encoded]   all but their newest token is in the cache: decoded, one token a row
    rows[n_encoded:]   not in the cache yet: encoded whole

A row longer than the context cannot go on with a shifted cache, because its keys and values were computed
for positions they no longer have. It keeps the last half of the context and is encoded anew, which is what
a fresh model would say of that window.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from gpt2lab.model.gpt import GPT, KVCache

_TOKENS_AT_ONCE = 8192  # padding included, when encoding: bounds the memory of the activations


@dataclass
class Row:
    """One sequence: the tokens the model sees of it, and how often its beginning was dropped."""

    tokens: list[int]
    n_restarts: int = 0


R = TypeVar("R", bound=Row)


class Batch(Generic[R]):
    """Rows that share a model and a cache.

    The caller appends one token to `rows[i].tokens` for each row of `next_logits`, lets rows join and leave,
    and asks again.

    Args:
        model: moved nowhere and changed in nothing.
        n_rows: most rows at any time.
        n_slots: most tokens a row will hold, up to the model's context length.
    """

    def __init__(self, model: GPT, n_rows: int, n_slots: int) -> None:
        weight = model.wte.weight
        self.model = model
        self.rows: list[R] = []
        self._n_encoded = 0
        with torch.inference_mode():
            self._cache = KVCache.allocate(
                model.config, n_rows, n_slots, device=weight.device, dtype=weight.dtype
            )

    def join(self, row: R) -> None:
        """Add a row; it is encoded by the next `next_logits`."""
        self.rows.append(row)

    def leave(self, index: int) -> R:
        """Take out a row. The others close the gap, so their indices may change."""
        row = self.rows[index]
        if index < self._n_encoded:
            last = self._n_encoded = self._n_encoded - 1
            with torch.inference_mode():
                self._cache.keys_LBHSD[:, index] = self._cache.keys_LBHSD[:, last]
                self._cache.values_LBHSD[:, index] = self._cache.values_LBHSD[:, last]
            self.rows[index], index = self.rows[last], last
        self.rows[index] = self.rows[-1]
        self.rows.pop()
        return row

    def next_logits(self) -> Tensor:
        """(B, V) scores of the token after the last of each of `rows`, whose order may have changed."""
        self._restart_overlong()
        n_encoded, n_rows = self._n_encoded, len(self.rows)
        logits = []
        with torch.inference_mode(), evaluating(self.model):
            if n_encoded:
                decoded = self.rows[:n_encoded]
                newest = [row.tokens[-1:] for row in decoded]
                logits.append(self._run(0, newest, [len(row.tokens) - 1 for row in decoded]))
            if n_encoded < n_rows:
                longest = max(len(row.tokens) for row in self.rows[n_encoded:])
                at_once = max(1, _TOKENS_AT_ONCE // longest)
                for first in range(n_encoded, n_rows, at_once):
                    new = [row.tokens for row in self.rows[first : first + at_once]]
                    logits.append(self._run(first, new, [0] * len(new)))
        self._n_encoded = n_rows
        return torch.cat(logits)

    def _restart_overlong(self) -> None:
        context_length = self.model.config.context_length
        for index in reversed(range(self._n_encoded)):
            if len(self.rows[index].tokens) > context_length:
                row = self.leave(index)
                row.tokens = row.tokens[-max(1, context_length // 2) :]
                row.n_restarts += 1
                self.join(row)

    def _run(self, first_row: int, new: Sequence[list[int]], starts: list[int]) -> Tensor:
        """Feed `new[b]`, from position `starts[b]` on, to cache row `first_row + b`; (B, V) last scores."""
        device = self.model.wte.weight.device
        n_new = [len(tokens) for tokens in new]
        T = max(n_new)
        tokens_BT = torch.tensor([tokens + [0] * (T - len(tokens)) for tokens in new], device=device)
        starts_B1 = torch.tensor(starts, device=device)[:, None]
        positions_BT = starts_B1 + torch.arange(T, device=device)
        cache = self._cache.rows(slice(first_row, first_row + len(new)))
        hidden_BTC = self.model.hidden(tokens_BT, cache, positions_BT)
        rows_B = torch.arange(len(new), device=device)
        last_B = torch.tensor(n_new, device=device) - 1
        logits_BV: Tensor = self.model.lm_head(hidden_BTC[rows_B, last_B])
        return logits_BV


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Switch off dropout inside the block, and put every module's mode back afterwards."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
