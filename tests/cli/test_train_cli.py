"""`gpt2lab train`: its options, and one clear line for everything that can be wrong with what it is given."""

import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from gpt2lab.cli.main import main
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import train_bpe
from gpt2lab.training.recipe import load_recipe, recipe_names
from gpt2lab.training.run import RunFolder

RECIPE = """
batch_tokens = 64
micro_batch = 2
device = "cpu"
precision = "float32"
compile = "off"
log_every = 1
validate_every = 2
validate_tokens = 256
save_every = 2
[model]
vocab_size = 300
context_length = 16
n_layer = 2
n_head = 2
n_embd = 32
[data]
path = "text.txt"
tokenizer = "vocabulary"
[schedule]
steps = 4
warmup_steps = 1
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a text, a vocabulary, a recipe, and a run that has been trained from them."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("made")
    rng = random.Random(0)
    words = ["café", *("".join(rng.choices("abcdefgh", k=5)) for _ in range(60))]
    text = "\n\n".join(" ".join(rng.choices(words, k=12)) for _ in range(300))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    train_bpe([text], 300).save(folder / "vocabulary")
    (folder / "tiny.toml").write_text(RECIPE)
    before = os.getcwd()  # noqa: PTH109
    os.chdir(folder)
    try:
        assert main(["train", "tiny.toml", "--out", "done"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def here(made, tmp_path, monkeypatch):
    """Each test in a copy of that folder, as its working directory."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def fails(capsys, *arguments):
    """The one line that a command line that cannot work prints, without its beginning."""
    capsys.readouterr()
    assert main(["train", *arguments]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("gpt2lab: error: ")]
    assert len(lines) == 1, err
    assert err.splitlines()[-1] == lines[0]
    assert out == ""
    assert "Traceback" not in err
    return lines[0].removeprefix("gpt2lab: error: ")


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
    n_parameters = sum(p.numel() for p in GPT(load_recipe(name).model).parameters())
    assert f"# parameters:                    {n_parameters:,}\n" in shown
    (tmp_path / "shown.toml").write_text(shown)
    assert replace(load_recipe(str(tmp_path / "shown.toml")), summary="") == replace(
        load_recipe(name), summary=""
    )


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


# Command line after `gpt2lab train` -> parts of its one line. Exit code 2 each.
MISTAKES = {
    "unknown recipe": ("demmo", ["no recipe, TOML file or run folder 'demmo'", "Did you mean 'demo'?"]),
    "missing recipe file": ("nowhere.toml", ["nowhere.toml: no such file"]),
    "not TOML": ("text.toml", ["text.toml: not valid TOML"]),
    "unknown field": ("typo.toml", ["typo.toml: unknown field schedule.step", "Did you mean 'steps'"]),
    "option out of range": ("tiny.toml --schedule.steps 0", ["schedule.steps is less than 1"]),
    "batch no multiple": ("tiny.toml --batch-tokens 65", ["65 is not a multiple of the context length 16"]),
    "heads do not divide": ("tiny.toml --model.n-head 5", ["5 does not divide n_embd 32"]),
    "options for a started run": ("done --seed 2", ["done: a started run keeps its recipe", "--seed"]),
    "run exists": ("tiny.toml --out done", ["done: a run was already started", "gpt2lab train done"]),
    "folder is taken": ("tiny.toml --out vocabulary", ["vocabulary: this is not an empty folder"]),
    "no data named": ("demo", ["data.path: this recipe names no data"]),
    "data missing": ("tiny.toml --data.path nowhere", ["nowhere: no such file or folder"]),
    "data and vocabulary missing": (
        "tiny.toml --data.path nowhere --data.tokenizer ./neither",
        ["nowhere: no such file or folder"],
    ),
    "data empty": ("tiny.toml --data.path empty.txt", ["empty.txt: there is no text here"]),
    "folder without text": ("tiny.toml --data.path nothing", ["nothing: there is no text here"]),
    "data not UTF-8": ("tiny.toml --data.path latin1.txt", ["latin1.txt: not UTF-8 text: byte 3 is 0xe9"]),
    "data of another kind": ("tiny.toml --data.path a.pdf", ["a.pdf: not a kind of file", ".pdf"]),
    "data too short": ("tiny.toml --data.path short.txt", ["short.txt: the text is too short to hold"]),
    "nothing held out": ("tiny.toml --data.validation-fraction 0", ["fell into the 'val' split"]),
    "no such vocabulary": ("tiny.toml --data.tokenizer ./nowhere", ["nowhere: there is no such directory"]),
    "model too small": ("tiny.toml --model.vocab-size 299", ["300 tokens and the model has 299"]),
    "shard cut short": ("tiny.toml --data.path cut", ["cut/train_000000.bin"]),
    "shards of a larger vocabulary": (
        "tiny.toml --data.path done/data --model.vocab-size 200",
        ["done/data: the vocabulary does not fit the shards", "300 tokens and the model has 200"],
    ),
    "no such model": ("tiny.toml --init-from nowhere", ["there is no model 'nowhere'"]),
    "model of another shape": ("tiny.toml --init-from done --model.n-layer 3", ["has another shape"]),
    "damaged model": ("tiny.toml --init-from damaged", ["model.safetensors", "not what was saved"]),
    "no such device": ("tiny.toml --device mps", ["device 'mps' is not available"]),
}


@pytest.fixture
def bad_things(here):
    """What those command lines name."""
    (here / "text.toml").write_text("once upon a time")
    (here / "typo.toml").write_text(RECIPE.replace("steps = 4", "step = 4"))
    (here / "empty.txt").touch()
    (here / "nothing").mkdir()
    (here / "latin1.txt").write_bytes("café".encode("latin-1") * 9)
    (here / "short.txt").write_text("a dog")
    (here / "a.pdf").write_bytes(b"%PDF")
    shutil.copytree(here / "done" / "data", here / "cut")
    shard = here / "cut" / "train_000000.bin"
    shard.write_bytes(shard.read_bytes()[:-100])
    shutil.copytree(RunFolder(here / "done").checkpoint(4), here / "damaged")
    weights = bytearray((here / "damaged" / "model.safetensors").read_bytes())
    weights[-9] ^= 1
    (here / "damaged" / "model.safetensors").write_bytes(weights)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_line_and_leaves_no_run(capsys, here, bad_things, name):
    line, parts = MISTAKES[name]
    message = fails(capsys, *line.split())
    for part in parts:
        assert part in message
    # The command that mends it must not find its folder taken.
    assert not list(here.glob("runs/*"))


def test_a_mistake_in_a_started_run_leaves_the_run(capsys, here):
    """Its own shards are cut short between two starts."""
    shard = here / "done" / "data" / "train_000000.bin"
    shard.write_bytes(shard.read_bytes()[:-100])
    before = sorted((here / "done").rglob("*"))
    assert "done/data/train_000000.bin" in fails(capsys, "done")
    assert sorted((here / "done").rglob("*")) == before


def test_a_full_disk_is_one_line_too(capsys, here, monkeypatch):
    import errno

    from gpt2lab.checkpoint import training_state

    def write_tensors(path, tensors, metadata):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(training_state, "write_tensors", write_tensors)
    assert "the disk is full; what was there before is untouched" in fails(capsys, "tiny.toml")
    monkeypatch.undo()
    os.chdir(here)
    assert main(["train", "runs/tiny"]) == 0


def test_losses_that_are_no_numbers_are_one_line_too(capsys, here):
    message = fails(capsys, "tiny.toml", "--optimizer.learning-rate", "1e30", "--schedule.steps", "50")
    assert "3 steps in a row had no finite loss or gradient" in message
    assert "Start a run with a lower learning rate or a longer warm-up" in message
