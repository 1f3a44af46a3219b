"""What is asked of the machine: names checked against what the system itself says."""

import os

import pytest
import torch

from gpt2lab.base import device
from gpt2lab.base.errors import UserError
from gpt2lab.base.machine import available_cores

CPU = torch.device("cpu")


def test_auto_takes_the_best_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device.pick_device("auto") == CPU
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device.pick_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.pick_device("auto").type == "cuda"
    assert device.pick_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"--device: device '{name}' is not available.*doctor"):
        device.pick_device(name)


def test_cores_are_those_this_process_may_use():
    assert 1 <= available_cores() <= os.cpu_count()
    assert device.device_label(CPU) == device.cpu_label()
    assert f", {available_cores()} core" in device.cpu_label()


def test_peak_memory_grows_with_what_is_held():
    before = device.peak_memory(CPU)
    assert 10_000_000 < before < 10**12
    held = torch.ones(before + 50_000_000, dtype=torch.uint8)
    assert device.peak_memory(CPU) > held.numel()


def test_bf16_is_fast_where_the_processor_has_instructions_for_it(monkeypatch):
    for flags, fast in (("sse2 avx512_bf16", True), ("amx_bf16", True), ("sse2 avx512f", False), ("", False)):
        monkeypatch.setattr(device, "_cpuinfo", lambda field, flags=flags: flags)
        assert device.bf16_is_fast(CPU) == fast
    assert not device.bf16_is_fast(torch.device("mps"))


def test_the_compiler_is_the_one_named_or_one_on_the_path(tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert device.cxx_compiler() is None
    for name in ("clang++", "g++", "mine"):
        (tmp_path / name).touch(mode=0o755)
        assert device.cxx_compiler() == str(tmp_path / ("clang++" if name == "clang++" else "g++"))
    monkeypatch.setenv("CXX", "mine")
    assert device.cxx_compiler() == str(tmp_path / "mine")
    monkeypatch.setenv("CXX", "not-there")
    assert device.cxx_compiler() is None
