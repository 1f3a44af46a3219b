"""Where a stopped or killed run goes on: its newest checkpoint that is whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gpt2lab.base.errors import UserError
from gpt2lab.checkpoint.huggingface import load
from gpt2lab.checkpoint.runs import checkpoint_folders
from gpt2lab.checkpoint.training_state import load_training_state
from gpt2lab.training.live import say
from gpt2lab.training.run import RunFolder


@dataclass(frozen=True)
class Saved:
    """All that a run's future depends on: weights and optimizer state by name, and where the run stood."""

    weights: Mapping[str, Tensor]
    optimizer_state: Mapping[str, Tensor]
    position: Mapping[str, Any]


def newest_whole_checkpoint(run: RunFolder) -> Saved | None:
    """The newest whole checkpoint, if there is one; damaged ones are set aside, and it is said."""
    for folder in reversed(checkpoint_folders(run.path)):
        try:
            model, _ = load(folder)
            state = load_training_state(folder)
        except UserError as error:
            aside = run.set_aside(folder).name
            say(f"{error} Set aside as {aside}; going on from the checkpoint before it, if there is one")
            continue
        return Saved(model.state_dict(), state.tensors, state.facts)
    return None
