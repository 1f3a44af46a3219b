"""A tiny text, its vocabulary, and recipes that train on it in about a second."""

import dataclasses
import os
import random

import pytest

from gpt2lab.corpus.build import prepare
from gpt2lab.model.config import ModelConfig
from gpt2lab.tokenizer import train_bpe
from gpt2lab.training.launch import go_on, start
from gpt2lab.training.recipe import DataConfig, OptimizerConfig, Recipe, ScheduleConfig
from gpt2lab.training.run import RunFolder

TIMING_FIELDS = ("tokens_per_s", "mfu", "seconds", "memory_bytes")


@pytest.fixture(scope="session")
def text():
    """About 40 kB of sentences with something to learn in them, in paragraphs."""
    rng = random.Random(0)
    who = ["the cat", "a dog", "my friend", "the old man", "Zoë"]
    does = ["sees", "likes", "follows", "draws"]
    lines = [f"{rng.choice(who)} {rng.choice(does)} {rng.choice(who)}." for _ in range(1500)]
    return "\n".join(line + "\n" * (i % 3 == 2) for i, line in enumerate(lines))


@pytest.fixture(scope="session")
def tokenizer(text):
    return train_bpe([text], 300)


@pytest.fixture(scope="session")
def sources(tmp_path_factory, text, tokenizer):
    """A folder with the text, its vocabulary, and shards of it: `text.txt`, `vocabulary/` and `shards/`."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "text.txt").write_text(text, encoding="utf-8")
    tokenizer.save(folder / "vocabulary")
    prepare([folder / "text.txt"], tokenizer, folder / "shards", 0.05)
    return folder


@pytest.fixture(scope="session")
def make_recipe(sources, tokenizer):
    """A maker of recipes: eager, float32, six steps of four windows; nested fields with two underscores."""

    def make(**changes):
        tables = {
            "model": {"vocab_size": tokenizer.vocab_size, "context_length": 16, "n_layer": 2, "n_head": 2}
            | {"n_embd": 32},
            "data": {"path": str(sources / "shards"), "tokenizer": str(sources / "vocabulary")},
            "optimizer": {"learning_rate": 3e-3},
            "schedule": {"steps": 6, "warmup_steps": 2},
        }
        top = {"batch_tokens": 64, "micro_batch": 2, "device": "cpu", "precision": "float32"}
        top |= {"compile": "off", "log_every": 1, "validate_every": 3, "validate_tokens": 256}
        top |= {"save_every": 2}
        for name, value in changes.items():
            table, _, field = name.partition("__")
            (tables[table] if field else top)[field or name] = value
        kinds = {
            "model": ModelConfig,
            "data": DataConfig,
            "optimizer": OptimizerConfig,
            "schedule": ScheduleConfig,
        }
        return Recipe(**{name: kinds[name](**table) for name, table in tables.items()}, **top)

    return make


@pytest.fixture
def with_dropout():
    """Fields of a recipe whose model drops out everywhere, so that randomness matters."""
    return {"model__embd_pdrop": 0.1, "model__attn_pdrop": 0.1, "model__resid_pdrop": 0.1}


@pytest.fixture
def train_in():
    """Start a run in a folder, or go on with the one in it; returns its `RunFolder`."""

    def train(folder, recipe=None):
        if recipe is None:
            go_on(folder)
        else:
            start(recipe, folder)
        return RunFolder(folder)

    return train


@pytest.fixture
def timeless():
    """A run's metrics without what differs from one repetition to the next."""

    def strip(run):
        return [{k: v for k, v in row.items() if k not in TIMING_FIELDS} for row in run.metrics()]

    return strip


@pytest.fixture
def final_bytes():
    """The bytes that must not depend on how often a run was stopped: weights and optimizer state."""

    def read(run, step):
        folder = run.path / "checkpoints" / f"step-{step:08d}"
        names = ("model.safetensors", "training_state/state.safetensors", "config.json")
        return {name: (folder / name).read_bytes() for name in names}

    return read


@pytest.fixture(scope="session")
def module_environment():
    """See `environment`."""
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "100"}


@pytest.fixture
def environment(module_environment):
    """For subprocesses: one thread, nothing from a network, plain output."""
    return module_environment


@pytest.fixture
def change():
    """`dataclasses.replace`, for recipes."""
    return dataclasses.replace
