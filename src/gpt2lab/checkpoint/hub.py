"""From what a user calls a model to a directory on this machine, downloading it where needed."""

import difflib
import fnmatch
import os
import re
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

from gpt2lab.base.download import fetch_from_hub
from gpt2lab.base.errors import UserError

PUBLISHED = {
    "gpt1": "openai-community/openai-gpt",
    "openai-gpt": "openai-community/openai-gpt",
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
}
"""OpenAI's models: what people call them -> where they are on the Hub"""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
)


def model_files(names: Sequence[str]) -> list[str]:
    """Of all files of a model on the Hub, those to download; weights only as safetensors.

    Raises:
        UserError: the model has none of these.
    """
    weights = fnmatch.filter(names, "model.safetensors")
    if not weights:
        weights = fnmatch.filter(names, "model.safetensors.index.json")
        weights += fnmatch.filter(names, "model-*-of-*.safetensors")
    if not weights:
        pickles = fnmatch.filter(names, "*.bin")
        kept_as = f"weights only as {pickles[0]}, a pickle" if pickles else "no weights"
        raise UserError(
            f"the model has {kept_as}, and gpt2lab reads model.safetensors",
            fix="Where you trust it, load and save it with `transformers`, and give that directory"
            if pickles
            else "Choose another model",
        )
    return sorted([name for name in names if name in _SMALL_FILES] + weights)


def vocabulary_files(names: Sequence[str]) -> list[str]:
    """Of all files of a model on the Hub, those that its tokenizer needs: a few megabytes.

    Raises:
        UserError: the model has none.
    """
    if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= set(names):
        raise UserError(
            "the model has no vocabulary: neither tokenizer.json nor vocab.json with merges.txt",
            fix="Choose another model",
        )
    return sorted(name for name in names if name in _SMALL_FILES)


def resolve(
    name_or_path: str | PathLike[str], wanted: Callable[[Sequence[str]], list[str]] = model_files
) -> Path:
    """The directory that `name_or_path` means: an existing one, else a published name's, else a Hub id's.

    Args:
        name_or_path: see above.
        wanted: which of a Hub model's files are needed: `model_files` or `vocabulary_files`.

    Raises:
        UserError: there is no such directory, name or Hub model, or it cannot be downloaded now.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return path
    if path.exists():
        raise UserError(
            "this is a file, and a model is a directory", where=path, fix="Name the directory it lies in"
        )
    name = os.fspath(name_or_path)
    if name in PUBLISHED:
        return fetch_from_hub(PUBLISHED[name], wanted)
    if not isinstance(name_or_path, str) or _looks_like_path(name):
        raise UserError("there is no such directory", where=path, fix="Check the spelling of the path")
    if _HUB_ID.fullmatch(name):
        return fetch_from_hub(name, wanted)
    close = difflib.get_close_matches(name.lower(), PUBLISHED, n=2)
    raise UserError(
        f"there is no model {name!r}",
        fix=(f"Did you mean {' or '.join(close)}? " if close else "")
        + f"Give one of {', '.join(PUBLISHED)}, a Hub id like org/name, or a directory",
    )


def is_hub_id(name: str) -> bool:
    """Whether a name can only be that of something on the Hub: ``"org/name"``, with no such folder here."""
    return _HUB_ID.fullmatch(name) is not None and not _looks_like_path(name)


def _looks_like_path(name: str) -> bool:
    """Whether a name with a slash means a directory: `runs/first` does where there is a folder `runs`."""
    return "/" in name and (_HUB_ID.fullmatch(name) is None or Path(name).parent.is_dir())
