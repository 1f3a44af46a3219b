"""Linear layers through our own matrix products, where a CPU has AMX: `F.linear` inside `own_products`.

PyTorch casts every weight to bfloat16 for each micro-batch, and its gradient back to float32; and oneDNN's
products fall to a half of their speed in some shapes. Ours take and give float32 as it lies. The model knows
nothing of it: under autocast to bfloat16 its `nn.Linear` layers call `F.linear`, which is answered here.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gpt2lab.training import cpu_kernels


def own_products(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Let linear layers use our products where those are the faster ones."""
    if device.type == "cpu" and dtype == torch.bfloat16 and cpu_kernels.has_product():
        return _OwnLinear()
    return nullcontext()


class _OwnLinear(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.linear and not kwargs and len(args) == 3 and args[2] is not None:
            x, weight, bias = args
            y: Tensor = _linear(x.to(torch.bfloat16).flatten(0, -2), weight, bias)
            return y.view(*x.shape[:-1], -1)
        return func(*args, **(kwargs or {}))


@torch.library.custom_op("gpt2lab::linear", mutates_args=())
def _linear(x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor) -> Tensor:
    """x W' + b in bfloat16, of a bfloat16 `x_NI` and float32 weights."""
    y_NO = x_NI.new_empty(x_NI.size(0), weight_OI.size(0))
    cpu_kernels.product(_lying(x_NI), weight_OI.T, y_NO, bias_N=bias_O)
    return y_NO


@_linear.register_fake
def _(x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor) -> Tensor:
    return x_NI.new_empty(x_NI.size(0), weight_OI.size(0))


@torch.library.custom_op("gpt2lab::linear_backward", mutates_args=())
def _linear_backward(slope_NO: Tensor, x_NI: Tensor, weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `x_NI`, in bfloat16, and `weight_OI`, in float32."""
    slope_NO, x_NI = _lying(slope_NO), _lying(x_NI)
    x_gradient_NI, weight_gradient_OI = torch.empty_like(x_NI), torch.empty_like(weight_OI)
    cpu_kernels.product(slope_NO, weight_OI, x_gradient_NI)
    cpu_kernels.product(slope_NO.T, x_NI, weight_gradient_OI)
    return x_gradient_NI, weight_gradient_OI


@_linear_backward.register_fake
def _(slope_NO: Tensor, x_NI: Tensor, weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty(x_NI.shape, dtype=x_NI.dtype), torch.empty_like(weight_OI)


def _lying(matrix: Tensor) -> Tensor:
    """With its rows one number after the other."""
    return matrix if matrix.stride(1) == 1 else matrix.contiguous()


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    x_NI, weight_OI, _ = inputs
    ctx.save_for_backward(x_NI, weight_OI)


def _backward(ctx: Any, slope_NO: Tensor) -> tuple[Tensor, ...]:
    x_gradient_NI, weight_gradient_OI = _linear_backward(slope_NO, *ctx.saved_tensors)
    return x_gradient_NI, weight_gradient_OI, slope_NO.sum(0, dtype=torch.float32)


_linear.register_autograd(_backward, setup_context=_keep)
