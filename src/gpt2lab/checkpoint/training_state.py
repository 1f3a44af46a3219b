"""What resuming needs besides the weights, in `training_state/` beside them: tensors, and facts as JSON.

Every tensor comes back bit for bit in its own number type. Nothing is pickled.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import read_json, write_json
from gpt2lab.checkpoint.checksums import verify_checksums
from gpt2lab.checkpoint.tensor_file import open_tensors, write_tensors

FOLDER_NAME = "training_state"


class TrainingState(NamedTuple):
    """Optimizer state, counters and the like; what they mean is the trainer's affair."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def save_training_state(directory: Path, state: TrainingState) -> None:
    """Write `state` into the checkpoint `directory`, for whose atomicity and checksums the caller cares.

    Raises:
        OSError: the disk is full.
    """
    folder = directory / FOLDER_NAME
    folder.mkdir()
    write_tensors(folder / "state.safetensors", state.tensors, {})
    write_json(folder / "state.json", dict(state.facts))


def load_training_state(directory: Path) -> TrainingState:
    """The training state in the checkpoint `directory`, on the CPU.

    Raises:
        UserError: there is none (the model was saved to be used, not resumed), or it is damaged.
    """
    folder = directory / FOLDER_NAME
    if not folder.is_dir():
        raise UserError(
            "there is no training state in this directory, only a model",
            where=directory,
            fix="Resume from a run's own checkpoint, or start a new run from this model with --init-from",
        )
    verify_checksums(directory, lambda name: name.startswith(f"{FOLDER_NAME}/"))
    facts = read_json(folder / "state.json")
    with open_tensors(folder / "state.safetensors") as file:
        return TrainingState({name: file.read(name).clone() for name in file.names()}, facts)
