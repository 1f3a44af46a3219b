"""One optimizer step: gradients of a global batch, gathered micro-batch by micro-batch, then an update."""

import ctypes
import hashlib
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpt2lab.base.float32 import float32_products
from gpt2lab.data.loader import BatchLoader
from gpt2lab.training.cpu_operators import use_cpu_operators
from gpt2lab.training.loss import summed_loss
from gpt2lab.training.optimizer import Optimizers
from gpt2lab.training.parallel import LossFunction, Placement, micro_batches_of
from gpt2lab.training.spikes import SpikeWatch
from gpt2lab.training.world import sum_over

_SHORT_CONTEXT = 128
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_KEPT_BYTES = (1 << 30, 1 << 25)  # blocks up to this size; older versions of glibc refuse more than 32 MiB


def compiled_loss() -> LossFunction:
    """`summed_loss` through torch.compile, one graph a shape."""
    compiled: LossFunction = torch.compile(summed_loss, dynamic=False)
    return compiled


@contextmanager
def determinism(on: bool) -> Iterator[None]:
    """Let PyTorch use only kernels that give the same bits every time; restores the setting afterwards.

    Compiled CPU code needs this too. On an NVIDIA GPU cuBLAS must have been told of a fixed workspace before
    its first product, or PyTorch refuses to call it. Filling fresh memory with NaN, which PyTorch adds to
    find reads of uninitialised memory, would cost time and change nothing, so it is left off.
    """
    before = torch.are_deterministic_algorithms_enabled()
    filled_before = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(on)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        with _choices_without_timing(on and torch.cuda.is_available()):
            yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled_before  # type: ignore[attr-defined]


@contextmanager
def _choices_without_timing(on: bool) -> Iterator[None]:
    """Let the compiler choose no GPU kernel by timing several: a resumption might come to another choice."""
    if not on:
        yield
        return
    from torch._inductor import config

    # PyTorch 2.11 to 2.13 have it; it is not documented.
    with config.patch(deterministic=True) if hasattr(config, "deterministic") else nullcontext():
        yield


@dataclass(frozen=True)
class StepOutcome:
    """What a step did: mean loss (nats per token) and gradient norm, both before the update."""

    loss: float
    gradient_norm: float
    spike: str = ""  # what stands out from earlier steps

    @property
    def not_finite(self) -> str:
        """What is no number; empty if all are."""
        if not math.isfinite(self.loss):
            return f"the loss is {self.loss}"
        return "" if math.isfinite(self.gradient_norm) else f"the gradient norm is {self.gradient_norm}"

    @property
    def skipped(self) -> str:
        """Why the weights were left alone; empty if they were updated."""
        return self.not_finite or self.spike


def keep_freed_memory(device: torch.device) -> None:
    """Let this process keep the memory that tensors in main memory give back, for the next ones.

    The C library hands large blocks back to the system at once, which clears them anew for the next tensor:
    at GPT-2's sizes a tenth of a step. Where the C library has no such setting nothing is changed.
    """
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        return
    with suppress(AttributeError, OSError):  # musl has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        # Without the first the second would do harm: it fixes the other threshold where that stands, low.
        if any(mallopt(_MMAP_THRESHOLD, size) for size in _KEPT_BYTES):
            mallopt(_TRIM_THRESHOLD, 2**31 - 4096)


def plain_attention(device: torch.device, context_length: int) -> bool:
    """Whether `scaled_dot_product_attention` is to be made of plain matrix products.

    On a CPU these, whose (T, T) scores then fit the cache, are faster for short contexts: at T = 128 the
    whole step of a small model by a quarter. At T = 256 PyTorch's fused kernel is as fast and keeps none.
    Both matter only where `cpu_operators` has no attention of its own.
    """
    return device.type == "cpu" and context_length <= _SHORT_CONTEXT


def _seed_of(*numbers: int) -> int:
    """A 64-bit seed that differs for every tuple of numbers and never changes between versions."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "big")


class TrainingStep:
    """Takes steps on one model; step numbers alone decide data and dropout, so any step can be repeated."""

    def __init__(
        self,
        placement: Placement,
        optimizers: Optimizers,
        loader: BatchLoader,
        *,
        micro_batch: int,
        seed: int,
        clip_norm: float,
        dtype: torch.dtype,
        spikes_above: float = 0.0,
    ) -> None:
        self.placement = placement
        self.model = placement.model
        self.optimizers = optimizers
        self.loader = loader
        self.micro_batch = micro_batch
        self._seed = seed
        self._clip_norm = clip_norm
        self.dtype = dtype
        self.spikes = SpikeWatch(spikes_above)
        self.loss: LossFunction = summed_loss
        self.device = self.model.wte.weight.device
        if self.device.type == "cpu":
            use_cpu_operators(self.model)

    def take(self, step: int, learning_rate_factor: float) -> StepOutcome:
        """Learn from global batch number `step`; one that is not finite, or a spike, changes nothing."""
        outcome = self._gradients(step)
        if outcome.skipped:
            self.optimizers.zero_grad()
        else:
            self.optimizers.step(learning_rate_factor)
        return outcome

    def _gradients(self, step: int) -> StepOutcome:
        """Fill every parameter's gradient with that of the mean loss, clipped to the norm limit."""
        world, (_, n_windows) = self.placement.world, self.loader.sizes.span(step)
        n_targets = n_windows * self.loader.context_length
        total = torch.zeros((), device=self.device)
        for number, last, batch in micro_batches_of(self.loader, step, self.micro_batch, world):
            # Dropout's randomness follows from the step, not from what ran before: a resumed run repeats it.
            torch.manual_seed(_seed_of(self._seed, step, number * world.size + world.rank))
            with self.placement.accumulating(last):
                total += self._backward(*batch, n_targets)
        loss, norm = sum_over(world, total).item(), self.placement.clip_gradients(self._clip_norm).item()
        return StepOutcome(loss, norm, self.spikes.verdict(loss, norm))

    def rehearse(self, *, last: bool = True) -> None:
        """Run forward and backward once, so that whatever is compiled is compiled; changes nothing.

        Args:
            last: as the last micro-batch of a step, after which processes add up their gradients.
        """
        _, n_windows = self.loader.sizes.span(0)
        rows = min(self.micro_batch, math.ceil(n_windows / self.placement.world.size))
        zeros_BT = torch.zeros(rows, self.loader.context_length, dtype=torch.int64)
        with self.placement.accumulating(last):
            self._backward(zeros_BT, zeros_BT.clone(), zeros_BT.numel())  # one twice would compile otherwise
        self.optimizers.zero_grad()

    def _backward(self, inputs_BT: Tensor, targets_BT: Tensor, n_targets: int) -> Tensor:
        """Add the gradient of these rows' share of the mean loss over `n_targets`; returns that share."""
        inputs_BT, targets_BT = (self._on_device(tokens) for tokens in (inputs_BT, targets_BT))
        autocast = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
        plain = plain_attention(self.device, inputs_BT.size(1))
        attention = sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()
        with float32_products(self.device):
            with autocast, attention:
                loss = self.placement.loss(self.loss, inputs_BT, targets_BT) / n_targets
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _on_device(self, tokens_BT: Tensor) -> Tensor:
        """A copy; to a GPU from pinned memory, so that this process need not wait for it to be idle."""
        if self.device.type != "cuda":
            return tokens_BT.to(self.device)
        return tokens_BT.pin_memory().to(self.device, non_blocking=True)
