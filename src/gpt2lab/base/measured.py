"""What a device does at best, measured: matrix products and reading memory, in fractions of a second."""

import time
from collections.abc import Callable
from functools import cache, partial

import torch

from gpt2lab.base.device import device_label
from gpt2lab.base.float32 import float32_products
from gpt2lab.base.hardware import accelerator_named

_READ_BYTES = 256_000_000
_CPU_SIZE, _GPU_SIZE = 1024, 4096  # of square matrices: enough to keep the device busy
_MOMENT_S = 0.3


def products_per_second(device: torch.device, dtype: torch.dtype, moment_s: float = _MOMENT_S) -> float:
    """FLOP/s in the fastest of the square products that fit into a moment, made as training makes them."""
    size = _CPU_SIZE if device.type == "cpu" else _GPU_SIZE
    generator = torch.Generator().manual_seed(0)  # the program's own random numbers stay as they are
    left, right = torch.randn(2, size, size, generator=generator).to(device, dtype)
    with float32_products(device):
        return 2 * size**3 / _best_seconds(partial(torch.matmul, left, right), device, moment_s)


def bytes_read_per_second(device: torch.device) -> float:
    """Bytes/s in the product of a large matrix and a vector: generating reads each weight once, like this."""
    size = _CPU_SIZE if device.type == "cpu" else _GPU_SIZE
    weights = torch.ones(_READ_BYTES // 4 // size, size, device=device)
    return _READ_BYTES / _best_seconds(partial(torch.mv, weights, weights[0]), device, _MOMENT_S)


def peak_flops(device: torch.device, dtype: torch.dtype) -> tuple[float, str]:
    """What the device does at best in FLOP/s, and whence: published for known GPUs, else measured."""
    label = device_label(device)
    published = accelerator_named(label) if device.type == "cuda" else None
    if published and dtype == torch.bfloat16:
        return published.flops, published.source
    return _measured_peak(device, dtype, torch.get_num_threads()), "the fastest matrix product measured here"


@cache
def _measured_peak(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    return products_per_second(device, dtype, moment_s=0.1)


def _best_seconds(work: Callable[[], torch.Tensor], device: torch.device, moment_s: float) -> float:
    """The fastest of the calls that fit into a moment, after one to warm up."""

    def once() -> float:
        started = time.perf_counter()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return time.perf_counter() - started

    once()
    best, end = once(), time.perf_counter() + moment_s
    while time.perf_counter() < end:
        best = min(best, once())
    return best
