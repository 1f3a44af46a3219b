"""float32 matrix products on a CPU through oneDNN, where PyTorch's own choice, MKL, is the slow one.

On AMD's processors MKL runs at about the speed of AVX2: on a Zen 5 oneDNN took two thirds of a training
step's time. PyTorch hands float32 products to oneDNN only if told that bfloat16 would do inside; on a
processor without bfloat16 tiles oneDNN computes them in float32 all the same, on others it really rounds.
So the setting is tried on one product first, and left alone where that is not exact. On Intel's processors
it is never needed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

_EXACT = 2e-6  # relative error of float32 sums of 512 products; of bfloat16 ones it is 2e-3


@contextmanager
def float32_products(device: torch.device) -> Iterator[None]:
    """Let float32 products on a CPU take the faster library, inside this."""
    settings = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = settings.fp32_precision
    if device.type == "cpu" and _made_by_amd() and _onednn_is_exact():
        settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


@cache
def _made_by_amd() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "AuthenticAMD" in cpuinfo.read_text()


@cache
def _onednn_is_exact() -> bool:
    """Whether float32 products stay float32 with the setting on."""
    generator = torch.Generator().manual_seed(0)
    # As many rows as in training: PyTorch 2.11 hands products of few to no other library.
    x, weight = torch.randn(512, 512, generator=generator), torch.randn(512, 512, generator=generator)
    settings = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before, settings.fp32_precision = settings.fp32_precision, "bf16"
    try:
        found = torch.nn.functional.linear(x, weight)
    finally:
        settings.fp32_precision = before
    exact = x.double() @ weight.double().T
    return bool((found - exact).norm() / exact.norm() < _EXACT)
