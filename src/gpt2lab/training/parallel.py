"""How a model lies over the processes of a run: whole in the only one, or whole in each (DDP).

`sharded` has the third way, in shares. The trainer, the step and the optimizers know only `Placement`, whose
methods are what differs: running a loss, adding up gradients, handing parameters to optimizers, and putting a
checkpoint together.

Every process computes the gradient of the *sum* over its own tokens, divided by the tokens of the global
batch; so gradients are added up over processes, not averaged. Weights travel in float32 and are cast by
autocast as in one process: the numbers are the same however a run is spread.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from gpt2lab.data.evaluation_windows import NO_TARGET
from gpt2lab.data.loader import BatchLoader
from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT
from gpt2lab.training.world import World

LossFunction = Callable[[GPT, Tensor, Tensor], Tensor]
Batch = tuple[Tensor, Tensor]  # inputs_BT and targets_BT


class Placement:
    """A model that lies whole in this process, which computes alone."""

    name = "one process"
    gathers = False  # whether `whole_model` and `whole_state` are copies that later steps leave alone

    def __init__(self, model: GPT, world: World | None = None) -> None:
        self.model = model
        self.world = world or World()

    def loss(self, function: LossFunction, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """The loss of this process's rows, to call `backward` on."""
        return function(self.model, inputs_BT, targets_BT)

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        """Run a micro-batch in this; gradients are added up over processes only with the `last` of a step."""
        return nullcontext()

    def clip_gradients(self, limit: float) -> Tensor:
        """Scale the whole model's gradient down to the norm `limit`; returns the norm before."""
        return nn.utils.clip_grad_norm_(self.model.parameters(), limit)

    def parameters(self, undivided: Callable[[str, Tensor], bool]) -> dict[str, nn.Parameter]:
        """What this process's optimizers step, by name; tensors that are `undivided` are whole."""
        return dict(self.model.named_parameters())

    def before_update(self) -> None:
        """Give the tensors of `parameters` their gradients."""

    def after_update(self) -> None:
        """Give the model the values of `parameters`."""

    def own_weights(self) -> Iterator[Tensor]:
        """The weights as they lie in this process: all of each tensor, or its rows of it."""
        for parameter in self.model.parameters():
            yield parameter.detach()

    def whole_model(self) -> GPT | None:
        """The model with all of its weights in one place; None where this is not the first process."""
        return self.model if self.world.is_first else None

    def whole_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The optimizer state (``"name/field"`` -> tensor) of all processes together, in the first one."""
        return dict(state)

    def own_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This process's part of what `whole_state` gave."""
        return dict(state)


class _Within(nn.Module):
    """A loss as a module around the model, so that all of it runs inside DDP's hooks."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: LossFunction, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        return function(self.model, inputs_BT, targets_BT)


class Replicated(Placement):
    """A whole model in every process (DistributedDataParallel); all take the same step.

    Muon orthogonalises every matrix in every process: nothing to send, but work that is not shared. Its five
    iterations cost 5 n_embd / batch_tokens of a whole step's work (Jordan et al. 2024), so with w processes a
    step takes w times that share longer: 6% for 124M, half a million tokens and 8 processes.
    """

    name = "ddp"

    def __init__(self, model: GPT, world: World) -> None:
        super().__init__(model, world)
        self._within = nn.parallel.DistributedDataParallel(_Within(model), gradient_as_bucket_view=True)
        self._within.register_comm_hook(None, lambda state, bucket: _add_up(bucket))

    def loss(self, function: LossFunction, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """See `Placement`."""
        loss: Tensor = self._within(function, inputs_BT, targets_BT)
        return loss

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        """See `Placement`."""
        return nullcontext() if last else self._within.no_sync()


def _add_up(bucket: Any) -> Any:
    """The sum of a bucket of gradients over all processes, where DDP would take their mean; a future."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    return work.get_future().then(lambda future: future.value()[0])


def model_of(config: ModelConfig, weights: Mapping[str, Tensor]) -> GPT:
    """A model made of these very tensors, by the names of `named_parameters`."""
    with torch.device("meta"):
        model = GPT(config)
    model.load_state_dict(weights, strict=False, assign=True)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.wte.weight
    return model


def micro_batches_of(
    loader: BatchLoader, step: int, micro_batch: int, world: World
) -> Iterator[tuple[int, bool, Batch]]:
    """This process's share of a global batch: number, whether it is the last, and rows of each micro-batch.

    Every process gets as many: where the batch does not divide evenly a share may end with rows that do not
    count, because models in shares are computed by all processes together.
    """
    _, n_windows = loader.sizes.span(step)
    count = math.ceil(math.ceil(n_windows / world.size) / micro_batch)
    own = loader.micro_batches(step, micro_batch, world.rank, world.size)
    batch = next(own)  # there is one: `setup` refuses more processes than windows
    for number in range(count):
        yield number, number == count - 1, batch
        batch = next(own, _without_targets(batch))


def shared_out(batches: Iterator[Batch], world: World) -> Iterator[Batch]:
    """Of batches to be scored, this process's: as many in each, the last perhaps without a target."""
    while group := list(islice(batches, world.size)):
        batch = group[min(world.rank, len(group) - 1)]
        yield batch if world.rank < len(group) else _without_targets(batch)


def _without_targets(batch: Batch) -> Batch:
    inputs_BT, targets_BT = batch
    return inputs_BT, torch.full_like(targets_BT, NO_TARGET)
