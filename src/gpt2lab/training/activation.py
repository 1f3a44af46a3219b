"""GELU of training on a CPU, by a C++ kernel.

PyTorch's and `torch.compile`'s take tanh from a library that is exact to the last bit, and slow for it: GELU
and its gradient are a fifth of a small model's step. `torch.compile` sees an operator it knows nothing of.
"""

from typing import Any

import torch
from torch import Tensor

from gpt2lab.model.gpt import GPT, MLP, gelu_new
from gpt2lab.training import cpu_kernels


def use_fast_gelu(model: GPT) -> None:
    """Let a model on a CPU compute GELU, where that is its activation, by our kernel if that can be had."""
    if cpu_kernels.kernels() is None:
        return
    for module in model.modules():
        if isinstance(module, MLP) and module.activate is gelu_new:
            module.activate = _gelu


@torch.library.custom_op("gpt2lab::gelu", mutates_args=())
def _gelu(x: Tensor) -> Tensor:
    return cpu_kernels.gelu(x)


@torch.library.custom_op("gpt2lab::gelu_backward", mutates_args=())
def _gelu_backward(x: Tensor, y_slopes: Tensor) -> Tensor:
    return cpu_kernels.gelu_backward(x, y_slopes)


@_gelu.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@_gelu_backward.register_fake
def _(x: Tensor, y_slopes: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _keep(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _slopes(ctx: Any, y_slopes: Tensor) -> Tensor:
    found: Tensor = _gelu_backward(*ctx.saved_tensors, y_slopes)
    return found


_gelu.register_autograd(_slopes, setup_context=_keep)
