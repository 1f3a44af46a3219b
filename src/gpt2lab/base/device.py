"""Facts about the machine: which device to compute on, how much memory it has, what it is good at."""

import os
import platform
import resource
import shutil
import sys
from pathlib import Path
from typing import Literal

import torch

from gpt2lab.base.errors import UserError
from gpt2lab.base.machine import available_cores, available_main_memory

DeviceName = Literal["auto", "cpu", "cuda", "mps"]


def pick_device(name: DeviceName) -> torch.device:
    """The device to compute on; ``"auto"`` takes an NVIDIA GPU, else Apple's, else the CPU.

    Raises:
        UserError: the device asked for is not there.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    if not present[name]:
        raise UserError(
            f"device {name!r} is not available: this PyTorch ({torch.__version__}) does not see one",
            where="--device",
            fix="Use --device auto, or run `gpt2lab doctor` to see what there is",
        )
    return torch.device(name)


def device_label(device: torch.device) -> str:
    """The device's name as its maker gives it, for reports: ``"NVIDIA H200"``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"Apple GPU ({cpu_label()})" if device.type == "mps" else cpu_label()


def _cpuinfo(field: str) -> str:
    """The first value of `field` in /proc/cpuinfo; empty where there is none (macOS, for example)."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return ""
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == field:
            return value.strip()
    return ""


def cpu_label() -> str:
    """The processor's name and how many cores this process may use: ``"AMD EPYC 9B45, 2 cores"``."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    cores = available_cores()
    return f"{name}, {cores} core{'s' if cores > 1 else ''}"


def bf16_is_fast(device: torch.device) -> bool:
    """Whether bfloat16 matrix products beat float32 ones by hardware, not merely work.

    On a CPU that takes its own instructions (AVX-512 BF16, AMX, or Arm's bf16); without them bfloat16 is
    emulated and slower.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8  # Ampere and later
    if device.type == "mps":
        return False  # untested there, so float32
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


def cxx_compiler() -> str | None:
    """Path of the C++ compiler that `torch.compile` would use for CPU code, or None."""
    if os.environ.get("CXX"):
        return shutil.which(os.environ["CXX"])
    return next((found for name in ("g++", "clang++") if (found := shutil.which(name))), None)


def available_memory(device: torch.device) -> int:
    """Bytes that could still be allocated on `device`, within a container's limit if there is one."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return available_main_memory()


def peak_memory(device: torch.device) -> int:
    """Most bytes this process has held at once: on the GPU, or resident in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts kilobytes on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
