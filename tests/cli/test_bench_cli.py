"""`gpt2lab bench generate` on a tiny model, as a user runs it."""

import re

import pytest
import torch

from gpt2lab import GPT, ModelConfig, save
from gpt2lab.cli import bench


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    config = ModelConfig(vocab_size=100, context_length=64, n_layer=1, n_head=2, n_embd=32)
    folder = tmp_path_factory.mktemp("bench") / "tiny"
    save(GPT(config).initialise(torch.Generator().manual_seed(0)), None, folder)
    return str(folder)


def test_every_precision_has_a_line_with_its_speed(tiny, capsys):
    assert bench.main(["generate", tiny, "--new-tokens", "4", "--batch", "2", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    rows = re.findall(r"^ *([\w-]+) +\d+ MB +[\d.]+ ms +([\d,]+) +([\d.]+) .* ([\d,]+)  ", out, re.MULTILINE)
    assert [row[0] for row in rows] == ["float32", "bf16", "int8", "int4", "int4-fast"]
    assert all(int(speed.replace(",", "")) > 0 for _, speed, _, _ in rows)
    assert "of 2 texts together" in out


def test_only_what_was_asked_for(tiny, capsys):
    assert bench.main(["generate", tiny, "--new-tokens", "4", "--batch", "1", "--precision", "float32"]) == 0
    assert "int8" not in capsys.readouterr().out
