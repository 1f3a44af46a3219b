import dataclasses
import tomllib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt2lab.base.errors import UserError
from gpt2lab.model.config import ModelConfig
from gpt2lab.training.recipe import (
    DataConfig,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    load_recipe,
    recipe_names,
    save_recipe,
)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
shares = st.floats(0, 0.99)
recipes = st.builds(
    Recipe,
    summary=words,
    model=st.builds(ModelConfig, context_length=st.just(64), n_inner=st.none() | st.integers(1, 99)),
    data=st.builds(DataConfig, path=words, tokenizer=words, validation_fraction=shares),
    optimizer=st.builds(
        OptimizerConfig,
        name=st.sampled_from(["adamw", "muon"]),
        learning_rate=st.floats(1e-300, 1e9),
        beta1=shares,
        weight_decay=st.floats(0, 10),
    ),
    schedule=st.builds(
        ScheduleConfig,
        steps=st.integers(1, 10**12),
        warmup_steps=st.integers(0, 99),
        decay=st.sampled_from(["cosine", "linear"]),
        final_fraction=st.floats(0, 1),
    ),
    batch_tokens=st.integers(1, 10**6).map(lambda n: 64 * n),
    seed=st.integers(-(2**62), 2**62),
    fast=st.booleans(),
    minutes=st.floats(0, 1e6),
    sample_prompt=words,
)


@settings(max_examples=100, deadline=None)
@given(recipe=recipes)
@example(recipe=Recipe(sample_prompt="\r\n", summary="two\nlines"))
def test_a_recipe_comes_back_from_its_file(tmp_path_factory, recipe):
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    save_recipe(recipe, path)
    assert load_recipe(str(path)) == recipe


def test_a_saved_recipe_names_every_field(tmp_path):
    save_recipe(Recipe(), tmp_path / "recipe.toml")
    table = tomllib.loads((tmp_path / "recipe.toml").read_text())
    fields = {field.name for field in dataclasses.fields(Recipe)}
    assert set(table) == fields
    assert set(table["model"]) == {field.name for field in dataclasses.fields(ModelConfig)} - {"n_inner"}


def test_what_a_recipe_leaves_out_has_its_default(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text("[schedule]\nsteps = 7\n[optimizer]\nlearning_rate = 1\n")
    recipe = load_recipe(str(path))
    assert recipe == Recipe(schedule=ScheduleConfig(steps=7), optimizer=OptimizerConfig(learning_rate=1.0))
    assert isinstance(recipe.optimizer.learning_rate, float)


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads_and_says_what_it_is(name):
    assert load_recipe(name).summary.strip()


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("sed = 1", r"unknown field sed\. Did you mean 'seed'\."),
        ("[model]\nn_layers = 2", r"unknown field model.n_layers\. Did you mean 'n_layer'\."),
        ("zzz = 1", "unknown field zzz. Known fields: summary, model"),
        ('seed = "1"', "seed = '1' is of the wrong kind. It takes a whole number"),
        ("seed = true", "seed = True is of the wrong kind. It takes a whole number"),
        ("seed = 1.5", "seed = 1.5 is of the wrong kind. It takes a whole number"),
        ("fast = 1", "fast = 1 is of the wrong kind. It takes true or false"),
        ("summary = 1", "summary = 1 is of the wrong kind. It takes text in quotes"),
        ("minutes = true", "minutes = True is of the wrong kind. It takes a number"),
        ("model = 1", "model = 1 is of the wrong kind. It takes a table"),
        ("[model]\nn_inner = 'x'", "model.n_inner = 'x' is of the wrong kind. It takes a whole number"),
        ('device = "tpu"', "device = 'tpu' is of the wrong kind. It takes one of 'auto', 'cpu'"),
        ("seed = ", "not valid TOML: Invalid value"),
        ("batch_tokens = 1000", "batch_tokens is less than one context"),
        ("batch_tokens = 1025", "batch_tokens 1,025 is not a multiple of the context length 1,024"),
        ("[schedule]\nsteps = 0", "schedule.steps is less than 1"),
        ("[schedule]\nwarmup_steps = -1", "schedule.warmup_steps is negative"),
        ("[schedule]\nfinal_fraction = 1.1", "schedule.final_fraction is not in 0..1"),
        ("[data]\nvalidation_fraction = nan", "data.validation_fraction is not in 0..1"),
        ("[optimizer]\nlearning_rate = 0", "optimizer.learning_rate is not above 0"),
        ("[optimizer]\nlearning_rate = inf", "optimizer.learning_rate is not above 0 and finite"),
        ("[optimizer]\nclip_norm = nan", "optimizer.clip_norm is not above 0"),
        ("[optimizer]\nbeta2 = 1.0", "optimizer.beta2 is not in 0..1"),
        ("[optimizer]\nmuon_momentum = -0.1", "optimizer.muon_momentum is not in 0..1"),
        ("[optimizer]\nweight_decay = -1", "optimizer.weight_decay is negative"),
        ("minutes = inf", "minutes is negative or not finite"),
        ("save_every = 0", "save_every is less than 1"),
        ("[model]\nn_head = 5", "model.n_head: 5 does not divide n_embd 768"),
    ],
)
def test_a_recipe_with_a_mistake_says_which(tmp_path, toml, message):
    (tmp_path / "bad.toml").write_text(toml)
    with pytest.raises(UserError, match=message):
        load_recipe(str(tmp_path / "bad.toml"))


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_a_seed_must_fit_the_generator(seed):
    with pytest.raises(UserError, match="seed does not fit 64 bits"):
        Recipe(seed=seed)


def test_an_unknown_recipe_suggests_one():
    with pytest.raises(UserError, match=r"no recipe, TOML file or run folder 'Demoo'.*Did you mean 'demo'\?"):
        load_recipe("Demoo")
    with pytest.raises(UserError, match=r"no recipe.*'qqqqqq'. Recipes: .*demo"):
        load_recipe("qqqqqq")
    with pytest.raises(UserError, match="no such file"):
        load_recipe("nowhere.toml")
