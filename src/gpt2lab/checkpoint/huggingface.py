"""Save a model as a Hugging Face directory, and load one: `gpt2lab.save` and `gpt2lab.load`.

    config.json              the model's shape            (`config_json`)
    model.safetensors        its weights                  (`weights`)
    generation_config.json   which token ends a text
    tokenizer.json, ...      the vocabulary               (`gpt2lab.tokenizer`)
    training_state/          what resuming needs          (`training_state`; only in a run's checkpoints)
    checksums.json           sizes and SHA-256 of all     (`checksums`)

`transformers`, vLLM, the Hub and llama.cpp's converter open such a directory as it is.
"""

from os import PathLike
from pathlib import Path

import torch

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import atomic_folder, require_free_space, write_json
from gpt2lab.checkpoint.checksums import FILE_NAME as CHECKSUMS
from gpt2lab.checkpoint.checksums import listed_files, verify_checksums, write_checksums
from gpt2lab.checkpoint.config_json import read_config, write_config
from gpt2lab.checkpoint.hub import resolve
from gpt2lab.checkpoint.runs import model_folder
from gpt2lab.checkpoint.training_state import FOLDER_NAME, TrainingState, save_training_state
from gpt2lab.checkpoint.weights import FILE_NAME as WEIGHTS
from gpt2lab.checkpoint.weights import read_weights, write_weights
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import Tokenizer, load_tokenizer
from gpt2lab.tokenizer.vocabulary_files import holds_vocabulary

_SMALL_FILES_BYTES = 10_000_000  # the vocabulary of GPT-2 in its three files is 5 MB


def save(
    model: GPT,
    tokenizer: Tokenizer | None,
    directory: str | PathLike[str],
    *,
    training_state: TrainingState | None = None,
) -> None:
    """Write a Hugging Face directory, whole or not at all; an earlier checkpoint of that name is replaced.

    Raises:
        UserError: the disk has no room (said before anything is written), the directory may not be written or
            holds other things, or the vocabulary has more tokens than the model.
    """
    path = Path(directory).resolve()
    _refuse_to_delete(path)
    if tokenizer is not None:
        _check_vocabulary(tokenizer, model, path)
    require_free_space(path.parent, bytes_on_disk(model, training_state), f"the checkpoint {path.name}")
    end_of_text = tokenizer.end_of_text if tokenizer else None
    config = write_config(model.config, dtype=model.wte.weight.dtype, end_of_text=end_of_text)
    with atomic_folder(path) as folder:
        write_json(folder / "config.json", config)
        write_json(
            folder / "generation_config.json", {"bos_token_id": end_of_text, "eos_token_id": end_of_text}
        )
        write_weights(model, folder / WEIGHTS)
        if tokenizer is not None:
            tokenizer.save(folder)
        if training_state is not None:
            save_training_state(folder, training_state)
        write_checksums(folder)


def load(
    name_or_path: str | PathLike[str],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = torch.float32,
) -> tuple[GPT, Tokenizer | None]:
    """A model, in evaluation mode, and its tokenizer.

    Args:
        name_or_path: a published name (``"gpt2"``), a Hub id (``"org/name"``), a Hugging Face directory, or
            the folder of a training run, of which the newest checkpoint is taken.
        device: where the weights go.
        dtype: the number type to compute in; None keeps the one the weights are stored in.

    Returns:
        The model, and its tokenizer or None if the directory has none.

    Raises:
        UserError: there is no such model, it is of another kind, or a file is missing or damaged.
    """
    path = model_folder(resolve(name_or_path))
    if not (path / "config.json").exists():
        raise UserError(
            "this is not a model's directory: there is no config.json in it",
            where=path,
            fix="Give the directory that holds config.json and model.safetensors, or a published name",
        )
    verify_checksums(path, lambda name: not name.startswith(f"{FOLDER_NAME}/"))
    with torch.device("meta"):
        model = GPT(read_config(path / "config.json"))
    read_weights(model, path, device=torch.device(device), dtype=dtype)
    tokenizer = None
    if holds_vocabulary(path):
        tokenizer = load_tokenizer(path)
        _check_vocabulary(tokenizer, model, path)
    return model.eval(), tokenizer


def bytes_on_disk(model: GPT, training_state: TrainingState | None = None) -> int:
    """About how many bytes `save` will write."""
    tensors = [*model.parameters(), *(training_state.tensors.values() if training_state else ())]
    n_bytes: int = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return n_bytes + _SMALL_FILES_BYTES


def _refuse_to_delete(path: Path) -> None:
    """Saving replaces the whole directory, so nothing may be in it that `save` did not write."""
    if path.exists() and not path.is_dir():
        raise UserError("this is a file", where=path, fix="Name a directory to save into")
    if not path.exists():
        return
    ours = {CHECKSUMS, *listed_files(path)}
    for file in path.rglob("*"):
        name = file.relative_to(path).as_posix()
        if not file.is_dir() and name not in ours:
            raise UserError(
                f"the directory holds {name}, which saving a model here would delete",
                where=path,
                fix="Save under a new name, or empty the directory first",
            )


def _check_vocabulary(tokenizer: Tokenizer, model: GPT, path: Path) -> None:
    # A model may know more tokens than its vocabulary: sizes are often rounded up for speed.
    if tokenizer.vocab_size > model.config.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size:,} tokens and the model {model.config.vocab_size:,}",
            where=path,
            fix="Use the tokenizer that the model was trained with",
        )
