"""Checkpoints of a run: written while training waits, or behind its back from a copy in main memory.

Either way the files are the same, a folder appears only when it is whole, and the first process alone
writes. In the background at most one save is under way; what goes wrong in it is raised at the next save, or
at the end. A run that ends in any way but a second Ctrl-C or `kill -9` waits for it, and those two lose no
more than the half-written folder.
"""

from collections.abc import Mapping
from threading import Thread
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from gpt2lab.checkpoint.huggingface import save
from gpt2lab.checkpoint.training_state import TrainingState
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import Tokenizer
from gpt2lab.training.parallel import model_of
from gpt2lab.training.run import RunFolder
from gpt2lab.training.step import TrainingStep
from gpt2lab.training.world import World


class Saver:
    """Writes a run's checkpoints.

    Args:
        run: where to.
        tokenizer: saved beside the weights.
        world: all processes call each method together.
        background: train on while a copy is written. It takes as much main memory as a checkpoint.
    """

    def __init__(
        self, run: RunFolder, tokenizer: Tokenizer | None, world: World, *, background: bool
    ) -> None:
        self._run, self._tokenizer, self._world, self._background = run, tokenizer, world, background
        self._under_way: Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._under_way and kind is not KeyboardInterrupt:
            self._under_way.join()

    def save(self, step: TrainingStep, facts: Mapping[str, Any], number: int, best: int) -> None:
        """Save the run as it stands after `number` steps, and delete checkpoints that are no longer kept.

        Args:
            step: holds weights and optimizer state.
            facts: what else the run's future depends on.
            number: steps taken.
            best: of all saved steps the best.

        Raises:
            UserError: this save failed, or the one before it in the background; the newest whole checkpoint
                is as it was.
        """
        self.wait()
        model, tensors = step.placement.whole_model(), step.optimizers.state()

        def write() -> None:
            assert model is not None  # it is with the first process
            folder, state = self._run.checkpoint(number), TrainingState(tensors, facts)
            save(model, self._tokenizer, folder, training_state=state)
            self._run.prune(best)

        if not self._background:
            self._world.on_first(write)
        elif model is not None:
            if not step.placement.gathers:
                model, tensors = _copied(model), {key: _copy(value) for key, value in tensors.items()}
            self._under_way = Thread(target=self._noting_errors, args=(write,), name="saving", daemon=True)
            self._under_way.start()

    def wait(self) -> None:
        """Wait for the save under way.

        Raises:
            UserError: it failed.
        """
        self._world.on_first(self._finish)

    def _finish(self) -> None:
        if self._under_way:
            self._under_way.join()
        self._under_way, error, self._error = None, self._error, None
        if error:
            raise error

    def _noting_errors(self, write: Any) -> None:
        try:
            write()
        except BaseException as error:  # raised where the run can stop in an orderly way
            self._error = error


def _copied(model: GPT) -> GPT:
    return model_of(model.config, {name: _copy(tensor) for name, tensor in model.named_parameters()})


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
