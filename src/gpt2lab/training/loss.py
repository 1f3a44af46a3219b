"""The loss of a model's last hidden states, without ever holding the logits of all tokens in full precision.

The output matrix is large (50,257 rows), and a token's logits are as many numbers. So tokens go through it a
chunk at a time, and where gradients are wanted they are made at once: logits, loss, the logits' gradient in
their place, and from it those of hidden states and output matrix; the logits are then forgotten. The backward
pass only scales what is there. Logits are in the precision of matrix products, sums in float32.

On a CPU this is an operator of its own, of C++ kernels where there are any (`cpu_kernels`); on a GPU plain
PyTorch, which `torch.compile` fuses. Inside, the vocabulary is padded: to a multiple of 32 on a CPU, of 64 on
a GPU, whose products of unaligned rows (GPT-2's 50,257 is odd) take several times as long.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from gpt2lab.model.gpt import GPT
from gpt2lab.training import cpu_kernels

CPU_CHUNK, GPU_CHUNK = 1024, 4096  # tokens whose logits are there at once
_GPU_WORDS = 64  # what the vocabulary is padded to a multiple of
_WORDS = 4096  # of the vocabulary, whose share of a chunk's gradient then stays in a CPU's caches


def summed_loss(model: GPT, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """Sum over tokens of -log p(target), in nats; targets of -100 do not count."""
    x_NC, weight_VC = model.hidden(inputs_BT).flatten(0, 1), model.lm_head.weight
    device = x_NC.device.type
    if torch.is_autocast_enabled(device):
        x_NC = x_NC.to(torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):
        if device == "cpu":
            loss: Tensor = _cpu_head(x_NC, weight_VC, targets_BT.flatten(), torch.is_grad_enabled())[0]
        else:
            loss = _ChunkedHead.apply(  # type: ignore[no-untyped-call]
                x_NC, weight_VC, targets_BT.flatten(), torch.is_grad_enabled()
            )
    return loss


@torch.library.custom_op("gpt2lab::head_loss", mutates_args=())
def _cpu_head(
    x_NC: Tensor, weight_VC: Tensor, targets_N: Tensor, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Summed loss and, if asked for, its gradients for `x_NC` and `weight_VC`."""
    (N, C), V = x_NC.shape, weight_VC.size(0)
    padded_NV = x_NC.new_empty(min(N, CPU_CHUNK), -(-V // 32) * 32)
    padded_NV[:, V:] = 0  # oneDNN may read it
    logits_NV = padded_NV[:, :V]
    weight_gradient_VC = torch.empty_like(weight_VC if gradient else weight_VC[:0])
    x_gradient_NC = torch.empty((N, C) if gradient else (0, C), dtype=torch.float32)
    losses = []
    for start in range(0, N, CPU_CHUNK):
        chunk = slice(start, start + CPU_CHUNK)
        x, targets = x_NC[chunk], targets_N[chunk]
        logits = logits_NV[: x.size(0)]
        _product(x, weight_VC.T, logits)
        losses.append(cpu_kernels.softmax_losses(logits, targets, gradient=gradient))
        for first in range(0, V if gradient else 0, _WORDS):
            words = slice(first, first + _WORDS)
            slopes = logits[:, words]
            _product(slopes, weight_VC[words], x_gradient_NC[chunk], add=first > 0)
            _product(slopes.T, x, weight_gradient_VC[words], add=start > 0)
    return torch.cat(losses).sum().float(), x_gradient_NC.to(x_NC.dtype), weight_gradient_VC


def _product(a: Tensor, b: Tensor, out: Tensor, *, add: bool = False) -> None:
    """a b into `out`, or added to it, in the precision of `a`."""
    if torch.bfloat16 in (a.dtype, b.dtype):
        cpu_kernels.product(a, b, out, add=add)
    else:
        torch.addmm(out, a, b, beta=float(add), out=out)


@_cpu_head.register_fake
def _(x_NC: Tensor, weight_VC: Tensor, targets_N: Tensor, gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
    loss = x_NC.new_empty((), dtype=torch.float32)
    if not gradient:
        return loss, torch.empty_like(x_NC[:0]), torch.empty_like(weight_VC[:0])
    return loss, torch.empty_like(x_NC), torch.empty_like(weight_VC)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _scale(ctx: Any, slope: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
    x_gradient_NC, weight_gradient_VC = ctx.saved_tensors
    return x_gradient_NC * slope, weight_gradient_VC * slope, None, None


_cpu_head.register_autograd(_scale, setup_context=_keep)


class _ChunkedHead(torch.autograd.Function):
    """The same in plain PyTorch."""

    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, weight_VC: Tensor, targets_N: Tensor, gradient: bool) -> Tensor:
        V, C = weight_VC.shape
        weight_PC = pad(weight_VC.to(x_NC.dtype), (0, 0, 0, -V % _GPU_WORDS))
        loss = torch.zeros((), device=x_NC.device)
        x_gradient_NC = torch.empty_like(x_NC if gradient else x_NC[:0])
        weight_gradient_PC = weight_VC.new_zeros(weight_PC.size(0) if gradient else 0, C)
        for start in range(0, x_NC.size(0), GPU_CHUNK):
            chunk = slice(start, start + GPU_CHUNK)
            x, targets = x_NC[chunk], targets_N[chunk]
            logits_NP = x @ weight_PC.T
            logits_NP[:, V:] = -math.inf
            log_p = logits_NP.float().log_softmax(-1)
            counts, at = targets[:, None] >= 0, targets.clamp(min=0)[:, None]
            loss -= (log_p.gather(1, at) * counts).sum()
            if gradient:
                here = torch.arange(weight_PC.size(0), device=at.device) == at
                slopes = ((log_p.exp() - here.float()) * counts).to(x.dtype)
                x_gradient_NC[chunk] = slopes @ weight_PC
                weight_gradient_PC += slopes.T @ x
        ctx.save_for_backward(x_gradient_NC, weight_gradient_PC[:V])
        return loss

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x_gradient_NC, weight_gradient_VC = ctx.saved_tensors
        return x_gradient_NC * slope, weight_gradient_VC * slope, None, None
