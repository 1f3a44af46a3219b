"""Where a stopped or killed run goes on: its newest checkpoint that is whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gpt2lab.base.errors import UserError
from gpt2lab.checkpoint.huggingface import load
from gpt2lab.checkpoint.runs import checkpoint_folders
from gpt2lab.checkpoint.training_state import load_training_state
from gpt2lab.training.live import say
from gpt2lab.training.run import RunFolder
from gpt2lab.training.world import World


@dataclass(frozen=True)
class Saved:
    """All that a run's future depends on: weights and optimizer state by name, and where the run stood."""

    weights: Mapping[str, Tensor]
    optimizer_state: Mapping[str, Tensor]
    position: Mapping[str, Any]


def newest_whole_checkpoint(run: RunFolder, world: World) -> Saved | None:
    """The newest whole checkpoint, if there is one; damaged ones are set aside, and it is said.

    The first process looks for it, and the others read the one it found.
    """
    found: dict[Path, Saved] = {}

    def search() -> Path | None:
        for folder in reversed(checkpoint_folders(run.path)):
            try:
                found[folder] = _read(folder)
            except UserError as error:
                aside = run.set_aside(folder).name
                say(f"{error} Set aside as {aside}; going on from the checkpoint before it, if there is one")
            else:
                return folder
        return None

    folder = world.on_first(search)
    return None if folder is None else found.get(folder) or _read(folder)


def _read(folder: Path) -> Saved:
    model, _ = load(folder)
    state = load_training_state(folder)
    return Saved(model.state_dict(), state.tensors, state.facts)
