import pytest
import torch

from gpt2lab.base import float32


@pytest.mark.parametrize("amd", [True, False])
def test_products_stay_exact_whatever_the_processor(monkeypatch, amd):
    """Where oneDNN would really round to bfloat16 (AMX), it is refused."""
    monkeypatch.setattr(float32, "_made_by_amd", lambda: amd)
    generator = torch.Generator().manual_seed(1)
    x, weight = torch.randn(512, 768, generator=generator), torch.randn(768, 768, generator=generator)
    before = torch.backends.mkldnn.matmul.fp32_precision
    with float32.float32_products(torch.device("cpu")):
        chosen = torch.backends.mkldnn.matmul.fp32_precision
        found = torch.nn.functional.linear(x, weight)
    exact = x.double() @ weight.double().T
    assert (found - exact).norm() / exact.norm() < 2e-6
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    assert chosen == ("bf16" if amd and float32._onednn_is_exact() else before)


def test_what_rounds_is_not_exact(monkeypatch):
    def rounding(x, weight):
        return (x.bfloat16() @ weight.bfloat16().T).float()

    monkeypatch.setattr(torch.nn.functional, "linear", rounding)
    assert not float32._onednn_is_exact.__wrapped__()
