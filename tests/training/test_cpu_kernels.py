"""Matrix products of training's kernels."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2lab.base.native import BuildError, Library
from gpt2lab.training import cpu_kernels

BF16, F32 = torch.bfloat16, torch.float32
needs_products = pytest.mark.skipif(
    not cpu_kernels.has_products(), reason="needs bfloat16 products and a compiler"
)


def matrix(rows, columns, dtype, turned, seed):
    generator = torch.Generator().manual_seed(seed)
    if turned:
        return torch.randn(columns, rows, generator=generator).to(dtype).T
    return torch.randn(rows, columns, generator=generator).to(dtype)


def rounded(tensor):
    return tensor.bfloat16().double()


def off(ours, theirs):
    return ((ours.double() - theirs).norm() / theirs.norm().clamp(min=1e-30)).item()


KINDS = list(itertools.product((BF16, F32), (BF16, F32), (False, True), (False, True), (BF16, F32)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(1, 90), st.integers(1, 1700), st.integers(1, 90), st.sampled_from(KINDS), st.integers(0, 9)
)
def test_products_are_exact_to_the_outputs_precision(n_rows, n_inputs, n_columns, kind, seed):
    a_type, b_type, a_turned, b_turned, out_type = kind
    a, b = (
        matrix(n_rows, n_inputs, a_type, a_turned, seed),
        matrix(n_inputs, n_columns, b_type, b_turned, seed),
    )
    out = torch.full((n_rows, n_columns), torch.nan, dtype=out_type)
    cpu_kernels.product(a, b, out)
    exact = out_type == F32 and cpu_kernels.has_products()
    assert off(out, rounded(a) @ rounded(b)) < (5e-6 if exact else 8e-3)


@pytest.mark.parametrize("shape", [(4200, 40, 33), (1040, 600, 300), (64, 2000, 520)], ids=str)
def test_products_of_several_pieces(shape):
    n_rows, n_inputs, n_columns = shape
    for turned in (False, True):
        a, b = matrix(n_rows, n_inputs, BF16, turned, 0), matrix(n_inputs, n_columns, F32, False, 1)
        out = torch.empty(n_rows, n_columns)
        cpu_kernels.product(a, b, out)
        assert off(out, rounded(a) @ rounded(b)) < (5e-6 if cpu_kernels.has_products() else 8e-3)


@pytest.mark.parametrize("kernels", [True, False])
def test_products_are_added(monkeypatch, kernels):
    if not kernels:
        monkeypatch.setattr(cpu_kernels, "kernels", lambda: None)
    a, b, before = matrix(50, 70, BF16, False, 0), matrix(70, 40, F32, True, 1), torch.rand(50, 40)
    out = before.clone()
    cpu_kernels.product(a, b, out, add=True)
    assert off(out, before.double() + rounded(a) @ rounded(b)) < 8e-3


@needs_products
def test_bits_do_not_depend_on_the_number_of_threads():
    a, b = matrix(1100, 900, BF16, False, 0), matrix(900, 700, F32, True, 1)
    before, found = torch.get_num_threads(), []
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        out = torch.empty(1100, 700)
        cpu_kernels.product(a, b, out)
        found.append(out)
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@needs_products
def test_a_products_output_may_be_a_part_of_something_larger():
    a, b, whole = matrix(20, 30, BF16, False, 0), matrix(30, 37, F32, True, 1), torch.full((22, 50), 9.0)
    cpu_kernels.product(a, b, whole[1:21, 5:42])
    assert off(whole[1:21, 5:42], rounded(a) @ rounded(b)) < 5e-6
    whole[1:21, 5:42] = 9
    assert (whole == 9).all()


def test_without_a_compiler_there_are_no_kernels_and_a_reason(monkeypatch):
    def fail(variant):
        raise BuildError("there is no C++ compiler")

    monkeypatch.setattr(Library, "compiled", lambda self, variant: fail(variant))
    assert cpu_kernels._loaded.__wrapped__() == (None, "there is no C++ compiler")


def test_targets_may_lie_apart():
    if cpu_kernels.kernels() is None:
        pytest.skip(cpu_kernels.why_not())
    logits, targets = torch.randn(40, 64), torch.randint(64, (40, 3))
    expected = cpu_kernels.softmax_losses(logits.clone(), targets[:, 1].contiguous(), gradient=False)
    assert torch.equal(cpu_kernels.softmax_losses(logits, targets[:, 1], gradient=False), expected)
