"""The doctor's findings on this machine, and on machines made up for the purpose."""

import shutil
import subprocess
import sys
import warnings
from collections import namedtuple
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gpt2lab
from gpt2lab.app import doctor
from gpt2lab.app.doctor import Finding, Speed, compile_failure, diagnose, measure_speed
from gpt2lab.model.config import PRESETS
from gpt2lab.tokenizer import ByteLevelTokenizer
from gpt2lab.training.flops import flops_per_token
from gpt2lab.training.forecast import Probe, by_tiles, tokens_per_second
from gpt2lab.training.memory import Placing, memory_plan

GIB = 2**30
TO_TRAIN = memory_plan(PRESETS["gpt2"], Placing(1, device="cpu")).total
SPEED = Speed(float32=100e9, bfloat16=400e9, read=20e9)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A good CPU machine with 64 GiB of memory, everything installed; tests take things away."""
    monkeypatch.setattr("gpt2lab.base.device.pick_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr("gpt2lab.base.device.cxx_compiler", lambda: "/usr/bin/g++")
    monkeypatch.setattr("gpt2lab.base.device.bf16_is_fast", lambda device: True)
    monkeypatch.setattr("gpt2lab.base.device.available_memory", lambda device: 64 * GIB)
    monkeypatch.setattr(doctor, "compile_failure", lambda device: "")
    monkeypatch.setattr(doctor, "measure_speed", lambda device: SPEED)
    monkeypatch.setattr(doctor, "find_spec", lambda name: object())
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 10**12))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    return monkeypatch


def found(name: str, *, quick: bool = False) -> Finding:
    (finding,) = [finding for finding in diagnose(quick=quick) if finding.name == name]
    return finding


def test_a_good_machine_has_no_problem(machine: pytest.MonkeyPatch) -> None:
    findings = diagnose()
    assert {finding.name for finding in findings if finding.verdict != "ok"} == {"GPU"}
    assert len({finding.name for finding in findings}) == len(findings)
    groups = [finding.group for finding in findings]
    assert list(dict.fromkeys(groups)) == ["software", "hardware", "speed", "what fits"]
    assert groups == sorted(groups, key=["software", "hardware", "speed", "what fits"].index)


def test_whatever_is_not_ok_but_the_sizes_says_what_to_do(machine: pytest.MonkeyPatch) -> None:
    for finding in diagnose():
        assert bool(finding.advice) == (finding.verdict != "ok") or finding.group == "what fits"


def test_versions(machine: pytest.MonkeyPatch) -> None:
    assert found("gpt2lab").value == gpt2lab.__version__
    assert found("PyTorch").value == torch.__version__
    assert sys.version.startswith(found("Python").value)


def test_no_compiler(machine: pytest.MonkeyPatch) -> None:
    machine.setattr("gpt2lab.base.device.cxx_compiler", lambda: None)
    finding = found("C++ compiler")
    assert finding.verdict == "note"
    assert "g++" in finding.advice
    assert "torch.compile" not in {finding.name for finding in diagnose()}  # nothing to try it with


def test_compiling_fails(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(doctor, "compile_failure", lambda device: "fatal error: Python.h: No such file")
    finding = found("torch.compile")
    assert finding.verdict == "note"
    assert "Python.h" in finding.value
    assert "headers" in finding.advice


def test_quick_neither_compiles_nor_measures(machine: pytest.MonkeyPatch) -> None:
    def never(device: torch.device) -> Any:
        raise AssertionError

    machine.setattr(doctor, "compile_failure", never)
    machine.setattr(doctor, "measure_speed", never)
    findings = diagnose(quick=True)
    assert "speed" not in {finding.group for finding in findings}
    assert "tokens/s" not in "".join(finding.value for finding in findings)


def test_little_memory_and_disk(machine: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    machine.setattr("gpt2lab.base.device.available_memory", lambda device: 10**9)
    machine.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 10**8 - 1))
    assert found("memory").verdict == "problem"
    assert found("memory").numbers["free_bytes"] == 10**9
    assert found("disk, this folder").verdict == "problem"
    assert found("disk, downloaded models").verdict == "note"
    assert found("gpt2").verdict == "note"
    machine.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 10**8))
    assert found("disk, this folder").verdict == "ok"


@pytest.mark.parametrize(
    ("free", "generates", "trains"),
    [
        (497_759_232 - 1, False, False),  # gpt2 has 124,439,808 parameters, 4 bytes each
        (497_759_232, True, False),
        (TO_TRAIN - 1, True, False),
        (TO_TRAIN, True, True),
    ],
)
def test_what_fits(free: int, generates: bool, trains: bool, machine: pytest.MonkeyPatch) -> None:
    machine.setattr("gpt2lab.base.device.available_memory", lambda device: free)
    finding = found("gpt2", quick=True)
    assert finding.value == (
        f"generating 497.8 MB{'' if generates else ', does not fit'}; "
        f"training {TO_TRAIN / 1e9:.1f} GB{'' if trains else ', does not fit'}"
    )
    assert finding.verdict == ("ok" if generates and trains else "note")


def test_all_published_sizes_with_the_speed_they_could_have(machine: pytest.MonkeyPatch) -> None:
    fits = [finding for finding in diagnose() if finding.group == "what fits"]
    assert [finding.name for finding in fits] == ["rule", *PRESETS]
    numbers = found("gpt2").numbers
    assert numbers["generating_tokens_per_s"] == pytest.approx(20e9 / 497_759_232)
    timed = Probe(400e9, 20e9, by_tiles(torch.device("cpu"), "bfloat16"))
    expected = tokens_per_second(PRESETS["gpt2"], 524_288, Placing(1, device="cpu"), timed)
    assert numbers["training_tokens_per_s"] == pytest.approx(expected)
    assert expected < 400e9 / flops_per_token(PRESETS["gpt2"]).total
    assert "up to 40 tokens/s" in found("gpt2").value
    assert f"about {expected:,.0f} tokens/s" in found("gpt2").value
    assert "up to 3.2 tokens/s" in found("gpt2-xl").value
    machine.setattr("gpt2lab.base.device.bf16_is_fast", lambda device: False)
    slow = Placing(1, precision="float32", device="cpu")
    expected = tokens_per_second(PRESETS["gpt2"], 524_288, slow, Probe(100e9, 20e9))
    assert found("gpt2").numbers["training_tokens_per_s"] == pytest.approx(expected)


def test_no_bfloat16_in_hardware(machine: pytest.MonkeyPatch) -> None:
    machine.setattr("gpt2lab.base.device.bf16_is_fast", lambda device: False)
    assert found("CPU").verdict == "note"
    assert "float32" in found("CPU").value
    assert found("matrix products, bfloat16").verdict == "ok"  # slow, and not used


def test_bfloat16_that_is_slow_against_expectation(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(doctor, "measure_speed", lambda device: Speed(100e9, 50e9, 20e9))
    assert found("matrix products, bfloat16").verdict == "note"
    assert found("matrix products, bfloat16").value == "50 GFLOP/s"


def test_instruction_sets(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_f": False, "sse": True})
    assert found("CPU").value.endswith("; AVX2")
    machine.setattr(torch.cpu, "get_capabilities", dict)
    assert "no vector instructions known" in found("CPU").value


def test_gpus(machine: pytest.MonkeyPatch) -> None:
    def memory(device: torch.device) -> int:
        return {"cuda": (80 - (device.index or 0)) * 10**9, "cpu": 64 * GIB}[device.type]

    machine.setattr("gpt2lab.base.device.pick_device", lambda name: torch.device("cuda"))
    machine.setattr("gpt2lab.base.device.cxx_compiler", lambda: None)
    machine.setattr("gpt2lab.base.device.available_memory", memory)
    machine.setattr("gpt2lab.base.device.device_label", lambda device: "NVIDIA Example")
    machine.setattr(torch.cuda, "device_count", lambda: 2)
    assert found("GPU 0").value == "NVIDIA Example, 80.0 GB of memory free"
    assert found("GPU 1").value == "NVIDIA Example, 79.0 GB of memory free"
    assert found("torch.compile").verdict == "ok"  # GPU code needs no C++ compiler to be tried
    assert "80.0 GB free" in found("rule").value
    assert found("gpt2-xl").verdict == "ok"
    assert not {"GPU"} & {finding.name for finding in diagnose()}


def test_apple_gpu(machine: pytest.MonkeyPatch) -> None:
    machine.setattr("gpt2lab.base.device.pick_device", lambda name: torch.device("mps"))
    machine.setattr("gpt2lab.base.device.device_label", lambda device: "Apple GPU")
    assert found("GPU") == Finding("hardware", "GPU", "Apple GPU")


def test_a_gpu_that_pytorch_cannot_use(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert found("GPU").verdict == "problem"
    assert "CUDA" in found("GPU").advice


def test_tokenizer_engines(machine: pytest.MonkeyPatch) -> None:
    assert found("bulk encoding", quick=True).verdict == "ok"
    assert found("learning vocabularies", quick=True).value == "gigatoken"

    def falls_back(tokenizer: ByteLevelTokenizer, texts: Sequence[str]) -> list[Any]:
        warnings.warn("the fast encoder is not there", RuntimeWarning, stacklevel=2)
        return [np.zeros(0)]

    machine.setattr(ByteLevelTokenizer, "encode_batch", falls_back)
    machine.setattr(doctor, "find_spec", lambda name: None)
    assert found("bulk encoding", quick=True).verdict == "note"
    assert "tiktoken: the fast encoder is not there" in found("bulk encoding", quick=True).value
    assert "gpt2lab[fast]" in found("learning vocabularies", quick=True).advice


def _fake_run(result: Callable[[], Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: result()


def test_why_compiling_failed_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(stderr: str) -> str:
        done = subprocess.CompletedProcess([], 1, stdout="", stderr=stderr)
        monkeypatch.setattr(subprocess, "run", _fake_run(lambda: done))
        return compile_failure(torch.device("cpu"))

    header = "x.cpp:2:10: fatal error: Python.h: No such file or directory"
    assert (
        failing(
            f"Traceback:\nInductorError: CppCompileError: C++ compile error\n\nOutput:\n{header}\n\nSet A=1"
        )
        == header
    )
    assert (
        failing("Traceback:\n  line\nInductorError: No compiler\n\nSet A=1 for more\n")
        == "InductorError: No compiler"
    )
    assert failing("Killed\n") == "Killed"
    assert failing("") == "exit code 1"


def test_compiling_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang() -> None:
        raise subprocess.TimeoutExpired([], 300)

    monkeypatch.setattr(subprocess, "run", _fake_run(hang))
    assert compile_failure(torch.device("cpu")) == "not done after 300 s"


@pytest.mark.slow
def test_really_compiling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the compiler that is here, if one is; and with one that finds no headers."""
    if shutil.which("g++"):
        assert compile_failure(torch.device("cpu")) == ""
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\necho 'a.cpp:1:1: fatal error: Python.h: No such file' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    assert compile_failure(torch.device("cpu")) != ""


def test_measured_speeds_are_plausible() -> None:
    speed = measure_speed(torch.device("cpu"))
    assert 1e8 < speed.float32 < 1e15
    assert 1e7 < speed.bfloat16 < 1e15
    assert 1e8 < speed.read < 1e13


def test_this_machine() -> None:
    """Nothing made up: it runs to its end wherever the tests run."""
    findings = diagnose(quick=True)
    assert {"CPU", "memory", "disk, this folder", "gpt2-xl"} <= {finding.name for finding in findings}
