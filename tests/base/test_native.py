"""Which instructions this process may use."""

import ctypes
from types import SimpleNamespace

import pytest

from gpt2lab.base import native
from gpt2lab.base.native import best_variant, processor_flags


@pytest.fixture
def amx_processor(monkeypatch, tmp_path):
    """A processor that has everything; returns what the system answers when it is asked for the tiles."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {' '.join(native.VARIANTS['x86_64'][0].needs)} sse2\n")
    monkeypatch.setattr(native, "Path", lambda name: cpuinfo)
    monkeypatch.setattr(native.platform, "machine", lambda: "x86_64")
    asked = []

    def answer_with(code):
        def syscall(*numbers):
            asked.append([number.value for number in numbers])
            return code

        monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(syscall=syscall))
        return asked

    return answer_with


def test_tiles_that_the_system_grants_are_used(amx_processor):
    asked = amx_processor(0)
    assert best_variant(processor_flags()).name == "amx"
    assert asked == [[158, 0x1023, 18]]


def test_tiles_that_the_system_refuses_are_left_alone(amx_processor):
    amx_processor(-1)
    assert best_variant(processor_flags()).name == "avx512-bf16"
