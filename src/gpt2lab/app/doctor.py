"""What this machine has, what fits on it, and what is missing: facts for `gpt2lab doctor`."""

import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

import gpt2lab
from gpt2lab.base.device import available_memory, bf16_is_fast, cxx_compiler, device_label, pick_device
from gpt2lab.base.progress import format_bytes
from gpt2lab.model.config import PRESETS, count_parameters

Verdict = Literal["ok", "note", "problem"]

# Bytes a parameter: float32 weights to generate; weights, gradients and AdamW's two numbers to train.
_GENERATE, _TRAIN = 4, 16
_LITTLE_DISK = 2_000_000_000


@dataclass(frozen=True)
class Finding:
    """One fact, whether it is good, and what to do about it."""

    name: str
    value: str
    verdict: Verdict = "ok"
    advice: str = ""


def diagnose(*, quick: bool = False) -> list[Finding]:
    """Everything worth knowing; `quick` leaves out what takes seconds: compiling and measuring."""
    device = pick_device("auto")
    findings = [*_versions(), *_hardware(device), *_tools()]
    if not quick:
        findings += [_compiles(), *_speed(device)]
    return [*findings, *_fits(device)]


def _versions() -> Iterator[Finding]:
    yield Finding("gpt2lab", gpt2lab.__version__)
    yield Finding("Python", platform.python_version())
    yield Finding("PyTorch", torch.__version__)


def _hardware(device: torch.device) -> Iterator[Finding]:
    yield Finding("computes on", device_label(device))
    yield Finding("threads", str(torch.get_num_threads()))
    if bf16_is_fast(device):
        yield Finding("bfloat16", "in hardware: training uses it")
    else:
        yield Finding("bfloat16", "not in hardware: training uses float32", "note")
    yield Finding("free memory", format_bytes(available_memory(device)))
    free = shutil.disk_usage(Path.cwd()).free
    if free < _LITTLE_DISK:
        yield Finding("free disk here", format_bytes(free), "problem", "Checkpoints may not fit: free some")
    else:
        yield Finding("free disk here", format_bytes(free))


def _tools() -> Iterator[Finding]:
    compiler = cxx_compiler()
    if compiler:
        yield Finding("C++ compiler", compiler)
    else:
        advice = "Install g++ and Python's headers: compiled training on a CPU is faster"
        yield Finding("C++ compiler", "none", "note", advice)
    if find_spec("fastokens"):
        yield Finding("bulk encoding", "fastokens")
    else:
        yield Finding("bulk encoding", "tiktoken", "note", "`pip install fastokens` is faster")
    if find_spec("gigatoken"):
        yield Finding("training vocabularies", "gigatoken")
    else:
        advice = "`pip install gpt2lab[fast]` is several times faster on much text"
        yield Finding("training vocabularies", "tokenizers", "note", advice)


def _compiles() -> Finding:
    """Whether torch.compile really works here: it takes a compiler, headers and a lot of luck."""
    started = time.perf_counter()
    try:
        torch.compile(lambda x: torch.sin(x) + 1)(torch.ones(8))
    except Exception as error:  # the compiler stack raises many kinds
        reason = str(error).strip().splitlines()[0]
        return Finding("torch.compile", f"fails: {reason}", "note", "Install g++ and Python's headers")
    return Finding("torch.compile", f"works (first use took {time.perf_counter() - started:.0f} s)")


def _speed(device: torch.device) -> Iterator[Finding]:
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        yield Finding(f"matrix products, {name}", f"{_matmul_rate(device, dtype) / 1e9:,.0f} GFLOP/s")
    yield Finding("reading memory", f"{_read_rate(device) / 1e9:,.0f} GB/s")


def _matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a 1,024 x 1,024 product."""
    left, right = torch.randn(2, 1024, 1024, device=device).to(dtype)
    return 2 * 1024**3 / _seconds_a_call(lambda: left @ right, device)


def _read_rate(device: torch.device) -> float:
    """Bytes a second when summing 256 MB, which no cache holds."""
    numbers = torch.ones(64_000_000, device=device)
    return 4 * numbers.numel() / _seconds_a_call(numbers.sum, device)


def _seconds_a_call(work: Callable[[], torch.Tensor], device: torch.device) -> float:
    """The fastest of the calls that fit into 0.3 s, after one to warm up."""
    work()
    best = float("inf")
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end:
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return best


def _fits(device: torch.device) -> Iterator[Finding]:
    memory = available_memory(device)
    for purpose, bytes_each in (("generating", _GENERATE), ("training", _TRAIN)):
        fitting = [n for n, config in PRESETS.items() if bytes_each * count_parameters(config) < 0.8 * memory]
        value = ", ".join(fitting) or "none of the published sizes"
        yield Finding(f"fits for {purpose}", f"{value} ({bytes_each} bytes a parameter, activations on top)")
