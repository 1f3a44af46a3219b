"""A recipe: everything that decides a training run, as one typed value kept as a TOML file.

Recipes shipped with the package lie in `gpt2lab/recipes/`; any path to a TOML file of the same shape works
as well. A recipe is complete: whatever it leaves out has the default written here.
"""

import dataclasses
import difflib
import math
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import tomli_w

from gpt2lab.base.device import DeviceName
from gpt2lab.base.errors import UserError
from gpt2lab.base.files import read_text, write_text
from gpt2lab.model.config import ModelConfig

_NOT_A_SIZE = "is negative or not finite"


@dataclass(frozen=True)
class DataConfig:
    """What to train on."""

    path: str = ""
    """a folder of token shards; or text (.txt, .jsonl, a folder of them), which is tokenised first"""
    tokenizer: str = "gpt2"
    """for text and for samples: a published name or a folder with a vocabulary"""
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


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate moves: up linearly, then down to a fraction of the peak."""

    steps: int = 1000
    """optimizer steps in all"""
    warmup_steps: int = 100
    """steps of linear warm-up"""
    decay: Literal["cosine", "linear"] = "cosine"
    """shape of the way down"""
    final_fraction: float = 0.1
    """learning rate at the end, as a share of the peak"""


@dataclass(frozen=True)
class Recipe:
    """A training run, from its data to its last step."""

    summary: str = ""
    """what this run is and what to expect: loss, time and memory, on which hardware, from what source"""
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
    sample_every: int = 0
    """steps between samples printed on the way; 0 prints none"""
    sample_prompt: str = ""
    """what those samples continue; empty starts from nothing"""

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
        _require(0 <= self.data.validation_fraction < 1, "data.validation_fraction", "is not in 0..1")
        for name in ("learning_rate", "muon_learning_rate", "clip_norm"):
            value = getattr(self.optimizer, name)
            _require(0 < value < math.inf, f"optimizer.{name}", "is not above 0 and finite")
        for name in ("beta1", "beta2", "muon_momentum"):
            _require(0 <= getattr(self.optimizer, name) < 1, f"optimizer.{name}", "is not in 0..1 (below 1)")
        _require(0 <= self.optimizer.weight_decay < math.inf, "optimizer.weight_decay", _NOT_A_SIZE)
        for name in ("log_every", "validate_every", "validate_tokens", "save_every"):
            _require(getattr(self, name) >= 1, name, "is less than 1")
        for name in ("micro_batch", "sample_every", "minutes"):
            _require(0 <= getattr(self, name) < math.inf, name, _NOT_A_SIZE)
        _require(-(2**63) <= self.seed < 2**63, "seed", "does not fit 64 bits")

    @property
    def batch_sequences(self) -> int:
        """Sequences of context_length tokens in an optimizer step."""
        return self.batch_tokens // self.model.context_length


def _require(condition: bool, option: str, what: str) -> None:
    if not condition:
        raise UserError(
            f"{option} {what}", where="recipe", fix=f"Change {option} in the recipe or with --{option}"
        )


def recipe_names() -> list[str]:
    """Names of the recipes shipped with the package."""
    folder = resources.files("gpt2lab") / "recipes"
    return sorted(
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    )


def load_recipe(name_or_path: str) -> Recipe:
    """Read a shipped recipe by its name, or any TOML file.

    Raises:
        UserError: no such recipe; not TOML; an unknown field (close ones are named); a value of a wrong type
            or out of range.
    """
    if name_or_path in recipe_names():
        text = (resources.files("gpt2lab") / "recipes" / f"{name_or_path}.toml").read_text("utf-8")
    elif name_or_path.endswith(".toml"):
        text = read_text(Path(name_or_path))
    else:
        close = difflib.get_close_matches(name_or_path, recipe_names(), n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise UserError(
            f"there is no recipe, TOML file or run folder {name_or_path!r}",
            fix=f"{hint}Recipes: {', '.join(recipe_names())}",
        )
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"not valid TOML: {error}", where=name_or_path, fix="Mend that line") from error
    recipe: Recipe = _from_table(Recipe, table, where=name_or_path, prefix="")
    return recipe


def _from_table(kind: Any, table: dict[str, Any], *, where: str, prefix: str) -> Any:
    """Build a dataclass from a TOML table, refusing fields it does not have."""
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in hints:
            close = difflib.get_close_matches(key, hints, n=1)
            hint = f"Did you mean {close[0]!r}" if close else f"Known fields: {', '.join(hints)}"
            raise UserError(f"unknown field {prefix}{key}", where=where, fix=hint)
        expected = hints[key]
        if dataclasses.is_dataclass(expected) and isinstance(value, dict):
            values[key] = _from_table(expected, value, where=where, prefix=f"{prefix}{key}.")
        elif _fits(value, expected):
            values[key] = float(value) if expected is float else value
        else:
            raise UserError(
                f"{prefix}{key} = {value!r} is of the wrong kind",
                where=where,
                fix=f"It takes {_say(expected)}",
            )
    return kind(**values)


def _fits(value: Any, expected: Any) -> bool:
    if get_origin(expected) is Literal:
        return value in get_args(expected)
    if get_args(expected):  # `int | None`: TOML has no null, so only the int can be written
        return any(_fits(value, option) for option in get_args(expected))
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, expected) and isinstance(value, bool) == (expected is bool)


def _say(expected: Any) -> str:
    if get_origin(expected) is Literal:
        return "one of " + ", ".join(repr(option) for option in get_args(expected))
    names = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}
    return names.get(expected, "a table" if dataclasses.is_dataclass(expected) else "a whole number")


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write every field, defaults included, so that the file means the same under later versions."""
    write_text(path, tomli_w.dumps(as_table(recipe)))


def as_table(recipe: Recipe) -> dict[str, Any]:
    """The recipe as TOML can hold it: nested tables, without the fields that are None."""

    def without_none(table: dict[str, Any]) -> dict[str, Any]:
        return {
            key: without_none(value) if isinstance(value, dict) else value
            for key, value in table.items()
            if value is not None
        }

    return without_none(dataclasses.asdict(recipe))
