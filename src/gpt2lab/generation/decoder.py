"""What computes scores for the rows of a batch: the seam between the strategies and the engines under them.

A `Backend` is a model ready to be used: weights in some form on some device. It lends `Decoder`s. A decoder
is that model with a cache of keys and values: `n_rows` rows of `n_slots` slots, slot s of a row belonging to
the token at position s of that row's window. Nobody tells a decoder how much of a row is valid: each `feed`
says at which position its tokens begin, writes them from that slot on, and reads nothing behind them. So
tokens are taken back (speculation) by feeding others to the same slots, and a row is used anew by feeding
from 0.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT, KVCache


class Decoder(Protocol):
    """A model with a cache. Tensors it returns lie on any device, in any floating type."""

    def feed(
        self, first_row: int, tokens: Sequence[Sequence[int]], starts: Sequence[int], n_last: Sequence[int]
    ) -> Tensor:
        """Feed tokens to the rows `first_row`, `first_row + 1`, ...

        Args:
            first_row: the first of the rows, which stand next to one another.
            tokens: for each row one token or more.
            starts: for each row the position of its first token here; all slots before it hold the row's
                earlier tokens.
            n_last: for each row, of how many of its last tokens here the hidden states are wanted: from 1 to
                all of them.

        Returns:
            (N, C) hidden states after the last LayerNorm: those of the first row's last n_last[0] tokens,
            then the second row's, and so on; N = sum(n_last).
        """

    def logits(self, hidden_NC: Tensor) -> Tensor:
        """(N, V) scores of the token after each: the hidden states of `feed` times the output matrix."""

    def copy_row(self, source: int, target: int, start: int, stop: int) -> None:
        """Copy slots start to stop - 1 of row `source` to the same slots of row `target`."""


class Backend(Protocol):
    """A model that lends decoders; several may be in use at once."""

    config: ModelConfig

    def row_bytes(self, n_slots: int) -> int:
        """Bytes of keys and values of a row of `n_slots` slots."""

    def decoder(self, n_rows: int, n_slots: int) -> Decoder:
        """A decoder whose cache takes n_rows x row_bytes(n_slots) bytes, never more."""


class TorchBackend:
    """A `GPT` as it is, on its device and in its floating type; moved nowhere and changed in nothing."""

    def __init__(self, model: GPT) -> None:
        self.model = model
        self.config = model.config

    def row_bytes(self, n_slots: int) -> int:
        """See `Backend.row_bytes`."""
        return n_slots * 2 * self.config.n_layer * self.config.n_embd * self.model.wte.weight.element_size()

    def decoder(self, n_rows: int, n_slots: int) -> "TorchDecoder":
        """See `Backend.decoder`."""
        return TorchDecoder(self.model, n_rows, n_slots)


def backend_of(model: GPT | Backend) -> Backend:
    """The engine that computes a model's scores."""
    return TorchBackend(model) if isinstance(model, GPT) else model


class TorchDecoder:
    """A `Decoder` in plain PyTorch.

    Rows fed together are padded to the longest by repeating their last token at its own position: the same
    keys and values are written to the same slot once more, so padding needs no slot and harms none.
    """

    def __init__(self, model: GPT, n_rows: int, n_slots: int) -> None:
        weight = model.wte.weight
        self._model = model
        self._modules = list(model.modules())  # to look for them takes longer than a small model does
        with torch.inference_mode():
            self._cache = KVCache.allocate(
                model.config, n_rows, n_slots, device=weight.device, dtype=weight.dtype
            )

    def feed(
        self, first_row: int, tokens: Sequence[Sequence[int]], starts: Sequence[int], n_last: Sequence[int]
    ) -> Tensor:
        """See `Decoder.feed`."""
        device = self._model.wte.weight.device
        n_new = [len(row) for row in tokens]
        T = max(n_new)
        tokens_BT = torch.tensor([[*row, *[row[-1]] * (T - len(row))] for row in tokens], device=device)
        starts_B1 = torch.tensor(starts, device=device)[:, None]
        last_B1 = torch.tensor(n_new, device=device)[:, None] - 1
        positions_BT = starts_B1 + torch.arange(T, device=device).minimum(last_B1)
        n_slots = max(start + n for start, n in zip(starts, n_new, strict=True))
        with torch.inference_mode():
            hidden_BTC = self._hidden(first_row, n_slots, tokens_BT, positions_BT)
            if T == 1:
                return hidden_BTC[:, 0]
            kept = [hidden_BTC[b, n - k : n] for b, (n, k) in enumerate(zip(n_new, n_last, strict=True))]
            return torch.cat(kept)

    def _hidden(self, first_row: int, n_slots: int, tokens_BT: Tensor, positions_BT: Tensor) -> Tensor:
        """(B, T) ids at their positions, all below `n_slots` -> (B, T, C)."""
        cache = self._cache.part(slice(first_row, first_row + len(tokens_BT)), n_slots)
        with evaluating(self._modules):
            return self._model.hidden(tokens_BT, cache, positions_BT)

    def logits(self, hidden_NC: Tensor) -> Tensor:
        """See `Decoder.logits`."""
        with torch.inference_mode():
            logits_NV: Tensor = self._model.lm_head(hidden_NC)
        return logits_NV

    def copy_row(self, source: int, target: int, start: int, stop: int) -> None:
        """See `Decoder.copy_row`."""
        with torch.inference_mode():
            for cached_LBHSD in (self._cache.keys_LBHSD, self._cache.values_LBHSD):
                cached_LBHSD[:, target, :, start:stop] = cached_LBHSD[:, source, :, start:stop]


@contextmanager
def evaluating(modules: Iterable[torch.nn.Module]) -> Iterator[None]:
    """Switch off dropout inside the block, and put every module's mode back afterwards."""
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
