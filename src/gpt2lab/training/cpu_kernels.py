"""Training's C++ kernels as functions of tensors.

Where they cannot be had, PyTorch does the work of `softmax_losses` and `product`; `cpu_operators` leaves GELU
and attention to it then.

All are deterministic, whatever the number of threads. Products take bfloat16 and float32 operands alike and
round the latter on the way: a weight needs no copy in bfloat16, nor its gradient one in float32.
"""

import ctypes
from functools import cache

import torch
from torch import Tensor

from gpt2lab.base.native import TRAINING, BuildError, best_variant, processor_flags

_KINDS = {torch.bfloat16: "bfloat16", torch.float32: "float32"}


@cache
def kernels() -> ctypes.CDLL | None:
    """The library, compiled if need be; None where that cannot be, and `why_not` says why."""
    return _loaded()[0]


def why_not() -> str:
    """Why there are no kernels; empty if there are."""
    return _loaded()[1]


def identity() -> str:
    """Which kernels these are, for a run's records: their variant, and what changes with their sources."""
    if kernels() is None:
        return "none"
    variant = best_variant(processor_flags())
    return f"{variant.name} {TRAINING.digest(variant)}"


@cache
def _loaded() -> tuple[ctypes.CDLL | None, str]:
    try:
        return ctypes.CDLL(str(TRAINING.compiled(best_variant(processor_flags())))), ""
    except (BuildError, OSError) as error:
        return None, str(error)


@cache
def has_products() -> bool:
    """Whether the processor multiplies bfloat16 (AMX, AVX-512): `attention` and our `product` need it."""
    library = kernels()
    return library is not None and bool(library.has_products())


def softmax_losses(logits_NV: Tensor, targets_N: Tensor, *, gradient: bool) -> Tensor:
    """-log p(target) of each row, in nats; with `gradient` each logit is replaced by the loss's slope in it.

    Args:
        logits_NV: bfloat16 or float32; its rows lie a multiple of 16 numbers apart.
        targets_N: int64; a row whose target is negative has neither loss nor gradient.
        gradient: whether the logits are to be replaced.

    Returns:
        (N,) float64.
    """
    library = kernels()
    n_rows, vocab_size = logits_NV.shape
    if library is None or logits_NV.dtype not in _KINDS:
        return _plain_softmax_losses(logits_NV, targets_N, gradient=gradient)
    targets_N, losses_N = targets_N.contiguous(), torch.empty(n_rows, dtype=torch.float64)
    getattr(library, f"softmax_losses_{_KINDS[logits_NV.dtype]}")(
        *map(ctypes.c_int64, (n_rows, vocab_size, logits_NV.stride(0))),
        *map(_address, (logits_NV, targets_N, losses_N)),
        gradient,
        torch.get_num_threads(),
    )
    return losses_N


def _plain_softmax_losses(logits_NV: Tensor, targets_N: Tensor, *, gradient: bool) -> Tensor:
    """`softmax_losses` by PyTorch."""
    log_p_NV = logits_NV.float().log_softmax(-1)
    counts_N = targets_N >= 0
    at_N1 = targets_N.clamp(min=0)[:, None]
    losses_N = -log_p_NV.gather(1, at_N1)[:, 0].double() * counts_N
    if gradient:
        slopes_NV = log_p_NV.exp_()
        slopes_NV.scatter_add_(1, at_N1, torch.full_like(at_N1, -1, dtype=slopes_NV.dtype))
        logits_NV.copy_(slopes_NV.mul_(counts_N[:, None]))
    return losses_N


def gelu(x: Tensor) -> Tensor:
    """GELU with tanh of every number of `x`, bfloat16 or float32, of any shape; needs `kernels`."""
    x = x.contiguous()
    y = torch.empty_like(x)
    _map("gelu", x, y)
    return y


def gelu_backward(x: Tensor, y_slopes: Tensor) -> Tensor:
    """The loss's slopes in `x` from those in `gelu(x)`, which are of its shape and type."""
    x, y_slopes = x.contiguous(), y_slopes.contiguous()
    x_slopes = torch.empty_like(x)
    _map("gelu_backward", x, y_slopes, x_slopes)
    return x_slopes


def _map(name: str, *tensors: Tensor) -> None:
    """Call a kernel that goes through as many numbers of each."""
    compute = getattr(kernels(), f"{name}_{_KINDS[tensors[0].dtype]}")
    compute(ctypes.c_int64(tensors[0].numel()), *map(_address, tensors), torch.get_num_threads())


def attention(qkv_BTE: Tensor, n_head: int, scale: float) -> Tensor:
    """Causal self-attention; needs `has_products`.

    Args:
        qkv_BTE: bfloat16 (B, T, 3C): a token's queries of all heads, then its keys, then its values.
        n_head: how many heads the C channels are.
        scale: of queries' products with keys.

    Returns:
        (B, T, C) bfloat16.
    """
    B, T, E = qkv_BTE.shape
    qkv_BTE = qkv_BTE.contiguous()
    y_BTC = qkv_BTE.new_empty(B, T, E // 3)
    _attend("attention", n_head, scale, qkv_BTE, y_BTC)
    return y_BTC


def attention_backward(qkv_BTE: Tensor, y_slopes_BTC: Tensor, n_head: int, scale: float) -> Tensor:
    """The loss's slopes in `qkv_BTE` from those in `attention` of it, which is bfloat16 too."""
    qkv_BTE, y_slopes_BTC = qkv_BTE.contiguous(), y_slopes_BTC.contiguous()
    slopes_BTE = torch.empty_like(qkv_BTE)
    _attend("attention_backward", n_head, scale, qkv_BTE, y_slopes_BTC, slopes_BTE)
    return slopes_BTE


def _attend(name: str, n_head: int, scale: float, *tensors: Tensor) -> None:
    assert all(tensor.dtype == torch.bfloat16 for tensor in tensors)
    B, T, E = tensors[0].shape
    getattr(kernels(), name)(
        *map(ctypes.c_int64, (B, T, n_head, E // 3 // n_head)),
        ctypes.c_float(scale),
        *map(_address, tensors),
        torch.get_num_threads(),
    )


def product(a_MK: Tensor, b_KN: Tensor, out_MN: Tensor, *, add: bool = False) -> None:
    """Matrix product a b in bfloat16 with sums in float32, written or added to `out_MN`.

    Args:
        a_MK: bfloat16 or float32, as it lies or transposed.
        b_KN: likewise.
        out_MN: bfloat16, or float32, which is needed to `add`.
        add: to what is in `out_MN`, which is overwritten otherwise.
    """
    library = kernels()
    if library is None or not has_products():
        _plain_product(a_MK, b_KN, out_MN, add)
        return
    (M, K), N = a_MK.shape, b_KN.size(1)
    library.product_bfloat16(
        *map(ctypes.c_int64, (M, N, K)),
        *_operand(a_MK),
        *_operand(b_KN),
        _address(out_MN),
        out_MN.dtype == torch.float32,
        ctypes.c_int64(out_MN.stride(0)),
        add,
        torch.get_num_threads(),
    )


def _plain_product(a_MK: Tensor, b_KN: Tensor, out_MN: Tensor, add: bool) -> None:
    """`product` by PyTorch."""
    a_MK, b_KN = a_MK.bfloat16(), b_KN.bfloat16()
    if out_MN.dtype == torch.bfloat16:
        torch.mm(a_MK, b_KN, out=out_MN)
        return
    result_MN = a_MK @ b_KN
    out_MN.add_(result_MN) if add else out_MN.copy_(result_MN)


def _operand(matrix: Tensor) -> tuple[ctypes.c_void_p, bool, ctypes.c_int64, ctypes.c_int64]:
    row, column = matrix.stride()
    assert 1 in (row, column)
    return _address(matrix), matrix.dtype == torch.float32, ctypes.c_int64(row), ctypes.c_int64(column)


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
