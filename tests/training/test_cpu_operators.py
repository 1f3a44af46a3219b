"""GELU's and attention's kernels against PyTorch's in float64, and the operators around them."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT
from gpt2lab.training import cpu_kernels, cpu_operators

BF16, F32 = torch.bfloat16, torch.float32
needs_kernels = pytest.mark.skipif(cpu_kernels.kernels() is None, reason=cpu_kernels.why_not() or "-")
needs_products = pytest.mark.skipif(
    not cpu_kernels.has_products(), reason="needs bfloat16 products and a compiler"
)


def exact(x, y_slopes):
    """GELU and the slopes in x, in float64."""
    x = x.double().requires_grad_()
    y = F.gelu(x, approximate="tanh")
    return y.detach(), torch.autograd.grad(y, x, y_slopes.double())[0]


def spread(*shape, dtype):
    """Numbers of every size that activations have, and some beyond; their slopes."""
    generator = torch.Generator().manual_seed(0)
    sizes = 10 ** torch.empty(*shape).uniform_(-4, 1.5, generator=generator)
    x = torch.randn(*shape, generator=generator) * sizes
    return x.to(dtype), torch.randn(*shape, generator=generator).to(dtype)


@needs_kernels
@pytest.mark.parametrize("dtype", [BF16, F32])
@pytest.mark.parametrize("shape", [(3, 5, 7), (1,), (16,), (8192 + 21,), (3, 20_000), (0, 4)], ids=str)
def test_values_and_slopes(shape, dtype):
    x, y_slopes = spread(*shape, dtype=dtype)
    tolerance = {BF16: {"rtol": 2**-8, "atol": 1e-6}, F32: {"rtol": 1e-6, "atol": 5e-6}}[dtype]
    y, x_slopes = exact(x, y_slopes)
    for found, wanted in ((cpu_operators._gelu(x), y), (cpu_operators._gelu_backward(x, y_slopes), x_slopes)):
        torch.testing.assert_close(found.double(), wanted, **tolerance)
        assert found.dtype == dtype


@needs_kernels
@pytest.mark.parametrize("dtype", [BF16, F32])
def test_small_numbers_keep_their_precision(dtype):
    x = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1e-6, -1e-6, 1e-3, -1e-3]).to(dtype)
    torch.testing.assert_close(
        cpu_operators._gelu(x).double(), exact(x, x)[0], rtol=2**-8 if dtype == BF16 else 1e-6, atol=0
    )


@needs_kernels
def test_what_is_no_number_stays_none_and_infinity_passes():
    x = torch.tensor([torch.nan, torch.inf, 1.0, 3e38, -3e38])
    assert cpu_operators._gelu(x).tolist() == pytest.approx(
        [torch.nan, torch.inf, 0.841192, 3e38, 0], nan_ok=True
    )
    assert cpu_operators._gelu_backward(x, torch.ones(5))[0].isnan()


@needs_kernels
def test_a_transposed_tensor_keeps_its_order():
    x = spread(40, 30, dtype=F32)[0].T
    assert torch.equal(cpu_operators._gelu(x), cpu_operators._gelu(x.contiguous()))
    assert torch.equal(
        cpu_operators._gelu_backward(x, x), cpu_operators._gelu_backward(x.contiguous(), x.contiguous())
    )


@needs_kernels
def test_bits_do_not_depend_on_the_number_of_threads():
    x, before, found = spread(50_001, dtype=BF16)[0], torch.get_num_threads(), []
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        found.append(cpu_operators._gelu(x))
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@needs_kernels
@pytest.mark.parametrize("dtype", [BF16, F32])
def test_operators_keep_torchs_rules(dtype):
    x = spread(6, 10, dtype=dtype)[0].requires_grad_()
    torch.library.opcheck(cpu_operators._gelu, (x,))
    torch.library.opcheck(cpu_operators._gelu_backward, (x.detach(), x.detach()))


def qkv_and_slopes(n_batch, n_tokens, n_head, width):
    generator = torch.Generator().manual_seed(0)
    qkv = 1.5 * torch.randn(n_batch, n_tokens, 3 * n_head * width, generator=generator)
    return qkv.bfloat16(), torch.randn(n_batch, n_tokens, n_head * width, generator=generator).bfloat16()


def attended(qkv, n_head, scale, y_slopes, dtype):
    """Attention by PyTorch and the slopes in qkv, computed in `dtype`."""
    qkv = qkv.to(dtype).requires_grad_()
    heads = (part.unflatten(2, (n_head, -1)).transpose(1, 2) for part in qkv.chunk(3, 2))
    y = F.scaled_dot_product_attention(*heads, is_causal=True, scale=scale).transpose(1, 2).flatten(2)
    return y.detach().double(), torch.autograd.grad(y, qkv, y_slopes.to(dtype))[0].double()


def off(found, wanted):
    return ((found.double() - wanted).norm() / wanted.norm()).item()


@needs_products
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 3), st.integers(2, 150), st.integers(1, 4), st.integers(1, 100), st.floats(0.05, 1))
def test_attention_is_as_exact_as_pytorchs(n_batch, n_tokens, n_head, width, scale):
    qkv, y_slopes = qkv_and_slopes(n_batch, n_tokens, n_head, width)
    wanted = attended(qkv, n_head, scale, y_slopes, torch.float64)
    theirs = attended(qkv, n_head, scale, y_slopes, BF16)
    ours = (
        cpu_operators._attention(qkv, n_head, scale),
        cpu_operators._attention_backward(qkv, y_slopes, n_head, scale),
    )
    for found, exactly, other in zip(ours, wanted, theirs, strict=True):
        assert off(found, exactly) < 1.1 * off(other, exactly) + 1e-4


@needs_products
@pytest.mark.parametrize("shape", [(1, 1, 1, 32), (1, 1, 2, 7), (1, 1024, 1, 64)], ids=str)
def test_attention_of_one_token_and_of_many(shape):
    qkv, y_slopes = qkv_and_slopes(*shape)
    y, slopes = attended(qkv, shape[2], 0.125, y_slopes, torch.float64)
    torch.testing.assert_close(
        cpu_operators._attention(qkv, shape[2], 0.125).double(), y, rtol=0.01, atol=0.01
    )
    found = cpu_operators._attention_backward(qkv, y_slopes, shape[2], 0.125).double()
    torch.testing.assert_close(found, slopes, rtol=0.01, atol=0.02)


@needs_products
def test_attention_sees_nothing_of_later_tokens():
    qkv, y_slopes = qkv_and_slopes(2, 70, 2, 32)
    y = cpu_operators._attention(qkv, 2, 0.2)
    for changed in (33, 64, 69):
        other = qkv.clone()
        other[:, changed:] = 1000
        assert torch.equal(cpu_operators._attention(other, 2, 0.2)[:, :changed], y[:, :changed])
        y_slopes[:, changed:] = 0
        assert not cpu_operators._attention_backward(qkv, y_slopes, 2, 0.2)[:, changed:].any()


@needs_products
def test_attentions_bits_do_not_depend_on_the_number_of_threads():
    (qkv, y_slopes), before, found = qkv_and_slopes(2, 90, 3, 40), torch.get_num_threads(), []
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        y, slopes = (
            cpu_operators._attention(qkv, 3, 0.2),
            cpu_operators._attention_backward(qkv, y_slopes, 3, 0.2),
        )
        found.append(torch.cat([y, slopes], dim=2))
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@needs_products
def test_attention_of_what_is_no_number_is_none():
    qkv, y_slopes = qkv_and_slopes(1, 40, 1, 32)
    qkv[0, 20, 0] = torch.nan
    assert cpu_operators._attention(qkv, 1, 0.2)[0, 20].isnan().all()
    assert cpu_operators._attention_backward(qkv, y_slopes, 1, 0.2).isnan().any()


@needs_products
def test_attention_keeps_torchs_rules():
    qkv, y_slopes = qkv_and_slopes(2, 33, 2, 16)
    torch.library.opcheck(cpu_operators._attention, (qkv.requires_grad_(), 2, 0.25))
    torch.library.opcheck(cpu_operators._attention_backward, (qkv.detach(), y_slopes, 2, 0.25))


def _gradients(model, tokens, precision):
    model.zero_grad()
    with torch.autocast("cpu", BF16, enabled=precision == BF16):
        model(tokens).float().square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("precision", [BF16, F32])
@pytest.mark.parametrize("kernels", [pytest.param(True, marks=needs_kernels), False])
@pytest.mark.parametrize(("kind", "dropout"), [("gelu_new", 0.0), ("relu", 0.5)])
def test_a_model_learns_the_same(kind, dropout, kernels, precision, monkeypatch):
    if not kernels:
        monkeypatch.setattr(cpu_kernels, "kernels", lambda: None)
    config = ModelConfig(
        vocab_size=50, context_length=8, n_layer=2, n_head=2, n_embd=16, activation=kind, attn_pdrop=dropout
    )
    model = GPT(config).initialise(torch.Generator().manual_seed(0)).eval()  # nothing is dropped
    tokens = torch.arange(16).view(2, 8)
    before = _gradients(model, tokens, precision)
    cpu_operators.use_cpu_operators(model)
    assert (model.h[1].mlp.activate is cpu_operators._gelu) == (kernels and kind == "gelu_new")
    ours = isinstance(model.h[1].attn.attend, cpu_operators._FusedAttention)
    assert ours == (kernels and cpu_kernels.has_products() and not dropout)
    for name, found in _gradients(model, tokens, precision).items():
        assert off(found, before[name].double()) < (0.02 if precision == BF16 else 1e-5), name


@needs_products
def test_attention_is_compiled_with_the_rest():
    config = ModelConfig(vocab_size=50, context_length=8, n_layer=1, n_head=2, n_embd=16)
    model = GPT(config).initialise(torch.Generator().manual_seed(0))
    cpu_operators.use_cpu_operators(model)
    tokens = torch.arange(16).view(2, 8)
    plain = _gradients(model, tokens, BF16)
    compiled = torch.compile(model, fullgraph=True)
    with torch.autocast("cpu", BF16):
        compiled(tokens).float().square().mean().backward()
    for name, parameter in model.named_parameters():
        assert off(parameter.grad / 2, plain[name].double()) < 0.02, name
