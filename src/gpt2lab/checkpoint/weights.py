"""A model's weights between a `GPT` and the safetensors files of a Hugging Face directory."""

from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import read_json
from gpt2lab.checkpoint.names import is_transposed, name_in_model, name_on_disk
from gpt2lab.checkpoint.tensor_file import TensorFile, open_tensors, write_tensors
from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT

FILE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"  # large models are cut into several files, and this lists them
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_NUMBER_TYPES = ("F64", "F32", "F16", "BF16")
_AGAIN = "Copy or download the whole directory again"
_EMBEDDING, _OUTPUT = "wte.weight", "lm_head.weight"


def write_weights(model: GPT, path: Path) -> None:
    """Write every weight once (a tied output matrix is the embedding), named and laid out as on the Hub.

    Raises:
        OSError: the disk is full.
    """
    config = model.config
    on_disk: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name != _OUTPUT or not config.tie_word_embeddings:
            on_disk[name_on_disk(name, config.architecture)] = tensor.t() if is_transposed(name) else tensor
    write_tensors(path, on_disk, {"format": "pt"})  # transformers refuses files that do not say "pt"


def read_weights(model: GPT, directory: Path, *, device: torch.device, dtype: torch.dtype | None) -> None:
    """Put the weights in `directory` into `model`, reading one tensor at a time.

    Args:
        model: on the meta device, that is, shapes without memory yet.
        directory: holds model.safetensors, or an index and the files it lists.
        device: where the weights go.
        dtype: the number type they get; None keeps the one in the file.

    Raises:
        UserError: no safetensors there; a tensor is missing, unexpected, of another shape or no plain number
            type; the output matrix should be the embedding and is not.
    """
    tied = model.config.tie_word_embeddings
    with ExitStack() as stack:
        files = [stack.enter_context(open_tensors(path)) for path in _weight_files(directory)]
        places = _places(files, model.config)
        if tied and _EMBEDDING not in places and _OUTPUT in places:  # one matrix of two names
            places[_EMBEDDING] = places.pop(_OUTPUT)
        _check(places, model, directory)
        if tied and _OUTPUT in places:
            _check_tied(places[_OUTPUT], places[_EMBEDDING])
        state = {
            name: _copy(file.read(on_disk), is_transposed(name), device, dtype)
            for name, (file, on_disk) in places.items()
            if name != _OUTPUT or not tied
        }
    model.load_state_dict(state, strict=not tied, assign=True)
    if tied:
        model.lm_head.weight = model.wte.weight


def _weight_files(directory: Path) -> list[Path]:
    if (directory / FILE_NAME).exists():
        return [directory / FILE_NAME]
    if (directory / INDEX_NAME).exists():
        return _indexed_files(directory)
    pickles = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
    if pickles:
        raise UserError(
            f"the weights are there only as {pickles[0]}, a pickle, which can run programs when it is read",
            where=directory,
            fix='Where you trust it, convert it: `python -c "import transformers as t; '
            f"t.AutoModelForCausalLM.from_pretrained({str(directory)!r}).save_pretrained('NEW')\"`",
        )
    raise UserError(f"there is no {FILE_NAME}", where=directory, fix=_AGAIN)


def _indexed_files(directory: Path) -> list[Path]:
    path = directory / INDEX_NAME
    index = read_json(path)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict):
        raise UserError("this is no index of weight files", where=path, fix=_AGAIN)
    names = {Path(str(name)).name for name in places.values()}  # only the last part: never outside the folder
    return [directory / name for name in sorted(names)]


_Place = tuple[TensorFile, str]  # an open file, and a tensor's name in it


def _places(files: list[TensorFile], config: ModelConfig) -> dict[str, _Place]:
    """Our name of each tensor -> where it is."""
    places: dict[str, _Place] = {}
    for file in files:
        for on_disk in file.names():
            name = name_in_model(on_disk, config.architecture)
            if name in places:
                raise UserError(f"tensor {on_disk!r} is there twice", where=file.path, fix=_AGAIN)
            if name is not None:
                places[name] = (file, on_disk)
    return places


def _check(places: dict[str, _Place], model: GPT, directory: Path) -> None:
    """Whether there are exactly the tensors that `model` needs, in its shapes."""
    config = model.config
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing = [
        name for name in shapes if name not in places and not (name == _OUTPUT and config.tie_word_embeddings)
    ]
    if missing:
        raise UserError(
            f"tensor {name_on_disk(missing[0], config.architecture)!r} is missing{_and_more(missing)}",
            where=directory,
            fix=f"The weights and config.json are not of one model. {_AGAIN}",
        )
    unexpected = [name for name in places if name not in shapes]
    if unexpected:
        file, on_disk = places[unexpected[0]]
        raise UserError(
            f"unexpected tensor {on_disk!r}{_and_more(unexpected)}: config.json describes a model without it",
            where=file.path,
            fix="Check config.json; heads for other tasks go when `transformers` loads the directory with "
            "AutoModelForCausalLM and saves it again",
        )
    for name, (file, on_disk) in places.items():
        _check_tensor(file, on_disk, shapes[name][::-1] if is_transposed(name) else shapes[name])


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1:,} more)" if len(names) > 1 else ""


def _check_tensor(file: TensorFile, on_disk: str, expected: tuple[int, ...]) -> None:
    shape, kind = file.shape(on_disk), file.type_name(on_disk)
    if shape != expected:
        raise UserError(
            f"tensor {on_disk!r} has shape {shape}, and config.json asks for {expected}",
            where=file.path,
            fix=f"The weights and config.json are not of one model. {_AGAIN}",
        )
    if kind not in _NUMBER_TYPES:
        raise UserError(
            f"tensor {on_disk!r} holds {kind} numbers, and gpt2lab reads {', '.join(_NUMBER_TYPES)}",
            where=file.path,
            fix="Take the model's unquantised version",
        )


def _check_tied(output: _Place, embedding: _Place) -> None:
    """Where config.json ties the output matrix to the embedding and the file has both, they must be equal."""
    (file, on_disk), (other_file, other) = output, embedding
    if not torch.equal(file.read(on_disk), other_file.read(other)):
        raise UserError(
            f"tensor {on_disk!r} differs from {other!r}, and config.json says that they are one "
            "(tie_word_embeddings)",
            where=file.path,
            fix='Write "tie_word_embeddings": false into config.json if the model was trained so',
        )


def _copy(tensor: Tensor, transpose: bool, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    """A copy in memory of its own: what the library gives is a window onto a file that may be overwritten."""
    moved = tensor.to(device=device, dtype=dtype or tensor.dtype)
    return (moved.t() if transpose else moved).clone(memory_format=torch.contiguous_format)
