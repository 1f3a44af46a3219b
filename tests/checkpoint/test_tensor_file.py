from pathlib import Path

import pytest
import torch

from gpt2lab.base.errors import UserError
from gpt2lab.checkpoint.tensor_file import open_tensors, write_tensors

EVERY_TYPE = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


def bits(tensor: torch.Tensor) -> list[int]:
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def all_kinds() -> dict[str, torch.Tensor]:
    tensors = {"empty": torch.zeros(0, 3), 'ü"\n': torch.ones(2), "turned": torch.arange(6.0).view(2, 3).t()}
    for number, dtype in enumerate(EVERY_TYPE):
        tensors[f"z{number}"] = (torch.arange(5 * (number + 1)) % 100 - 7).to(dtype)
        tensors[f"a{number}"] = torch.tensor(3).to(dtype)  # no dimensions
    odd = torch.tensor([0x7FC0_1234, 0x8000_0000, 0x0000_0001], dtype=torch.int64).to(torch.int32)
    tensors["odd"] = odd.view(torch.float32)  # a NaN with a payload, -0.0, the smallest number
    return tensors


def test_what_is_written_is_what_the_library_would_write(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = all_kinds()
    write_tensors(tmp_path / "ours", tensors, {"format": "pt"})
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_every_type_comes_back_bit_for_bit(tmp_path: Path) -> None:
    tensors = all_kinds()
    write_tensors(tmp_path / "file", tensors, {})
    with open_tensors(tmp_path / "file") as file:
        assert sorted(file.names()) == sorted(tensors)
        for name, tensor in tensors.items():
            found = file.read(name)
            assert (found.dtype, file.shape(name)) == (tensor.dtype, tuple(tensor.shape))
            assert bits(found) == bits(tensor)


def test_no_tensors_at_all(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", {}, {})
    with open_tensors(tmp_path / "file") as file:
        assert file.names() == []


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -1])
def test_a_cut_file_is_noticed(keep: int, tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", all_kinds(), {})
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:keep])
    with pytest.raises(UserError, match="file: damaged"), open_tensors(tmp_path / "file"):
        pass


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: the file is missing"), open_tensors(tmp_path / "nowhere"):
        pass


def test_a_full_disk_is_an_oserror() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError, match="No space left"):
        write_tensors(full, {"a": torch.zeros(100_000)}, {})
