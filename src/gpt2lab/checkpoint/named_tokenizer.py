"""The tokenizer that goes with a model, without the model: neither its weights nor PyTorch are loaded."""

from os import PathLike
from pathlib import Path

from gpt2lab.checkpoint.hub import resolve, vocabulary_files
from gpt2lab.checkpoint.runs import model_folder
from gpt2lab.tokenizer import Tokenizer, load_tokenizer


def load_tokenizer_of(name_or_path: str | PathLike[str]) -> Tokenizer:
    """The tokenizer that a user means by this.

    Args:
        name_or_path: a published name (``"gpt2"``), a Hub id (``"org/name"``), a directory with a vocabulary,
            one of a vocabulary's files, or the folder of a training run.

    Raises:
        UserError: there is no such thing, or there is no sound vocabulary in it.
    """
    path = Path(name_or_path)
    return load_tokenizer(path if path.is_file() else model_folder(resolve(name_or_path, vocabulary_files)))
