"""Free memory inside a container: what its limit leaves, where that is less than the machine has."""

import pytest
import torch

from gpt2lab.base import device, machine

CPU = torch.device("cpu")


@pytest.fixture
def limits(tmp_path, monkeypatch):
    """A maker of a container's files as Linux shows them; without it there are none."""
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)

    def make(limit, current, inactive_file):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{current}\n")
        (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {inactive_file}\nactive_file 7\n")

    return make


@pytest.mark.skipif(not machine.Path("/proc/meminfo").exists(), reason="containers of Linux only")
def test_a_containers_limit_counts_where_it_is_less(limits):
    assert device.available_memory(CPU) > 10_000_000
    limits("max", 1, 0)
    assert device.available_memory(CPU) > 10_000_000
    limits(10_000_000, 4_000_000, 1_000_000)
    assert device.available_memory(CPU) == 7_000_000
    limits(10_000_000, 14_000_000, 1_000_000)
    assert device.available_memory(CPU) == 0
    limits(10**18, 0, 0)
    assert 10_000_000 < device.available_memory(CPU) < 10**15
