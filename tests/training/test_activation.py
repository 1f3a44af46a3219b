"""GELU's kernel against PyTorch's in float64: values, slopes, and what torch.compile makes of it."""

import pytest
import torch
import torch.nn.functional as F

from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT
from gpt2lab.training import activation, cpu_kernels

BF16, F32 = torch.bfloat16, torch.float32
needs_kernels = pytest.mark.skipif(cpu_kernels.kernels() is None, reason=cpu_kernels.why_not() or "-")


def exact(x, y_slopes):
    """GELU and the slopes in x, in float64."""
    x = x.double().requires_grad_()
    y = F.gelu(x, approximate="tanh")
    return y.detach(), torch.autograd.grad(y, x, y_slopes.double())[0]


def spread(*shape, dtype):
    """Numbers of every size that activations have, and some beyond; their slopes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, generator=generator) * 10 ** torch.empty(*shape).uniform_(-4, 1.5)
    return x.to(dtype), torch.randn(*shape, generator=generator).to(dtype)


@needs_kernels
@pytest.mark.parametrize("dtype", [BF16, F32])
@pytest.mark.parametrize("shape", [(3, 5, 7), (1,), (16,), (8192 + 21,), (3, 20_000), (0, 4)], ids=str)
def test_values_and_slopes(shape, dtype):
    x, y_slopes = spread(*shape, dtype=dtype)
    tolerance = {BF16: {"rtol": 2**-8, "atol": 1e-6}, F32: {"rtol": 1e-6, "atol": 3e-6}}[dtype]
    y, x_slopes = exact(x, y_slopes)
    for found, wanted in ((activation._gelu(x), y), (activation._gelu_backward(x, y_slopes), x_slopes)):
        torch.testing.assert_close(found.double(), wanted, **tolerance)
        assert found.dtype == dtype


@needs_kernels
@pytest.mark.parametrize("dtype", [BF16, F32])
def test_small_numbers_keep_their_precision(dtype):
    x = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1e-6, -1e-6, 1e-3, -1e-3]).to(dtype)
    torch.testing.assert_close(
        activation._gelu(x).double(), exact(x, x)[0], rtol=2**-8 if dtype == BF16 else 1e-6, atol=0
    )


@needs_kernels
def test_what_is_no_number_stays_none_and_infinity_passes():
    x = torch.tensor([torch.nan, torch.inf, 1.0, 3e38, -3e38])
    assert activation._gelu(x).tolist() == pytest.approx(
        [torch.nan, torch.inf, 0.841192, 3e38, 0], nan_ok=True
    )
    assert activation._gelu_backward(x, torch.ones(5))[0].isnan()


@needs_kernels
def test_a_transposed_tensor_keeps_its_order():
    x = spread(40, 30, dtype=F32)[0].T
    assert torch.equal(activation._gelu(x), activation._gelu(x.contiguous()))
    assert torch.equal(
        activation._gelu_backward(x, x), activation._gelu_backward(x.contiguous(), x.contiguous())
    )


@needs_kernels
def test_bits_do_not_depend_on_the_number_of_threads():
    x, before, found = spread(50_001, dtype=BF16)[0], torch.get_num_threads(), []
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        found.append(activation._gelu(x))
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@needs_kernels
@pytest.mark.parametrize("dtype", [BF16, F32])
def test_operators_keep_torchs_rules(dtype):
    x = spread(6, 10, dtype=dtype)[0].requires_grad_()
    torch.library.opcheck(activation._gelu, (x,))
    torch.library.opcheck(activation._gelu_backward, (x.detach(), x.detach()))


def _gradients(model, tokens):
    model.zero_grad()
    model(tokens).square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("kernels", [pytest.param(True, marks=needs_kernels), False])
@pytest.mark.parametrize("kind", ["gelu_new", "relu"])
def test_a_model_learns_the_same(kind, kernels, monkeypatch):
    if not kernels:
        monkeypatch.setattr(cpu_kernels, "kernels", lambda: None)
    config = ModelConfig(vocab_size=50, context_length=8, n_layer=2, n_head=2, n_embd=16, activation=kind)
    model = GPT(config).initialise(torch.Generator().manual_seed(0))
    tokens = torch.arange(16).view(2, 8)
    before = _gradients(model, tokens)
    activation.use_fast_gelu(model)
    assert (model.h[1].mlp.activate is activation._gelu) == (kernels and kind == "gelu_new")
    for name, found in _gradients(model, tokens).items():
        torch.testing.assert_close(found, before[name], rtol=1e-4, atol=1e-7)
