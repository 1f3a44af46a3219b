"""safetensors files: named tensors, bit for bit, with nothing in them that could run.

Reading goes through the `safetensors` library. Writing is done here, one tensor at a time and byte for byte
as the library would (a test compares them), for two reasons: the library wants every tensor ready in memory
at once, which for matrices that are transposed on the way out is a second copy of the model, and it reports
a full disk as an error of its own instead of an `OSError`.

The format (https://github.com/huggingface/safetensors): eight bytes with the length of the header, a JSON
header with each tensor's type, shape and place, padded with spaces to a multiple of eight, and the data.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gpt2lab.base.errors import UserError

_TYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_LIBRARY_ORDER = ["BOOL", "U8", "I8", "I16", "F16", "BF16", "I32", "F32", "F64", "I64"]  # narrow types first


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write `tensors`, in any memory layout and on any device, to one file; views stay views until written.

    Raises:
        OSError: the disk is full, or the file cannot be made.
    """
    order = sorted(tensors, key=lambda name: (-_LIBRARY_ORDER.index(_TYPE_NAMES[tensors[name].dtype]), name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        kind = _TYPE_NAMES[tensor.dtype]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that the data begin at a multiple of eight
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in order:
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)


class TensorFile:
    """An open safetensors file. Only names, types and shapes are read until a tensor is asked for."""

    def __init__(self, path: Path, handle: Any) -> None:
        self.path = path
        self._handle = handle

    def names(self) -> list[str]:
        """All tensors in the file."""
        return list(self._handle.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor."""
        return tuple(self._handle.get_slice(name).get_shape())

    def type_name(self, name: str) -> str:
        """The format's name of one tensor's number type: ``"F32"``, ``"BF16"``, ``"I8"``."""
        return str(self._handle.get_slice(name).get_dtype())

    def read(self, name: str) -> Tensor:
        """One tensor, for the moment a window onto the file: copy what outlives the file."""
        tensor: Tensor = self._handle.get_tensor(name)
        return tensor


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a safetensors file for reading.

    Raises:
        UserError: there is no such file, or it is cut short or is no safetensors file.
    """
    try:
        handle = safe_open(path, framework="pt")
    except FileNotFoundError as error:
        raise UserError(
            "the file is missing", where=path, fix="Copy or download the whole directory again"
        ) from error
    except SafetensorError as error:
        raise UserError(
            f"damaged, or no safetensors file ({error})",
            where=path,
            fix="Copy or download it again",
        ) from error
    with handle:
        yield TensorFile(path, handle)
