"""Which engine computes a model's scores: the CPU engine where there is one, else plain PyTorch."""

import sys
from functools import cache
from typing import Literal

import torch

from gpt2lab.base.device import bf16_is_fast
from gpt2lab.base.errors import UserError
from gpt2lab.generation.captured import CapturedBackend
from gpt2lab.generation.cpu_engine import CpuEngine
from gpt2lab.generation.decoder import Backend, TorchBackend
from gpt2lab.generation.kernels.build import BuildError
from gpt2lab.model.gpt import GPT

PrecisionChoice = Literal["auto", "float32", "bf16", "int8", "int4", "int4-fast"]

_QUANTISED = ("int8", "int4", "int4-fast")


def backend_for(model: GPT, device: torch.device, precision: PrecisionChoice) -> Backend:
    """The fastest engine for `model` on `device` in that precision.

    ``auto`` is bf16 on a CPU (the CPU engine) and on GPUs that compute in it, else float32. float32 is always
    PyTorch; on NVIDIA GPUs its decode step is captured. Where the CPU engine cannot be had, bf16 falls back
    to PyTorch in float32 and a line on standard error says why.

    Raises:
        UserError: a quantised precision where there is no CPU engine for them.
    """
    if device.type == "cpu" and precision != "float32":
        try:
            return CpuEngine(model, "bf16" if precision == "auto" else precision)
        except BuildError as error:
            if precision in _QUANTISED:
                raise UserError(
                    f"{precision} needs the CPU engine, and {error}",
                    where="precision",
                    fix="Install a C++ compiler (g++), or use --precision float32",
                ) from error
            _tell_once(f"computing in PyTorch, several times slower: {error}")
    if device.type != "cpu" and precision in _QUANTISED:
        raise UserError(
            f"{precision} is computed on CPUs only",
            where="precision",
            fix="Use --device cpu, or --precision bf16",
        )
    in_bf16 = precision == "bf16" or (precision == "auto" and bf16_is_fast(device))
    dtype = torch.bfloat16 if in_bf16 and device.type != "cpu" else torch.float32
    model = model.to(device, dtype)
    return CapturedBackend(model) if device.type == "cuda" else TorchBackend(model)


@cache
def _tell_once(line: str) -> None:
    """A line on standard error; a draft model has the same to say as the model it serves."""
    print(line, file=sys.stderr)
