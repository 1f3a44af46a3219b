"""What a run needs before its first step: device, precision, model, data, micro-batch, compiled or not."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gpt2lab.base.device import available_memory, bf16_is_fast, cxx_compiler, pick_device
from gpt2lab.base.errors import UserError
from gpt2lab.base.progress import format_duration
from gpt2lab.checkpoint.huggingface import load
from gpt2lab.data.dataset import TokenDataset
from gpt2lab.data.loader import BatchLoader
from gpt2lab.model.config import ModelConfig, count_parameters
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import Tokenizer
from gpt2lab.training.facts import Facts
from gpt2lab.training.live import say
from gpt2lab.training.optimizer import Optimizers
from gpt2lab.training.recipe import Recipe
from gpt2lab.training.step import TrainingStep, compiled_loss, summed_loss

_TIMED_STEPS, _TIMED_SECONDS = 30, 4.0  # for `minutes`: as many steps, unless they take longer


@dataclass
class Session:
    """A run ready to take steps."""

    facts: Facts
    model: GPT
    step: TrainingStep
    held_out: TokenDataset


def build_session(
    recipe: Recipe,
    data: Path,
    tokenizer: Tokenizer | None,
    earlier: Facts | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> Session:
    """Everything between reading a recipe and the first step.

    Args:
        recipe: what to do.
        data: folder of token shards.
        tokenizer: the vocabulary the shards should belong to, if at hand.
        earlier: what was decided when this run first started, if it is being resumed.
        weights: those of the checkpoint to go on from, if there is one.

    Raises:
        UserError: no such device; shards and vocabulary do not fit; `init_from` is of another shape;
            compiling was asked for and failed.
    """
    if earlier:
        recipe = _as_before(recipe, earlier)
    device = pick_device(recipe.device)
    vocab_size, fingerprint = recipe.model.vocab_size, tokenizer.fingerprint if tokenizer else None
    training, held_out = (
        TokenDataset.open(data, split, vocab_size=vocab_size, tokenizer_fingerprint=fingerprint)
        for split in ("train", "val")
    )
    model = initial_model(recipe, weights).to(device).train()
    step = TrainingStep(
        model,
        Optimizers(model, recipe.optimizer),
        BatchLoader(training, recipe.model.context_length, recipe.batch_sequences, recipe.seed),
        micro_batch=recipe.micro_batch or fitting_micro_batch(recipe, device),
        seed=recipe.seed,
        clip_norm=recipe.optimizer.clip_norm,
        dtype=_dtype(recipe, device),
    )
    if recipe.compile != "off":
        _compile(step, required=recipe.compile == "on")
    facts = Facts.here(
        device,
        steps=_steps_in_time(recipe, step) if recipe.minutes else recipe.schedule.steps,
        micro_batch=step.micro_batch,
        precision="bfloat16" if step.dtype == torch.bfloat16 else "float32",
        compiled=step.loss is not summed_loss,
        parameters=count_parameters(recipe.model),
        data_fingerprint=training.fingerprint,
    )
    return Session(facts, model, step, held_out)


def _as_before(recipe: Recipe, earlier: Facts) -> Recipe:
    """With what a run decided when it first started in the place of what it left open."""
    return replace(
        recipe,
        micro_batch=earlier.micro_batch,
        precision="bfloat16" if earlier.precision == "bfloat16" else "float32",
        compile="auto" if earlier.compiled else "off",
        minutes=0.0,
        schedule=replace(recipe.schedule, steps=earlier.steps),
    )


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


def fitting_micro_batch(recipe: Recipe, device: torch.device) -> int:
    """The most sequences to compute at once, a divisor of the batch, by an estimate of memory.

    For the backward pass a token keeps about 17 numbers a channel and layer (inputs of matrix products, norms
    and the activation; Korthikanti et al. 2022, equation 2, without the attention matrix, which the fused
    kernel never stores) and its logits about three times. They may take half the free memory.
    """
    model = recipe.model
    numbers_a_token = 17 * model.n_layer * model.n_embd + 3 * model.vocab_size
    bytes_a_sequence = 4 * model.context_length * numbers_a_token
    by_memory = available_memory(device) // 2 // bytes_a_sequence
    # A CPU is fastest while activations stay in its caches; 16k tokens fill any GPU, more only cost memory.
    enough_tokens = 2_048 if device.type == "cpu" else 16_384
    limit = max(1, min(by_memory, enough_tokens // model.context_length))
    divisors = (n for n in range(1, recipe.batch_sequences + 1) if recipe.batch_sequences % n == 0)
    return max(n for n in divisors if n <= limit)


def _compile(step: TrainingStep, *, required: bool) -> None:
    """Compile the step and try it once; where that fails, leave it uncompiled and say why.

    Raises:
        UserError: it failed and is `required`.
    """
    if step.device.type == "cpu" and cxx_compiler() is None:
        reason = "there is no C++ compiler"
    else:
        say("compiling the training step; a later run of the same shape finds it in a cache")
        started = time.perf_counter()
        try:
            step.loss = compiled_loss()
            step.rehearse()
            say(f"compiled in {format_duration(time.perf_counter() - started)}")
            return
        except Exception as error:  # the compiler stack raises many kinds, and training can go on without it
            step.loss = summed_loss
            reason = f"torch.compile failed ({str(error).strip().splitlines()[0]})"
    if required:
        raise UserError(
            reason, where="--compile on", fix="Install g++ and Python's headers, or use --compile auto"
        )
    say(f"not compiled, so slower: {reason}")


def _steps_in_time(recipe: Recipe, step: TrainingStep) -> int:
    """How many steps the recipe's minutes allow, leaving no trace of the steps taken to find out."""
    steps = max(1, round(60 * recipe.minutes / seconds_a_step(step)))
    step.optimizers = Optimizers(step.model, recipe.optimizer)
    say(f"{recipe.minutes:g} minutes are about {steps:,} steps on this machine")
    return steps


def seconds_a_step(step: TrainingStep) -> float:
    """How long a step takes on this machine, timed with every weight left as it is (a rate of zero)."""
    say("timing some steps")
    step.take(0, 0.0)  # the first one also finds memory
    taken, started = 0, time.perf_counter()
    while taken < _TIMED_STEPS and time.perf_counter() - started < _TIMED_SECONDS:
        step.take(taken, 0.0)
        taken += 1
    return (time.perf_counter() - started) / taken
