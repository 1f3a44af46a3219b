"""How fast training will be, on this machine or on hardware with published figures; and what it costs.

Here, the products are timed for a moment and so is reading memory; a step then takes

    products / (share of the timed rate that the model's shapes reach)
    + the activations' way through memory, forward and backward + the optimizer's over weights and state

Elsewhere, a share of the published peak is assumed (`ASSUMED_MFU`).
"""

from dataclasses import dataclass, replace

import torch

from gpt2lab.base.device import available_memory, pick_device
from gpt2lab.base.hardware import Accelerator
from gpt2lab.base.measured import bytes_read_per_second, products_per_second
from gpt2lab.base.native import processor_flags
from gpt2lab.model.config import ModelConfig, count_parameters
from gpt2lab.training.flops import flops_per_token
from gpt2lab.training.memory import (
    MemoryPlan,
    Placing,
    Precision,
    memory_plan,
    with_largest_micro_batch,
)
from gpt2lab.training.recipe import Recipe
from gpt2lab.training.setup import deals_out, enough_sequences, fitted

ASSUMED_MFU = 0.40
"""Of the published peak; by its scripts' step times llm.c reaches 52% (124M, A100), 44% (1558M, H100)"""

MEMORY_SHARE = 0.9
"""Of a GPU's memory that a plan may take: the rest is lost to fragments and to what else is there"""

# Fitted like the constants of `training.memory`, on a Zen 5 and a Granite Rapids; what both share is a mean.
_SHAPES = {"bfloat16": 0.87, "float32": 0.70}  # of the timed rate of square products
_SHAPES_BY_TILES = 0.64  # of the rate of AMX's tiles, which few shapes keep fed
_PASSES = 260.0  # bytes a token, block and channel that go through memory, or take as long as if they did
_OPTIMIZER_BYTES = 40  # a parameter: gradient, weight and two moments read, three of them written, clipping


@dataclass(frozen=True)
class Probe:
    """What this machine does at best: FLOP/s in products of a run's precision, bytes/s read from memory."""

    flops: float
    read: float
    tiles: bool = False
    """whether those products go through AMX's tiles"""


@dataclass(frozen=True)
class Forecast:
    """What a run is going to take.

    Attributes:
        device: on what.
        devices: how many of them.
        placing: how the model lies there.
        memory: bytes on each, by part.
        room: bytes each has.
        tokens_per_s: of all of them.
        seconds: of the whole run, validations and saves apart.
        probe: what the machine was timed at; None for hardware elsewhere.
    """

    device: str
    devices: int
    placing: Placing
    memory: MemoryPlan
    room: float
    tokens_per_s: float
    seconds: float
    probe: Probe | None = None

    @property
    def fits(self) -> bool:
        """Whether each device has the memory."""
        return self.placing.micro_batch > 0 and self.memory.total <= self.room

    def cost(self, price_per_hour: float) -> float:
        """What the run costs at a price per device and hour."""
        return self.seconds / 3600 * self.devices * price_per_hour


def tokens_of(recipe: Recipe) -> int:
    """Training tokens of a whole run."""
    windows, _ = recipe.batch_sizes.span(recipe.schedule.steps)
    return windows * recipe.model.context_length


def probe(device: torch.device, precision: Precision) -> Probe:
    """Time this machine; about a second."""
    flops = products_per_second(device, getattr(torch, precision))
    return Probe(flops, bytes_read_per_second(device), by_tiles(device, precision))


def by_tiles(device: torch.device, precision: Precision) -> bool:
    """Whether products on this machine go through AMX's tiles."""
    return device.type == "cpu" and precision == "bfloat16" and "amx_bf16" in processor_flags()


def forecast_here(recipe: Recipe) -> Forecast:
    """What the recipe takes on this machine, in one process, after timing it for a moment."""
    device = pick_device(recipe.device)
    placing = fitted(recipe, device)
    timed = probe(device, placing.precision)
    rate = tokens_per_second(recipe.model, recipe.batch_tokens, placing, timed)
    memory = memory_plan(recipe.model, placing)
    room = available_memory(device)
    return Forecast(device.type, 1, placing, memory, room, rate, tokens_of(recipe) / rate, timed)


def tokens_per_second(model: ModelConfig, batch_tokens: int, placing: Placing, timed: Probe) -> float:
    """Training speed on a device timed as `timed`: on a GPU the assumed share of its products, else by parts.

    Args:
        model: what is trained.
        batch_tokens: of an optimizer step; the larger, the less the update counts.
        placing: how it is computed.
        timed: what the device does at best.
    """
    if placing.device != "cpu":
        return ASSUMED_MFU * timed.flops / computed_flops(model, placing)
    return batch_tokens / _seconds_a_step(model, batch_tokens, placing, timed)


def computed_flops(model: ModelConfig, placing: Placing) -> float:
    """Operations a token costs; with blocks computed anew a third more than their model FLOPs."""
    flops = flops_per_token(model)
    return flops.total + (flops.blocks + flops.attention) * _anew(placing)


def _anew(placing: Placing) -> float:
    """Share of the blocks' work, forward and backward, that recomputing adds: a forward pass."""
    return 1 / 3 if placing.recompute else 0.0


def _seconds_a_step(model: ModelConfig, tokens: int, placing: Placing, timed: Probe) -> float:
    reached = _SHAPES_BY_TILES if timed.tiles else _SHAPES[placing.precision]
    products = computed_flops(model, placing) * tokens / (reached * timed.flops)
    passes = _PASSES * (1 + _anew(placing))
    activations = passes * model.n_layer * model.n_embd * tokens / timed.read
    update = _OPTIMIZER_BYTES * count_parameters(model) / timed.read
    return products + activations + update


def forecast_on(recipe: Recipe, accelerator: Accelerator, devices: int) -> Forecast:
    """What the recipe takes on so many of a published accelerator, each with a process of its own."""
    room = MEMORY_SHARE * accelerator.memory
    per_device = max(1, -(-recipe.batch_sequences // devices))
    placing = Placing(
        0,
        True,
        recipe.optimizer.name,
        accelerator.precision,
        shares=devices if deals_out(recipe, accelerator.memory) else 1,
        recompute=recipe.recompute_activations,
    )
    largest = recipe.micro_batch
    if not largest:
        placing = with_largest_micro_batch(recipe.model, placing, room)
        largest = min(placing.micro_batch, enough_sequences(recipe.model, placing.device))
    placing = replace(placing, micro_batch=min(largest, per_device))
    memory = memory_plan(recipe.model, replace(placing, micro_batch=max(1, placing.micro_batch)))
    rate = ASSUMED_MFU * accelerator.flops * devices / computed_flops(recipe.model, placing)
    return Forecast(accelerator.name, devices, placing, memory, room, rate, tokens_of(recipe) / rate)
