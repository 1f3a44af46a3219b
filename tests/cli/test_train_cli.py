"""`gpt2lab train`: its options, its help, its dry run. Mistakes stand in tests/test_bad_input.py."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from gpt2lab.cli.main import main
from gpt2lab.model.gpt import GPT
from gpt2lab.training.recipe import load_recipe, recipe_names
from gpt2lab.training.run import RunFolder

pytestmark = pytest.mark.usefixtures("here")


def test_a_run_from_beginning_to_end(capsys, here):
    assert main(["train", "tiny.toml", "--seed", "5", "--schedule.steps", "3"]) == 0
    out, err = capsys.readouterr()
    assert out == 'Done. Let it write: gpt2lab generate runs/tiny "Once upon a time"\n'
    assert "held-out loss" in err
    run = RunFolder(here / "runs" / "tiny")
    assert (run.recipe().seed, run.recipe().schedule.steps) == (5, 3)
    assert run.checkpoint(3).is_dir()
    assert main(["train", "runs/tiny"]) == 0  # nothing is left to do
    assert main(["train", "runs/tiny", "--resume"]) == 0
    assert main(["train", "tiny.toml", "--resume"]) == 0


def test_a_dry_run_shows_the_recipe_and_starts_nothing(capsys, here):
    before = sorted(here.rglob("*"))
    assert main(["train", "tiny.toml", "--dry-run", "--seed", "77"]) == 0
    out = capsys.readouterr().out
    assert "seed = 77" in out
    assert "steps = 4" in out
    assert "# parameters:" in out
    assert "256 (" in out  # tokens
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("name", recipe_names())
def test_a_dry_run_of_a_shipped_recipe_needs_no_data_and_is_a_recipe_itself(capsys, tmp_path, name):
    assert main(["train", name, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    with torch.device("meta"):  # the largest would take 6 GB
        n_parameters = sum(p.numel() for p in GPT(load_recipe(name).model).parameters())
    assert f"# parameters:                    {n_parameters:,}\n" in shown
    (tmp_path / "shown.toml").write_text(shown)
    assert replace(load_recipe(str(tmp_path / "shown.toml")), summary="") == replace(
        load_recipe(name), summary=""
    )


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_says_what_to_expect_and_names_its_data(name):
    recipe = load_recipe(name)
    for word in ("Loss: ", "Time and cost: ", "Memory: ", "Data: "):
        assert f"\n{word}" in recipe.summary
    assert recipe.data.path == "" or f"huggingface.co/datasets/{recipe.data.path}" in recipe.summary
    assert "--data" in recipe.summary


def test_data_is_short_for_data_path(capsys):
    for options in (["--data", "texts"], ["--data=texts"], ["--data.path", "texts"]):
        assert main(["train", "tiny.toml", "--dry-run", *options]) == 0
        assert 'path = "texts"' in capsys.readouterr().out


def test_help_names_every_field_with_the_recipes_own_value(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        main(["train", "tiny.toml", "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for option in ("--schedule.steps", "--model.n-embd", "--init-from", "--data.path", "--out", "--dry-run"):
        assert option in out
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    assert "recipes: demo" in out
    assert "examples:" in out
    assert main(["train"]) == 2


def test_help_imports_nothing_heavy():
    code = "import sys; from gpt2lab.cli import train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "options", [["--sed", "1"], ["--seed", "x"], ["--device", "tpu"], ["--model.n-layr", "1"]]
)
def test_misspelt_options_exit_with_2_and_start_nothing(capsys, here, options):
    with pytest.raises(SystemExit) as caught:
        main(["train", "tiny.toml", *options])
    assert caught.value.code == 2
    assert not (here / "runs").exists()
    err = capsys.readouterr().err
    assert options[0].split(".")[-1].lstrip("-") in err


def test_help_on_a_runs_folder_is_help(capsys, here):
    assert main(["train", "tiny.toml", "--schedule.steps", "1"]) == 0
    assert main(["train", "runs/tiny", "--help"]) == 0
    assert "usage: gpt2lab train WHAT" in capsys.readouterr().out


def test_anothers_curve_is_left_out(capsys):
    assert main(["train", "gpt2-124m", "--dry-run", "--seed", "3"]) == 0
    assert 'expected_curve = "gpt2-124m"' in capsys.readouterr().out
    assert main(["train", "gpt2-124m", "--dry-run", "--data", "mine/"]) == 0
    out, err = capsys.readouterr()
    assert 'expected_curve = ""' in out
    assert "data being another, the run is not compared with the expected curve gpt2-124m" in err
    own = ["train", "gpt2-124m", "--dry-run", "--data", "mine/", "--expected-curve", "gpt2-124m"]
    assert main(own) == 0
    assert 'expected_curve = "gpt2-124m"' in capsys.readouterr().out
