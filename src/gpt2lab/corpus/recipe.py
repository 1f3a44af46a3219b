"""A corpus recipe: everything that decides what becomes of the sources, as one typed value kept as TOML.

Recipes shipped with the package lie in `gpt2lab/recipes/corpus/`; any path to a TOML file of the same shape
works as well. Whatever a recipe leaves out has the default written here.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tomli_w

from gpt2lab.base import shipped_recipes
from gpt2lab.base.errors import UserError
from gpt2lab.base.files import write_text
from gpt2lab.base.toml_table import as_table
from gpt2lab.data.shards import MAX_SHARD_TOKENS

_FOLDER = "corpus"


@dataclass(frozen=True)
class ReadConfig:
    """From files to documents."""

    source: Literal["files", "python-docs"] = "files"
    """the files named on the command line, or the English inside this Python installation"""
    max_bytes: int = 10_000_000
    """a longer page or document is dropped: memory goes with the longest"""
    extractor: Literal["trafilatura", "resiliparse"] = "trafilatura"
    """takes the main text out of pages: the better one, or the one that is eight times as fast"""


@dataclass(frozen=True)
class CleanConfig:
    """What is no text goes."""

    min_chars: int = 1
    """a shorter document is dropped"""
    min_letters: float = 0.0
    """share of letters among the visible characters; a document with less is dropped"""
    repair_encoding: bool = False
    """put right what was decoded wrongly before it came here; of pages this is done in any case"""
    python_docs: bool = False
    """take out paragraphs that are Python code, numbers or too short, as the demo does"""


@dataclass(frozen=True)
class LanguageConfig:
    """Which languages stay."""

    english_only: bool = True
    """drop documents of which less than half is English"""


@dataclass(frozen=True)
class QualityConfig:
    """Rules that others published, each with its thresholds."""

    rules: Literal["webtext", "gopher", "c4", "fineweb"] = "webtext"
    """whose: webtext has none (links that people voted for are its quality); fineweb takes most of the others
    and adds its own"""


@dataclass(frozen=True)
class PersonalDataConfig:
    """What can be told by its shape: e-mail addresses, public IP addresses, telephone numbers."""

    mask: bool = False
    """put addresses and numbers in their place that are reserved for examples"""


@dataclass(frozen=True)
class DuplicatesConfig:
    """The same text twice."""

    near_threshold: float = 0.8
    """documents at least so alike (Jaccard similarity of their word 5-grams) are one; 0 compares for
    equality alone"""


@dataclass(frozen=True)
class DecontaminateConfig:
    """Documents that quote evaluation sets."""

    against: tuple[str, ...] = ()
    """files or folders with the evaluation sets, in any shape that is text; none drops nothing"""
    min_words: int = 13
    """a document that shares so many words in a row with them is dropped"""


@dataclass(frozen=True)
class ShardsConfig:
    """From documents to tokens."""

    tokenizer: str = "gpt2"
    """a published name or a folder with a vocabulary"""
    validation_fraction: float = 0.005
    """share of documents held out, chosen by a hash of each document's id"""
    shard_tokens: int = 100_000_000
    """tokens in every shard but the last"""


@dataclass(frozen=True)
class CorpusRecipe:
    """A corpus, from its sources to its shards."""

    summary: str = ""
    """what this is for, and whose rules it follows"""
    read: ReadConfig = field(default_factory=ReadConfig)
    clean: CleanConfig = field(default_factory=CleanConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    personal_data: PersonalDataConfig = field(default_factory=PersonalDataConfig)
    duplicates: DuplicatesConfig = field(default_factory=DuplicatesConfig)
    decontaminate: DecontaminateConfig = field(default_factory=DecontaminateConfig)
    shards: ShardsConfig = field(default_factory=ShardsConfig)

    def __post_init__(self) -> None:
        _require(self.read.max_bytes >= 1, "read.max_bytes", "is less than 1")
        _require(self.clean.min_chars >= 1, "clean.min_chars", "is less than 1")
        _require(0 <= self.clean.min_letters <= 1, "clean.min_letters", "is not in 0..1")
        _require(0 <= self.duplicates.near_threshold <= 1, "duplicates.near_threshold", "is not in 0..1")
        _require(self.decontaminate.min_words >= 8, "decontaminate.min_words", "is less than 8")
        _require(0 <= self.shards.validation_fraction < 1, "shards.validation_fraction", "is not in 0..1")
        _require(
            1 <= self.shards.shard_tokens <= MAX_SHARD_TOKENS,
            "shards.shard_tokens",
            f"is not in 1..{MAX_SHARD_TOKENS:,}",
        )


def _require(condition: bool, option: str, what: str) -> None:
    if not condition:
        raise UserError(
            f"{option} {what}", where="recipe", fix=f"Change {option} in the recipe or with --{option}"
        )


def corpus_recipe_names() -> list[str]:
    """Names of the corpus recipes shipped with the package."""
    return shipped_recipes.recipe_names(_FOLDER)


def load_corpus_recipe(name_or_path: str) -> CorpusRecipe:
    """Read a shipped corpus recipe by its name, or any TOML file.

    Raises:
        UserError: no such recipe; not TOML; an unknown field (close ones are named); a value of a wrong type
            or out of range.
    """
    return shipped_recipes.read_recipe(CorpusRecipe, name_or_path, _FOLDER, what="corpus recipe or TOML file")


def save_corpus_recipe(recipe: CorpusRecipe, path: Path) -> None:
    """Write every field, defaults included, so that the file means the same under later versions."""
    write_text(path, tomli_w.dumps(as_table(recipe)))
