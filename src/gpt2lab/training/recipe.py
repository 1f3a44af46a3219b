"""A recipe: everything that decides a training run, as one typed value kept as a TOML file.

Recipes shipped with the package lie in `gpt2lab/recipes/`; any path to a TOML file of the same shape works
as well. A recipe is complete: whatever it leaves out has the default written here.
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import tomli_w

from gpt2lab.base import shipped_recipes
from gpt2lab.base.device import DeviceName
from gpt2lab.base.errors import UserError
from gpt2lab.base.files import write_text
from gpt2lab.base.toml_table import as_table
from gpt2lab.data.batch_sizes import BatchSizes
from gpt2lab.model.config import ModelConfig
from gpt2lab.training.writers import WriterName

_NOT_A_SIZE = "is negative or not finite"


@dataclass(frozen=True)
class DataConfig:
    """What to train on."""

    path: str = ""
    """a folder of token shards; or text (.txt, .jsonl, .parquet, a folder of them), which is tokenised first;
    or the id of a dataset on the Hugging Face Hub that holds either (shards are fetched as training goes)"""
    files: str = ""
    """of a Hub dataset of texts: only files that match this pattern (sample/10BT/*.parquet); empty: all"""
    tokenizer: str = "gpt2"
    """for text and for samples: a published name or a folder with a vocabulary; empty learns one of
    model.vocab_size tokens from the text"""
    validation_fraction: float = 0.05
    """for text: share of documents held out, chosen by a hash of each document"""


@dataclass(frozen=True)
class OptimizerConfig:
    """How gradients become updates."""

    name: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for the blocks' matrices and AdamW for the rest; adamw: AdamW for all"""
    learning_rate: float = 6e-4
    """AdamW's peak learning rate"""
    muon_learning_rate: float = 0.02
    """Muon's peak learning rate"""
    weight_decay: float = 0.1
    """decoupled decay of matrices and embeddings; biases and LayerNorm gains never decay"""
    beta1: float = 0.9
    """AdamW's memory of gradients"""
    beta2: float = 0.95
    """AdamW's memory of squared gradients"""
    muon_momentum: float = 0.95
    """Muon's momentum (Nesterov)"""
    clip_norm: float = 1.0
    """gradients are scaled down to at most this norm"""
    skip_spikes_above: float = 0.0
    """skip a step whose loss or gradient norm is so many standard deviations above its recent mean (6, say);
    0 skips none"""


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate moves, up linearly, then down to a fraction of the peak; and the batch size."""

    steps: int = 1000
    """optimizer steps in all"""
    warmup_steps: int = 100
    """steps of linear warm-up"""
    decay: Literal["cosine", "linear", "wsd"] = "cosine"
    """shape of the way down; wsd holds the peak and goes down only at the end"""
    decay_share: float = 0.2
    """for wsd: share of the steps on the way down"""
    final_fraction: float = 0.1
    """learning rate at the end, as a share of the peak"""
    first_batch_tokens: int = 0
    """tokens of the first batch, which grows linearly to batch_tokens (GPT-3: 32k); 0 begins with all"""
    batch_growth_tokens: int = 0
    """tokens read while the batch grows"""

    def shortened(self, steps: int) -> "ScheduleConfig":
        """For so many steps; where they are fewer, with the same share of warm-up."""
        share = min(1.0, steps / self.steps)
        return replace(self, steps=steps, warmup_steps=round(share * self.warmup_steps))


@dataclass(frozen=True)
class Recipe:
    """A training run, from its data to its last step."""

    summary: str = ""
    """what this run is and what to expect: loss, time, memory, cost, on which hardware, from what source"""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    batch_tokens: int = 524_288
    """tokens an optimizer step learns from, over all devices; gradients accumulate to reach it"""
    micro_batch: int = 0
    """sequences computed at once; 0 finds how many fit"""
    seed: int = 1
    """decides the initial weights, the order of the data and dropout"""
    init_from: str = ""
    """start from this model's weights (published name, hub id or folder) instead of fresh ones"""
    device: DeviceName = "auto"
    """where to compute"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """of matrix products; weights and optimizer state stay float32; auto takes bfloat16 where it is faster"""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile the training step; auto does where a C++ compiler (CPU) or a GPU is there"""
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """of several processes (torchrun): ddp keeps a whole model in each, fsdp a share of it, which takes less
    memory and more time; auto takes fsdp where a whole one would fill more than half a GPU"""
    recompute_activations: bool = False
    """compute activations again in the backward pass instead of keeping them: a fraction of their memory, up
    to a third more time, the same numbers"""
    background_saves: Literal["auto", "on", "off"] = "auto"
    """write checkpoints from a copy in main memory while training goes on; auto does on a GPU"""
    fast: bool = False
    """give up bit-for-bit repeatability for speed"""
    minutes: float = 0.0
    """if above 0: time some steps first, then set schedule.steps so that training takes about this long"""
    log_every: int = 10
    """steps between lines of metrics.jsonl"""
    validate_every: int = 100
    """steps between validations; the last step always validates"""
    validate_tokens: int = 1_048_576
    """tokens of the held-out text used for each validation"""
    save_every: int = 500
    """steps between checkpoints; the last step always saves"""
    save_minutes: float = 15.0
    """save also when the last checkpoint is so many minutes old; 0 does not"""
    sample_every: int = 0
    """steps between samples printed on the way; 0 prints none"""
    sample_prompt: str = ""
    """what those samples continue; empty starts from nothing"""
    expected_curve: str = ""
    """held-out loss to expect, a shipped curve's name or a TOML file: each validation is compared with it"""
    writers: tuple[WriterName, ...] = ()
    """who also gets the metrics: tensorboard, wandb (extras of the same names)"""

    def __post_init__(self) -> None:
        _require(self.batch_tokens >= self.model.context_length, "batch_tokens", "is less than one context")
        _require(
            self.batch_tokens % self.model.context_length == 0,
            "batch_tokens",
            f"{self.batch_tokens:,} is not a multiple of the context length {self.model.context_length:,}",
        )
        _require(self.schedule.steps >= 1, "schedule.steps", "is less than 1")
        _require(0 <= self.schedule.warmup_steps, "schedule.warmup_steps", "is negative")
        _require(0 <= self.schedule.final_fraction <= 1, "schedule.final_fraction", "is not in 0..1")
        _require(0 < self.schedule.decay_share <= 1, "schedule.decay_share", "is not above 0 and at most 1")
        self._check_batch_growth()
        _require(0 <= self.data.validation_fraction < 1, "data.validation_fraction", "is not in 0..1")
        for name in ("learning_rate", "muon_learning_rate", "clip_norm"):
            value = getattr(self.optimizer, name)
            _require(0 < value < math.inf, f"optimizer.{name}", "is not above 0 and finite")
        for name in ("beta1", "beta2", "muon_momentum"):
            _require(0 <= getattr(self.optimizer, name) < 1, f"optimizer.{name}", "is not in 0..1 (below 1)")
        for name in ("weight_decay", "skip_spikes_above"):
            _require(0 <= getattr(self.optimizer, name) < math.inf, f"optimizer.{name}", _NOT_A_SIZE)
        for name in ("log_every", "validate_every", "validate_tokens", "save_every"):
            _require(getattr(self, name) >= 1, name, "is less than 1")
        for name in ("micro_batch", "sample_every", "save_minutes", "minutes"):
            _require(0 <= getattr(self, name) < math.inf, name, _NOT_A_SIZE)
        _require(-(2**63) <= self.seed < 2**63, "seed", "does not fit 64 bits")

    def _check_batch_growth(self) -> None:
        first, growth = self.schedule.first_batch_tokens, self.schedule.batch_growth_tokens
        _require(first >= 0, "schedule.first_batch_tokens", "is negative")
        _require(
            (growth > 0) == (first > 0),
            "schedule.batch_growth_tokens",
            "goes with schedule.first_batch_tokens",
        )
        if first == 0:
            return
        _require(
            first % self.model.context_length == 0 and self.batch_tokens % first == 0,
            "schedule.first_batch_tokens",
            f"{first:,} is no multiple of the context length, or does not divide batch_tokens",
        )
        _require(self.minutes == 0, "minutes", "cannot set the steps of a run whose batch grows")

    @property
    def batch_sequences(self) -> int:
        """Sequences of context_length tokens in an optimizer step, once the batch is full."""
        return self.batch_tokens // self.model.context_length

    @property
    def batch_sizes(self) -> BatchSizes:
        """Sequences in each step's batch."""
        context = self.model.context_length
        first, growth = self.schedule.first_batch_tokens, self.schedule.batch_growth_tokens
        return BatchSizes(self.batch_sequences, first // context, growth // context)


def _require(condition: bool, option: str, what: str) -> None:
    if not condition:
        raise UserError(
            f"{option} {what}", where="recipe", fix=f"Change {option} in the recipe or with --{option}"
        )


def recipe_names() -> list[str]:
    """Names of the recipes shipped with the package."""
    return shipped_recipes.recipe_names()


def load_recipe(name_or_path: str) -> Recipe:
    """Read a shipped recipe by its name, or any TOML file.

    Raises:
        UserError: no such recipe; not TOML; an unknown field (close ones are named); a value of a wrong type
            or out of range.
    """
    return shipped_recipes.read_recipe(Recipe, name_or_path, what="recipe, TOML file or run folder")


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write every field, defaults included, so that the file means the same under later versions."""
    write_text(path, tomli_w.dumps(as_table(recipe)))
