"""What a run needs before its first step: device, precision, model, data, micro-batch, compiled or not."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from gpt2lab.base.device import available_memory, bf16_is_fast, cxx_compiler
from gpt2lab.base.errors import UserError
from gpt2lab.base.measured import peak_flops
from gpt2lab.base.progress import format_duration
from gpt2lab.checkpoint.huggingface import load
from gpt2lab.data.dataset import TokenDataset
from gpt2lab.data.loader import BatchLoader
from gpt2lab.data.published import PublishedShards, open_split
from gpt2lab.model.config import ModelConfig, count_parameters
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import Tokenizer
from gpt2lab.training.cpu_kernels import why_not
from gpt2lab.training.cpu_operators import fused_attention
from gpt2lab.training.facts import Facts
from gpt2lab.training.live import say
from gpt2lab.training.loss import summed_loss
from gpt2lab.training.memory import Placing, Precision, with_largest_micro_batch
from gpt2lab.training.optimizer import Optimizers
from gpt2lab.training.parallel import Placement, Replicated
from gpt2lab.training.recipe import Recipe
from gpt2lab.training.recompute import recompute_blocks
from gpt2lab.training.sharded import Sharded
from gpt2lab.training.spikes import SpikeWatch
from gpt2lab.training.step import TrainingStep, compiled_loss, keep_freed_memory, plain_attention
from gpt2lab.training.world import World

Result = TypeVar("Result")

_TIMED_STEPS, _TIMED_SECONDS = 30, 4.0  # for `minutes`: as many steps, unless they take longer
_SHARE_OF_FREE_MEMORY = {False: 0.7, True: 0.9}  # on a CPU; on a GPU, where few others take any
_BYTES_A_PARAMETER = 16  # weight, gradient and AdamW's two moments, float32 each


@dataclass
class Session:
    """A run ready to take steps."""

    facts: Facts
    model: GPT
    step: TrainingStep
    held_out: TokenDataset


def build_session(
    recipe: Recipe,
    data: Path | PublishedShards,
    tokenizer: Tokenizer | None,
    earlier: Facts | None = None,
    weights: Mapping[str, Tensor] | None = None,
    world: World | None = None,
) -> Session:
    """Everything between reading a recipe and the first step.

    Args:
        recipe: what to do.
        data: folder of token shards, or published ones.
        tokenizer: the vocabulary the shards should belong to, if at hand.
        earlier: what was decided when this run first started, if it is being resumed.
        weights: those of the checkpoint to go on from, if there is one.
        world: the processes that share the work; without it this one does it alone.

    Raises:
        UserError: no such device; more processes than GPUs or than sequences in a batch; shards and
            vocabulary do not fit; `init_from` is of another shape; compiling was asked for and failed.
    """
    if earlier:
        recipe = _as_before(recipe, earlier)
    world = world or World()
    device = world.device(recipe.device)
    _check_processes(recipe, device, world)
    keep_freed_memory(device)
    if device.type == "cpu" and why_not():
        say(f"without kernels of our own, so slower: {why_not()}")
    vocab_size, fingerprint = recipe.model.vocab_size, tokenizer.fingerprint if tokenizer else None
    training, held_out = (
        open_split(data, split, vocab_size=vocab_size, tokenizer_fingerprint=fingerprint)
        for split in ("train", "val")
    )
    shares = _shares(recipe, device, world)
    placing = world.on_first(lambda: fitted(recipe, device, world.size, shares))
    if placing.recompute and not recipe.recompute_activations:
        say("memory is short: activations are computed again in the backward pass, which takes longer")
    placement = _placement(initial_model(recipe, weights).to(device).train(), placing, world)
    context_length, windows = recipe.model.context_length, recipe.batch_sequences
    step = TrainingStep(
        placement,
        Optimizers(placement, recipe.optimizer),
        BatchLoader(training, context_length, windows, recipe.seed, recipe.batch_sizes),
        micro_batch=placing.micro_batch,
        seed=recipe.seed,
        clip_norm=recipe.optimizer.clip_norm,
        dtype=_dtype(recipe, device),
        spikes_above=recipe.optimizer.skip_spikes_above,
    )
    within_memory(step, lambda: _make_ready(step, recipe))
    if world.size > 1:
        step.rehearse()  # DDP settles the order in which it sends gradients, and with it the last bits
    return Session(_facts(recipe, step, placing.recompute), placement.model, step, held_out)


def _facts(recipe: Recipe, step: TrainingStep, recompute: bool) -> Facts:
    """What was decided and found, after timing some steps where the recipe's minutes ask for it."""
    peak, peak_source = peak_flops(step.device, step.dtype)
    return Facts.here(
        step.device,
        step.placement,
        steps=_steps_in_time(recipe, step) if recipe.minutes else recipe.schedule.steps,
        micro_batch=step.micro_batch,  # which timing may have halved
        precision="bfloat16" if step.dtype == torch.bfloat16 else "float32",
        compiled=step.loss is not summed_loss,
        recompute=recompute,
        parameters=count_parameters(recipe.model),
        data_fingerprint=step.loader.dataset.fingerprint,
        peak_flops=peak,
        peak_source=peak_source,
    )


def _as_before(recipe: Recipe, earlier: Facts) -> Recipe:
    """With what a run decided when it first started in the place of what it left open."""
    return replace(
        recipe,
        micro_batch=earlier.smaller_micro_batch or earlier.micro_batch,
        recompute_activations=recipe.recompute_activations or earlier.recompute,
        precision="bfloat16" if earlier.precision == "bfloat16" else "float32",
        compile="auto" if earlier.compiled else "off",
        minutes=0.0,
        schedule=replace(recipe.schedule, steps=earlier.steps),
    )


def _check_processes(recipe: Recipe, device: torch.device, world: World) -> None:
    """Whether the processes fit the batch; and a hint where there are GPUs that none of them uses."""
    _, fewest = recipe.batch_sizes.span(0)
    if fewest < world.size:
        raise UserError(
            f"a batch of {fewest:,} sequences cannot be shared by {world.size:,} processes",
            where="torchrun --nproc-per-node",
            fix="Start fewer processes, or give the recipe more batch_tokens",
        )
    n_gpus = torch.cuda.device_count() if device.type == "cuda" else 1
    if world.size == 1 and n_gpus > 1:
        say(f"one of {n_gpus} GPUs is used; for all: torchrun --nproc-per-node {n_gpus} -m gpt2lab train ...")


def _placement(model: GPT, placing: Placing, world: World) -> Placement:
    """Spread a model, whole and the same in every process, over them."""
    if placing.recompute:
        recompute_blocks(model)
    if world.size == 1:
        return Placement(model, world)
    return Sharded(model, world) if placing.shares > 1 else Replicated(model, world)


def _shares(recipe: Recipe, device: torch.device, world: World) -> int:
    """Over how many processes weights and optimizer state are dealt out; see `Recipe.parallel`."""
    # All memory, not what is free: another start must come to the same answer.
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else math.inf
    return world.size if world.size > 1 and deals_out(recipe, memory) else 1


def deals_out(recipe: Recipe, memory: float) -> bool:
    """Whether several devices of so many bytes each get a share of the model (FSDP), not all of it (DDP)."""
    if recipe.parallel == "auto":
        return 2 * _BYTES_A_PARAMETER * count_parameters(recipe.model) > memory
    return recipe.parallel == "fsdp"


def _dtype(recipe: Recipe, device: torch.device) -> torch.dtype:
    if recipe.precision == "auto":
        return torch.bfloat16 if bf16_is_fast(device) else torch.float32
    return torch.bfloat16 if recipe.precision == "bfloat16" else torch.float32


def initial_model(recipe: Recipe, weights: Mapping[str, Tensor] | None) -> GPT:
    """The model to start or go on with: `weights`, else those of `init_from`, else drawn by the seed.

    On the CPU whatever the device to train on, so that a seed means the same weights everywhere.

    Raises:
        UserError: `init_from` has another shape than the recipe's model.
    """
    model = GPT(recipe.model)
    if weights is not None:
        model.load_state_dict(weights)
        return model
    if not recipe.init_from:
        return model.initialise(torch.Generator().manual_seed(recipe.seed))
    source, _ = load(recipe.init_from)
    if _without_dropout(source.config) != _without_dropout(recipe.model):
        raise UserError(
            f"the model to start from has another shape: {source.config}",
            where=recipe.init_from,
            fix=f"Give the recipe the same [model]; it has {recipe.model}",
        )
    model.load_state_dict(source.state_dict())
    return model


def _without_dropout(config: ModelConfig) -> ModelConfig:
    return replace(config, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)


def placing_on(recipe: Recipe, device: torch.device) -> Placing:
    """How a recipe is going to be computed on a device, its micro-batch and other processes apart."""
    compiled = recipe.compile != "off" and (device.type != "cpu" or cxx_compiler() is not None)
    precision: Precision = "bfloat16" if _dtype(recipe, device) == torch.bfloat16 else "float32"
    fused = device.type == "cpu" and precision == "bfloat16" and fused_attention(recipe.model.attn_pdrop)
    return Placing(
        1,
        optimizer=recipe.optimizer.name,
        precision=precision,
        device=device.type,
        compiled=compiled,
        recompute=recipe.recompute_activations,
        plain_attention=not fused and plain_attention(device, recipe.model.context_length),
        fused_attention=torch.get_num_threads() if fused else 0,
    )


def fitted(recipe: Recipe, device: torch.device, processes: int = 1, shares: int = 1) -> Placing:
    """How a recipe is going to be computed: with as large a micro-batch as fits, blocks anew if they must be.

    To be asked before the model is there; `training.memory` says what a step takes. All micro-batches of a
    process's share are alike, the last one apart. A micro-batch that the recipe names is not questioned.

    Args:
        recipe: what to do.
        device: of each process.
        processes: how many share the batch.
        shares: over how many of them the model is dealt out.
    """
    placing = replace(placing_on(recipe, device), shares=shares)
    share = math.ceil(recipe.batch_sequences / processes)
    micro_batch = recipe.micro_batch
    if not micro_batch:
        room = _SHARE_OF_FREE_MEMORY[device.type != "cpu"] * available_memory(device)
        placing = with_largest_micro_batch(recipe.model, placing, room)
        limit = max(1, min(placing.micro_batch, enough_sequences(recipe.model, device.type)))
        micro_batch = math.ceil(share / math.ceil(share / limit))
    return replace(placing, micro_batch=micro_batch, accumulates=micro_batch < share)


def enough_sequences(model: ModelConfig, device: str) -> int:
    """How many at once make a device as fast as it gets."""
    # A CPU is fastest while activations stay in its caches; 16k tokens fill any GPU, more only cost memory.
    return max(1, (2_048 if device == "cpu" else 16_384) // model.context_length)


def _make_ready(step: TrainingStep, recipe: Recipe) -> None:
    """Compile the step, and see whether its micro-batch fits into a GPU's memory."""
    if recipe.compile != "off":
        _compile(step, required=recipe.compile == "on")
    elif step.device.type != "cpu":
        step.rehearse()


def within_memory(
    step: TrainingStep, action: Callable[[], Result], halved: Callable[[int], None] | None = None
) -> Result:
    """What `action` returns; where memory runs out in its gradients, after halving the micro-batch.

    Args:
        step: whose micro-batch it is.
        action: computes gradients.
        halved: remembers the new micro-batch, for a resumption too.

    Raises:
        UserError: it was one already; or an update was broken off in the middle; or there are other
            processes, which wait for this one: all must then start again, with what `halved` remembered.
    """
    while True:
        try:
            return action()
        except torch.OutOfMemoryError as error:
            lost = _out_of_memory(step, remembered=halved is not None)
            fewer = step.micro_batch // 2
            if fewer and halved:
                halved(fewer)
            if not fewer or step.optimizers.updating or step.placement.world.size > 1:
                raise lost from error
            step.optimizers.zero_grad()
            step.micro_batch = fewer
            if step.device.type == "cuda":
                torch.cuda.empty_cache()
            say(f"out of memory; going on with a micro-batch of {fewer}")


def _out_of_memory(step: TrainingStep, *, remembered: bool) -> UserError:
    fewer = step.micro_batch // 2
    fix = "Take --recompute-activations, a smaller model or context, or more GPUs and --parallel fsdp"
    if fewer and remembered:
        fix = f"Start it again with --resume: it goes on with {fewer}; the last checkpoint is intact"
    elif fewer:
        fix = f"Start it again with --micro-batch {fewer}"
    return UserError(
        f"the device ran out of memory with a micro-batch of {step.micro_batch}", where="micro_batch", fix=fix
    )


def _compile(step: TrainingStep, *, required: bool) -> None:
    """Compile the step and try it once; where that fails in any process, leave it uncompiled and say why.

    Raises:
        UserError: it failed and is `required`.
    """
    world, reason = step.placement.world, ""
    if step.device.type == "cpu" and cxx_compiler() is None:
        reason = "there is no C++ compiler"
    if not world.any(bool(reason)):
        say("compiling the training step; a later run of the same shape finds it in a cache")
        started = time.perf_counter()
        step.loss = compiled_loss()
        try:
            step.rehearse(last=False)  # the other processes may fail: none waits for their gradients
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the compiler stack raises many kinds; training can go on without it
            reason = f"torch.compile failed ({str(error).strip().splitlines()[0]})"
        if not world.any(bool(reason)):
            say(f"compiled in {format_duration(time.perf_counter() - started)}")
            return
        step.loss = summed_loss
    reason = reason or "another process could not compile"
    if required:
        raise UserError(
            reason, where="--compile on", fix="Install g++ and Python's headers, or use --compile auto"
        )
    say(f"not compiled, so slower: {reason}")


def _steps_in_time(recipe: Recipe, step: TrainingStep) -> int:
    """How many steps the recipe's minutes allow, leaving no trace of the steps taken to find out."""
    seconds = within_memory(step, lambda: seconds_a_step(step))
    steps = step.placement.world.on_first(lambda: max(1, round(60 * recipe.minutes / seconds)))
    step.optimizers = Optimizers(step.placement, recipe.optimizer)
    step.spikes = SpikeWatch(recipe.optimizer.skip_spikes_above)
    say(f"{recipe.minutes:g} minutes are about {steps:,} steps on this machine")
    return steps


def seconds_a_step(step: TrainingStep) -> float:
    """How long a step takes on this machine, timed with every weight left as it is (a rate of zero)."""
    say("timing some steps")
    step.take(0, 0.0)  # the first one also finds memory
    taken, started = 0, time.perf_counter()
    world = step.placement.world
    while taken < _TIMED_STEPS and not world.any(time.perf_counter() - started >= _TIMED_SECONDS):
        step.take(taken, 0.0)
        taken += 1
    return (time.perf_counter() - started) / taken
