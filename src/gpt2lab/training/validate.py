"""How well a model predicts held-out text: nats per token, and bits per byte, which no tokenizer can bend."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2lab.data.dataset import TokenDataset
from gpt2lab.data.evaluation_windows import overlapping_windows
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import Tokenizer
from gpt2lab.training.loss import summed_loss
from gpt2lab.training.world import World

_TOKENS_AT_ONCE = 8192


@dataclass(frozen=True)
class Validation:
    """Loss over held-out tokens, each predicted once from what stands before it in its window."""

    nats: float
    n_tokens: int
    n_bytes: int | None

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood, nats per token."""
        return self.nats / self.n_tokens

    @property
    def bits_per_byte(self) -> float | None:
        """Total bits over the bytes the tokens stand for; None without a vocabulary to count bytes with.

        Document separators stand for no bytes, but the bits spent on predicting them count.
        """
        return self.nats / math.log(2) / self.n_bytes if self.n_bytes else None

    def added_up(self, world: World) -> "Validation":
        """All processes' parts together."""
        nats, n_tokens, n_bytes = world.total(self.nats, self.n_tokens, self.n_bytes or 0)
        return Validation(nats, int(n_tokens), None if self.n_bytes is None else int(n_bytes))


def bytes_of_tokens(tokenizer: Tokenizer) -> Tensor:
    """How many bytes of text each token id stands for, shape (V,)."""
    return torch.tensor([len(piece) for piece in tokenizer.token_bytes()])


def validate_all(model: GPT, dataset: TokenDataset, bytes_of_token_V: Tensor | None) -> Validation:
    """Score a whole split in float32; past the first window each token has at least half a context before it.

    Windows overlap by half: a model without any context before a window's first tokens would be measured
    mostly on having none.
    """
    context_length = model.config.context_length
    rows = max(1, _TOKENS_AT_ONCE // context_length)
    stride = max(1, context_length // 2)
    return validate(model, overlapping_windows(dataset, context_length, rows, stride), bytes_of_token_V)


@torch.no_grad()
def validate(
    model: GPT,
    batches: Iterable[tuple[Tensor, Tensor]],
    bytes_of_token_V: Tensor | None,
    dtype: torch.dtype = torch.float32,
) -> Validation:
    """Score held-out windows.

    Args:
        model: left in the mode (training or not) it came in.
        batches: (inputs_BT, targets_BT) pairs; targets of -100 do not count.
        bytes_of_token_V: how many bytes each token id stands for.
        dtype: precision of matrix products.
    """
    device = model.wte.weight.device
    was_training = model.training
    model.eval()
    nats, n_tokens, n_bytes = 0.0, 0, 0
    for inputs_BT, targets_BT in batches:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            nats += summed_loss(model, inputs_BT.to(device), targets_BT.to(device)).item()
        counted_N = targets_BT[targets_BT != -100]
        n_tokens += counted_N.numel()
        if bytes_of_token_V is not None:
            n_bytes += int(bytes_of_token_V[counted_N].sum())
    model.train(was_training)
    return Validation(nats, n_tokens, None if bytes_of_token_V is None else n_bytes)
