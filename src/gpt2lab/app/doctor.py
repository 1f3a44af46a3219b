"""What this machine has, what fits on it, and what is missing: facts for `gpt2lab doctor`."""

import os
import platform
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub.constants import HF_HUB_CACHE

import gpt2lab
from gpt2lab.base import device as machine
from gpt2lab.base.machine import available_cores
from gpt2lab.base.measured import bytes_read_per_second, products_per_second
from gpt2lab.base.progress import format_bytes, format_duration
from gpt2lab.model.config import PRESETS, count_parameters
from gpt2lab.tokenizer import ByteLevelTokenizer, byte_alphabet
from gpt2lab.tokenizer.vocabulary import Vocabulary
from gpt2lab.training.forecast import Probe, by_tiles, tokens_per_second
from gpt2lab.training.memory import Placing, memory_plan

Verdict = Literal["ok", "note", "problem"]
Group = Literal["software", "hardware", "speed", "what fits"]

# Bytes a parameter in float32.
_WEIGHTS = 4
_BATCH_TOKENS = 524_288  # of a step of the published recipes
_DEMO_MEMORY = 1_500_000_000  # at its peak 0.85 GB were measured, and the compiler's workers come on top
_DEMO_DISK = 100_000_000  # 45 MB were measured
_COMPILING_GIVEN_UP_S = 300
_CPU_FEATURES = {  # as torch.cpu.get_capabilities() calls them
    **{"avx2": "AVX2", "avx512_f": "AVX-512", "avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX"},
    **{"neon": "NEON", "bf16": "Arm BF16", "sve": "SVE"},
}
_INSTALL_COMPILER = (
    "Install g++ and Python's headers (Debian and Ubuntu: apt-get install g++ python3-dev; macOS: "
    "xcode-select --install): compiled training steps take less time"
)


@dataclass(frozen=True)
class Finding:
    """One fact about this machine.

    Args:
        group: what it is about.
        name: what was looked at.
        value: what was found, in words, with units.
        verdict: "ok"; "note" if it could be better; "problem" if it will get in the way.
        advice: what to do about it, and what that would buy.
        numbers: the figures in it, for programs; bytes, bytes/s, FLOP/s or tokens/s, as the key says.
    """

    group: Group
    name: str
    value: str
    verdict: Verdict = "ok"
    advice: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Speed:
    """What a device does at best: FLOP/s in matrix products, bytes/s read from memory."""

    float32: float
    bfloat16: float
    read: float


def diagnose(*, quick: bool = False) -> list[Finding]:
    """Everything worth knowing, in groups; `quick` leaves out what takes seconds: compiling and measuring."""
    device = machine.pick_device("auto")
    findings = [
        *_versions(),
        *_compiler(device, quick=quick),
        *_tokenizers(),
        *_devices(device),
        _processor(),
    ]
    findings += [_memory(), *_disks()]
    speed = None if quick else measure_speed(device)
    if speed:
        findings += _speeds(device, speed)
    return [*findings, *_fits(device, speed)]


def _versions() -> Iterator[Finding]:
    yield Finding("software", "gpt2lab", gpt2lab.__version__)
    yield Finding("software", "Python", platform.python_version())
    yield Finding("software", "PyTorch", torch.__version__)


def _compiler(device: torch.device, *, quick: bool) -> Iterator[Finding]:
    path = machine.cxx_compiler()
    if path:
        yield Finding("software", "C++ compiler", path)
    else:
        yield Finding("software", "C++ compiler", "none: training runs uncompiled", "note", _INSTALL_COMPILER)
    if not quick and (path or device.type != "cpu"):
        yield _compiles(device)


def _compiles(device: torch.device) -> Finding:
    """Whether torch.compile works, found out by using it, in a process of its own lest it hang or crash."""
    started = time.monotonic()
    failure = compile_failure(device)
    if failure:
        return Finding("software", "torch.compile", f"fails: {failure}", "note", _INSTALL_COMPILER)
    return Finding(
        "software", "torch.compile", f"works (tried in {format_duration(time.monotonic() - started)})"
    )


def compile_failure(device: torch.device) -> str:
    """Why a small function and its derivative cannot be compiled on `device`; empty if they can."""
    # A constant never seen before makes code that no cache holds.
    program = f"""
import torch
function = torch.compile(lambda x: (torch.sin(x) * {time.time()!r}).sum())
function(torch.ones(64, device={str(device)!r}, requires_grad=True)).backward()
"""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", program],
            capture_output=True,
            text=True,
            timeout=_COMPILING_GIVEN_UP_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {_COMPILING_GIVEN_UP_S} s"
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    # The C++ compiler's own words say most, then the exception's; the last line is mere advice.
    telling = [line for sign in ("fatal error:", "Error: ") for line in lines if sign in line]
    return (telling + lines[-1:] + [f"exit code {done.returncode}"])[0]


def _tokenizers() -> Iterator[Finding]:
    """Which library encodes text in bulk, found out by encoding, and which one learns vocabularies."""
    end = "<|endoftext|>"
    vocabulary = Vocabulary("gpt2", (*byte_alphabet.CHARACTERS, end), (), {end: 256})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ByteLevelTokenizer(vocabulary).encode_batch(["text"])
    if caught:
        advice = "Install fastokens again (pip install fastokens): encoding becomes about ten times faster"
        yield Finding("software", "bulk encoding", f"tiktoken: {caught[0].message}", "note", advice)
    else:
        yield Finding("software", "bulk encoding", "fastokens, checked against tiktoken")
    if find_spec("gigatoken"):
        yield Finding("software", "learning vocabularies", "gigatoken")
    else:
        advice = 'pip install "gpt2lab[fast]" makes it several times faster on 100 MB of text or more'
        yield Finding("software", "learning vocabularies", "tokenizers", "note", advice)


def _devices(device: torch.device) -> Iterator[Finding]:
    if device.type == "cuda":
        for index in range(torch.cuda.device_count()):
            gpu = torch.device("cuda", index)
            free, label = machine.available_memory(gpu), machine.device_label(gpu)
            value = f"{label}, {format_bytes(free)} of memory free"
            yield Finding("hardware", f"GPU {index}", value, numbers={"free_bytes": free})
    elif device.type == "mps":
        yield Finding("hardware", "GPU", machine.device_label(device))
    elif shutil.which("nvidia-smi"):
        advice = "If nvidia-smi shows a GPU, install PyTorch's CUDA build in the place of this one"
        value = "there is an NVIDIA driver, but this PyTorch cannot use a GPU"
        yield Finding("hardware", "GPU", value, "problem", advice)
    else:
        advice = "The demo and small models do well without; training GPT-2's published sizes takes one"
        yield Finding("hardware", "GPU", "none that PyTorch sees; computing on the CPU", "note", advice)


def _processor() -> Finding:
    present = torch.cpu.get_capabilities()
    features = [name for key, name in _CPU_FEATURES.items() if present.get(key)]
    value = f"{machine.cpu_label()}; {', '.join(features) or 'no vector instructions known'}"
    if machine.bf16_is_fast(torch.device("cpu")):
        return Finding("hardware", "CPU", value, numbers={"cores": available_cores()})
    advice = "No bfloat16 in hardware (AVX-512 BF16, AMX or Arm BF16), which would speed up matrix products"
    return Finding("hardware", "CPU", f"{value}; training uses float32", "note", advice)


def _memory() -> Finding:
    free = machine.available_memory(torch.device("cpu"))
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    value = f"{format_bytes(free)} free of {format_bytes(total)}"
    numbers = {"free_bytes": free, "total_bytes": total}
    if free < _DEMO_MEMORY:
        advice = f"The demo takes up to {format_bytes(_DEMO_MEMORY)}: close other programs"
        return Finding("hardware", "memory", value, "problem", advice, numbers)
    return Finding("hardware", "memory", value, numbers=numbers)


def _disks() -> Iterator[Finding]:
    here, cache = Path.cwd(), Path(HF_HUB_CACHE)
    xl = _WEIGHTS * count_parameters(PRESETS["gpt2-xl"])
    demo = f"The demo writes up to {format_bytes(_DEMO_DISK)} here: free some space, or use another folder"
    hub = f"The largest published model, gpt2-xl, takes {format_bytes(xl)}; HF_HOME moves this cache"
    yield _disk("disk, this folder", here, _DEMO_DISK, "problem", demo)
    yield _disk("disk, downloaded models", cache, xl, "note", hub)


def _disk(name: str, folder: Path, enough: int, verdict: Verdict, advice: str) -> Finding:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    value = f"{format_bytes(free)} free in {folder}"
    numbers = {"free_bytes": free}
    if free < enough:
        return Finding("hardware", name, value, verdict, advice, numbers)
    return Finding("hardware", name, value, numbers=numbers)


def measure_speed(device: torch.device) -> Speed:
    """Time products of square matrices, and of a large matrix and a vector; about a second in all."""
    return Speed(
        float32=products_per_second(device, torch.float32),
        bfloat16=products_per_second(device, torch.bfloat16),
        read=bytes_read_per_second(device),
    )


def _speeds(device: torch.device, speed: Speed) -> Iterator[Finding]:
    def products(name: str, rate: float, verdict: Verdict = "ok", advice: str = "") -> Finding:
        value = f"{rate / 1e9:,.0f} GFLOP/s"
        return Finding("speed", f"matrix products, {name}", value, verdict, advice, {"flop_per_s": rate})

    yield products("float32", speed.float32)
    if machine.bf16_is_fast(device) and speed.bfloat16 < speed.float32:
        advice = "Training takes bfloat16 by itself on such hardware; --precision float32 may be faster here"
        yield products("bfloat16", speed.bfloat16, "note", advice)
    else:
        yield products("bfloat16", speed.bfloat16)
    reading = {"bytes_per_s": speed.read}
    yield Finding("speed", "reading memory", f"{speed.read / 1e9:,.0f} GB/s", numbers=reading)


def _fits(device: torch.device, speed: Speed | None) -> Iterator[Finding]:
    """For every published size what it takes to generate and to train, and how fast that would be.

    To generate a token all weights are read once; training is what
    `training.memory` and `training.forecast` estimate.
    """
    free = machine.available_memory(device)
    rule = (
        f"to generate {_WEIGHTS} bytes a parameter (float32 weights); to train weights, gradients, AdamW's "
        f"state, and what one sequence of a full context leaves for the backward pass; {format_bytes(free)} "
        "free here"
    )
    if speed:
        rule += (
            ". Speeds: generating at most, as reading memory allows; training as `train --dry-run` estimates"
        )
    yield Finding("what fits", "rule", rule, numbers={"free_bytes": free})
    fast = machine.bf16_is_fast(device)
    placing = Placing(
        1,
        precision="bfloat16" if fast else "float32",
        device=device.type,
        compiled=device.type != "cpu" or machine.cxx_compiler() is not None,
    )
    for name, config in PRESETS.items():
        parameters = count_parameters(config)
        generating, training = _WEIGHTS * parameters, memory_plan(config, placing).total
        numbers: dict[str, float] = {"parameters": parameters, "generating_bytes": generating}
        numbers["training_bytes"] = training
        if speed:
            rate = speed.bfloat16 if fast else speed.float32
            timed = Probe(rate, speed.read, by_tiles(device, placing.precision))
            numbers["generating_tokens_per_s"] = speed.read / generating
            numbers["training_tokens_per_s"] = tokens_per_second(config, _BATCH_TOKENS, placing, timed)
        generates, trains = generating <= free, training <= free
        value = "; ".join(_purposes(numbers, {"generating": generates, "training": trains}))
        verdict: Verdict = "ok" if generates and trains else "note"
        yield Finding("what fits", name, value, verdict, numbers=numbers)


def _purposes(numbers: dict[str, float], fits: dict[str, bool]) -> Iterator[str]:
    """``"training 3.4 GB, about 690 tokens/s"``, or that it does not fit."""
    for purpose, fitting in fits.items():
        size, rate = format_bytes(numbers[f"{purpose}_bytes"]), numbers.get(f"{purpose}_tokens_per_s")
        if not fitting:
            yield f"{purpose} {size}, does not fit"
        elif rate is None:
            yield f"{purpose} {size}"
        else:
            digits = 0 if rate >= 10 else 1
            about = "up to" if purpose == "generating" else "about"
            yield f"{purpose} {size}, {about} {rate:,.{digits}f} tokens/s"
