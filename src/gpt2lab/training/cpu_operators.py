"""GELU and attention of training on a CPU, by C++ kernels: operators that `torch.compile` does not look into.

PyTorch's GELU, compiled or not, takes tanh from a library that is exact to the last bit, and slow for it: a
fifth of a small model's step. Its attention's gradient is a quarter of one at 256 tokens. Ours, which needs
AMX or AVX-512's products of bfloat16, reads queries, keys and values where one product has written them, and
writes their gradients likewise.
"""

from typing import Any

import torch
from torch import Tensor

from gpt2lab.model.gpt import GPT, MLP, Attention, gelu_new
from gpt2lab.training import cpu_kernels


def use_cpu_operators(model: GPT) -> None:
    """Let a model on a CPU use our operators, where it asks for what they do and their kernels can be had."""
    if cpu_kernels.kernels() is None:
        return
    for module in model.modules():
        if isinstance(module, MLP) and module.activate is gelu_new:
            module.activate = _gelu
        if isinstance(module, Attention) and fused_attention(module.dropout):
            module.attend = _FusedAttention(module)  # type: ignore[method-assign]


def fused_attention(dropout: float) -> bool:
    """Whether attention of bfloat16 numbers is ours here."""
    return dropout == 0 and cpu_kernels.has_products()


class _FusedAttention:
    """`Attention.attend` by our operator; other precisions go the model's way."""

    def __init__(self, attention: Attention) -> None:
        self.n_head, self.scale, self.otherwise = attention.n_head, attention.scale, attention.attend

    def __call__(self, qkv_BTE: Tensor) -> Tensor:
        if qkv_BTE.dtype != torch.bfloat16:
            return self.otherwise(qkv_BTE)
        y_BTC: Tensor = _attention(qkv_BTE, self.n_head, self.scale)
        return y_BTC


@torch.library.custom_op("gpt2lab::gelu", mutates_args=())
def _gelu(x: Tensor) -> Tensor:
    return cpu_kernels.gelu(x)


@torch.library.custom_op("gpt2lab::gelu_backward", mutates_args=())
def _gelu_backward(x: Tensor, y_slopes: Tensor) -> Tensor:
    return cpu_kernels.gelu_backward(x, y_slopes)


@torch.library.custom_op("gpt2lab::attention", mutates_args=())
def _attention(qkv_BTE: Tensor, n_head: int, scale: float) -> Tensor:
    return cpu_kernels.attention(qkv_BTE, n_head, scale)


@torch.library.custom_op("gpt2lab::attention_backward", mutates_args=())
def _attention_backward(qkv_BTE: Tensor, y_slopes_BTC: Tensor, n_head: int, scale: float) -> Tensor:
    return cpu_kernels.attention_backward(qkv_BTE, y_slopes_BTC, n_head, scale)


@_gelu.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@_gelu_backward.register_fake
def _(x: Tensor, y_slopes: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@_attention.register_fake
def _(qkv_BTE: Tensor, n_head: int, scale: float) -> Tensor:
    B, T, E = qkv_BTE.shape
    return qkv_BTE.new_empty(B, T, E // 3)


@_attention_backward.register_fake
def _(qkv_BTE: Tensor, y_slopes_BTC: Tensor, n_head: int, scale: float) -> Tensor:
    return qkv_BTE.new_empty(qkv_BTE.shape)


def _keep_x(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _x_slopes(ctx: Any, y_slopes: Tensor) -> Tensor:
    found: Tensor = _gelu_backward(*ctx.saved_tensors, y_slopes)
    return found


def _keep_qkv(ctx: Any, inputs: tuple[Tensor, int, float], output: Tensor) -> None:
    qkv_BTE, *ctx.settings = inputs
    ctx.save_for_backward(qkv_BTE)


def _qkv_slopes(ctx: Any, y_slopes_BTC: Tensor) -> tuple[Tensor, None, None]:
    return _attention_backward(*ctx.saved_tensors, y_slopes_BTC, *ctx.settings), None, None


_gelu.register_autograd(_x_slopes, setup_context=_keep_x)
_attention.register_autograd(_qkv_slopes, setup_context=_keep_qkv)
