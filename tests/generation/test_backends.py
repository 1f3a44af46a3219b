"""Which engine computes, and what is said where the best one cannot be had."""

import pytest
import torch

from gpt2lab.base.errors import UserError
from gpt2lab.generation import backends, cpu_engine
from gpt2lab.generation.backends import backend_for
from gpt2lab.generation.cpu_engine import CpuEngine
from gpt2lab.generation.decoder import TorchBackend
from gpt2lab.generation.kernels.build import BuildError

CPU = torch.device("cpu")


@pytest.fixture
def no_engine(monkeypatch):
    """A machine on which the engine cannot be compiled."""

    def refuse(variant):
        raise BuildError("there is no C++ compiler (g++ or clang++)")

    monkeypatch.setattr(cpu_engine.build, "library", refuse)
    backends._tell_once.cache_clear()


def test_float32_is_plain_pytorch_with_the_models_own_weights(make_model):
    model = make_model()
    backend = backend_for(model, CPU, "float32")
    assert isinstance(backend, TorchBackend)
    assert backend.model is model


@pytest.mark.parametrize(("asked", "given"), [("auto", "bf16"), ("bf16", "bf16"), ("int8", "int8")])
def test_a_cpu_gets_the_cpu_engine(make_model, asked, given):
    backend = backend_for(make_model(), CPU, asked)
    if not isinstance(backend, CpuEngine):
        pytest.skip("no CPU engine here")
    assert backend.precision == given


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_without_an_engine_pytorch_computes_and_a_line_says_why(make_model, no_engine, precision, capsys):
    backend, _ = backend_for(make_model(), CPU, precision), backend_for(make_model(), CPU, precision)
    assert isinstance(backend, TorchBackend)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no C++ compiler" in said


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_without_an_engine_there_is_no_quantised_precision(make_model, no_engine, precision):
    with pytest.raises(UserError, match=r"needs the CPU engine.*no C\+\+ compiler"):
        backend_for(make_model(), CPU, precision)


def test_other_devices_have_no_quantised_precision(make_model):
    with pytest.raises(UserError, match="on CPUs only"):
        backend_for(make_model(), torch.device("meta"), "int8")
