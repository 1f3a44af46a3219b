"""A user's mistakes at the command line: one clear line each, exit code 2, nothing on the disk altered."""

import errno
import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt2lab.checkpoint import training_state
from gpt2lab.cli.main import main
from gpt2lab.training.run import RunFolder

# What is typed after `gpt2lab` -> parts of the answer. The working directory is `here` with `bad_things`.
MISTAKES = {
    "unknown recipe": ("train demmo", ["no recipe, TOML file or run folder 'demmo'", "Did you mean 'demo'?"]),
    "missing recipe file": ("train nowhere.toml", ["nowhere.toml: no such file"]),
    "not TOML": ("train text.toml", ["text.toml: not valid TOML"]),
    "unknown field": ("train typo.toml", ["typo.toml: unknown field schedule.step", "Did you mean 'steps'"]),
    "option out of range": ("train tiny.toml --schedule.steps 0", ["schedule.steps is less than 1"]),
    "batch no multiple": (
        "train tiny.toml --batch-tokens 65",
        ["65 is not a multiple of the context length 16"],
    ),
    "batch does not grow evenly": (
        "train tiny.toml --schedule.first-batch-tokens 48 --schedule.batch-growth-tokens 640",
        ["schedule.first_batch_tokens 48 is no multiple of the context length, or does not divide"],
    ),
    "batch growth without a size": (
        "train tiny.toml --schedule.batch-growth-tokens 640",
        ["schedule.batch_growth_tokens goes with schedule.first_batch_tokens"],
    ),
    "growing batch in given time": (
        "train tiny.toml --schedule.first-batch-tokens 16 --schedule.batch-growth-tokens 640 --minutes 1",
        ["minutes cannot set the steps of a run whose batch grows"],
    ),
    "no such way down": (
        "train tiny.toml --schedule.decay-share 0",
        ["schedule.decay_share is not above 0 and at most 1"],
    ),
    "spikes below nothing": (
        "train tiny.toml --optimizer.skip-spikes-above -1",
        ["optimizer.skip_spikes_above is negative or not finite"],
    ),
    "heads do not divide": ("train tiny.toml --model.n-head 5", ["5 does not divide n_embd 32"]),
    "options for a started run": ("train done --seed 2", ["done: a started run keeps its recipe", "--seed"]),
    "run exists": ("train tiny.toml --out done", ["done: a run was already started", "gpt2lab train done"]),
    "folder is taken": ("train tiny.toml --out vocabulary", ["vocabulary: this is not an empty folder"]),
    "no data named": ("train demo", ["data.path: this recipe names no data"]),
    "data missing": ("train tiny.toml --data.path nowhere", ["nowhere: no such file or folder"]),
    "data and vocabulary missing": (
        "train tiny.toml --data.path nowhere --data.tokenizer ./neither",
        ["nowhere: no such file or folder"],
    ),
    "data empty": ("train tiny.toml --data.path empty.txt", ["empty.txt: there is no text here"]),
    "folder without text": ("train tiny.toml --data.path nothing", ["nothing: there is no text here"]),
    "data not UTF-8": (
        "train tiny.toml --data.path latin1.txt",
        ["latin1.txt: not UTF-8 text: byte 3 is 0xe9"],
    ),
    "data that is no Parquet": (
        "train tiny.toml --data bad.parquet",
        ["bad.parquet: this Parquet file cannot be read"],
    ),
    "Parquet without text": (
        "train tiny.toml --data notext.parquet",
        ["notext.parquet: columns: body", "Name the column of the text `text`"],
    ),
    "no such expected curve": (
        "train tiny.toml --expected-curve gpt2-125m",
        ["no expected curve or TOML file 'gpt2-125m'", "Did you mean 'gpt2-124m'?"],
    ),
    "expected curve that is none": (
        "train tiny.toml --expected-curve tiny.toml",
        ["tiny.toml: unknown field batch_tokens"],
    ),
    "hardware nobody knows": (
        "train tiny.toml --dry-run --hardware a1000",
        ["--hardware: no figures are known for 'a1000'", "a100-80gb"],
    ),
    "fewer than no devices": ("train tiny.toml --dry-run --devices 0", ["--devices: 0 are not possible"]),
    "no price": ("train tiny.toml --dry-run --price-per-hour nan", ["--price-per-hour: nan is no price"]),
    "nothing to compare with": ("compare done", ["RUN: there is nothing to compare with"]),
    "compared with itself": ("compare done done", ["RUN: the same run is named twice"]),
    "no run to compare": ("compare done vocabulary", ["vocabulary: this is no run's folder"]),
    "picture into a folder that is a file": (
        "compare done seed2 --out text.txt/compare.png",
        ["text.txt: no folder can be made here: File exists"],
    ),
    "data of another kind": ("train tiny.toml --data.path a.pdf", ["a.pdf: not a kind of file", ".pdf"]),
    "data too short": ("train tiny.toml --data.path short.txt", ["short.txt: the text is too short to hold"]),
    "nothing held out": ("train tiny.toml --data.validation-fraction 0", ["fell into the 'val' split"]),
    "no such vocabulary": (
        "train tiny.toml --data.tokenizer ./nowhere",
        ["nowhere: there is no such directory"],
    ),
    "model too small": ("train tiny.toml --model.vocab-size 299", ["300 tokens and the model has 299"]),
    "shard cut short": ("train tiny.toml --data.path cut", ["cut/train_000000.bin"]),
    "shards of a larger vocabulary": (
        "train tiny.toml --data.path done/data --model.vocab-size 200",
        ["done/data: the vocabulary does not fit the shards", "300 tokens and the model has 200"],
    ),
    "no such model": ("train tiny.toml --init-from nowhere", ["there is no model 'nowhere'"]),
    "model of another shape": ("train tiny.toml --init-from done --model.n-layer 3", ["has another shape"]),
    "damaged model": ("train tiny.toml --init-from damaged", ["model.safetensors", "not what was saved"]),
    "no such device": ("train tiny.toml --device mps", ["device 'mps' is not available"]),
    "run below a file": ("train tiny.toml --out text.txt/run", ["text.txt/run: no folder can be made here"]),
    "unknown command": ("trian demo", ["there is no command 'trian'", "Did you mean `gpt2lab train`"]),
    "demo into a file": ("demo --out text.txt", ["text.txt: no folder can be made here: File exists"]),
    "demo below a file": ("demo --out text.txt/demo", ["no folder can be made here: Not a directory"]),
    "demo without time": ("demo --minutes 0", ["there is nothing to train", "--minutes"]),
    "demo of less than no steps": ("demo --steps -1", ["there is nothing to train", "--steps"]),
    "demo of no number of minutes": ("demo --minutes nan", ["minutes is negative or not finite"]),
    "model to talk to missing": ("generate ./no-model Hello", ["no-model: there is no such directory"]),
    "no model in the folder": ("generate vocabulary Hello", ["vocabulary: this is not a model's directory"]),
    "altered byte": ("generate damaged Hello", ["model.safetensors", "not what was saved"]),
    "weights of another shape": ("generate misshapen Hello", ["wte", "(300, 32)", "(310, 32)"]),
    "prompt too long": (f"generate done {'word ' * 40}", ["prompt:", "do not fit the model's context of 16"]),
    "no such temperature": ("generate done Hello --temperature -1", ["temperature: -1.0 is not possible"]),
    "beams that draw": (
        "generate done Hello --num-beams 2 --top-k 5",
        ["top_k: does not go with num_beams 2"],
    ),
    "contrast among none": ("generate done Hello --penalty-alpha 0.6", ["penalty_alpha:", "and top_k is 0"]),
    "no such token": ("generate done Hello --stop-tokens 300", ["stop_tokens: there is no token 300"]),
    "cache too small": (
        "generate done Hello --cache-mib 1 --num-beams 500",
        ["cache: 500 x 16 tokens take", "the limit is 1.0"],
    ),
    "draft that is none": (
        "generate done Hello --draft nothing",
        ["nothing: this is not a model's directory"],
    ),
    "draft of no use": (
        "generate done Hello --draft done --num-beams 2",
        ["draft: does not go with num_beams 2"],
    ),
    "vocabulary into a file": (
        "tokenizer train text.txt --vocab-size 300 --out tiny.toml",
        ["tiny.toml: this is a file, and a tokenizer is a directory"],
    ),
    "vocabulary too small": (
        "tokenizer train text.txt --vocab-size 3 --out new",
        ["cannot hold the 256 bytes", "at least 257"],
    ),
    "no such benchmark": ("bench train", ["no benchmark 'train'", "gpt2lab bench generate"]),
    "nothing to time": ("bench generate --new-tokens 1", ["new_tokens: 1 is not possible", "at least 2"]),
    "links missing": ("corpus fetch nowhere.txt --out pages", ["nowhere.txt: no such file"]),
    "no links named": ("corpus fetch --out pages", ["LINKS: no links are named"]),
    "pages into a file": (
        "corpus fetch empty.txt --out text.txt",
        ["text.txt: no folder can be made here: File exists"],
    ),
    "no such day": ("corpus fetch empty.txt --out pages --before 2018", ["--before: '2018' is no day"]),
    "no vocabulary of that name": ("tokenizer encode nowhere Hello", ["there is no model 'nowhere'"]),
    "no vocabulary in the folder": ("tokenizer encode nothing Hello", ["nothing: there is no tokenizer"]),
    "no corpus recipe": ("corpus build web a.txt", ["no corpus recipe or TOML file 'web'", "Recipes: books"]),
    "no corpus command": ("corpus biuld books", ["no command 'biuld'", "fetch, build, inspect"]),
    "no sources": ("corpus build books --out new", ["no file here that text is read from"]),
    "source missing": ("corpus build books nowhere --out new", ["nowhere: no such file or folder"]),
    "no such store": (
        "corpus build books nosuch://a/b.warc --out new",
        ["nosuch://a/b.warc: nothing here can open this", "nosuch"],
    ),
    "nothing that matches": (
        "corpus build books file:///nowhere/*.warc --out new",
        ["file:///nowhere/*.warc: there is no file here that is read from afar", ".warc.gz"],
    ),
    "source of another kind": ("corpus build books a.pdf --out new", ["a.pdf: not a kind of file", ".warc"]),
    "corpus over something else": ("corpus build books text.txt --out done", ["done: ", "that is no corpus"]),
    "corpus over a file": ("corpus build books text.txt --out tiny.toml", ["tiny.toml: ", "no corpus"]),
    "too little memory": (
        "corpus build books text.txt --out new --memory 100MB",
        ["too little for one worker"],
    ),
    "no size": ("corpus build books text.txt --out new --memory much", ["--memory: 'much' is no size"]),
    "fewer than no workers": ("corpus build books text.txt --out new --workers -1", ["is not negative"]),
    "evaluation set missing": (
        "corpus build books text.txt --out new --decontaminate.against nowhere",
        ["nowhere: no such file or folder"],
    ),
    "no vocabulary for a corpus": (
        "corpus build books text.txt --out new --shards.tokenizer ./nowhere",
        ["nowhere: there is no such directory"],
    ),
    "corpus option out of range": (
        "corpus build books text.txt --out new --clean.min-letters 2",
        ["clean.min_letters is not in 0..1"],
    ),
    "sources for a recipe that has its own": (
        "corpus build python-docs text.txt --out new --shards.tokenizer vocabulary",
        ["text.txt: this recipe reads no files"],
    ),
    "no corpus to inspect": ("corpus inspect done", ["done: there is no finished corpus here"]),
    "no list of domains": (
        "corpus inspect done --domains text.txt",
        ["text.txt:1: this line is not a number"],
    ),
    "token that does not exist": ("tokenizer decode done 999", ["there is no token 999", "0 to 299"]),
}


@pytest.fixture
def bad_things(here, tiny_recipe):
    """What those command lines name."""
    (here / "text.toml").write_text("once upon a time")
    (here / "typo.toml").write_text(tiny_recipe.replace("steps = 4", "step = 4"))
    (here / "empty.txt").touch()
    (here / "nothing").mkdir()
    (here / "bad.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"body": ["once upon a time"]}), here / "notext.parquet")
    shutil.copytree(here / "done", here / "seed2")
    (here / "latin1.txt").write_bytes("café".encode("latin-1") * 9)
    (here / "short.txt").write_text("a dog")
    (here / "a.pdf").write_bytes(b"%PDF")
    shutil.copytree(here / "done" / "data", here / "cut")
    shard = here / "cut" / "train_000000.bin"
    shard.write_bytes(shard.read_bytes()[:-100])
    model = RunFolder(here / "done").checkpoint(4)
    shutil.copytree(model, here / "damaged")
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-9] ^= 1
    (here / "damaged" / "model.safetensors").write_bytes(weights)
    shutil.copytree(model, here / "misshapen")
    (here / "misshapen" / "checksums.json").unlink()
    config = json.loads((model / "config.json").read_text())
    (here / "misshapen" / "config.json").write_text(json.dumps(config | {"vocab_size": 310}))


def fails(capsys, *arguments):
    """The one line that a command line that cannot work prints, without its beginning."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("gpt2lab: error: ")]
    assert len(lines) == 1, err
    assert err.splitlines()[-1] == lines[0]
    assert out == ""
    assert "Traceback" not in err
    return lines[0].removeprefix("gpt2lab: error: ")


def contents(folder):
    """Every file and what is in it, but for the empty file that locks a run."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_line_and_alters_nothing(capsys, here, bad_things, name):
    line, parts = MISTAKES[name]
    before = contents(here)
    message = fails(capsys, *line.split())
    for part in parts:
        assert part in message
    assert contents(here) == before
    # The command that mends it must not find its folder taken.
    assert not list(here.glob("runs/*"))


@pytest.mark.parametrize("what", ["tiny.toml", "done"])
def test_several_processes_without_torchrun_are_one_clear_line(capsys, here, monkeypatch, what):
    """As when a scheduler sets WORLD_SIZE and nothing else: each process would train on its own."""
    before = contents(here)
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.delenv("RANK", raising=False)
    message = fails(capsys, "train", what)
    assert "WORLD_SIZE is '8' and RANK is ''" in message
    assert "Start several processes with torchrun, or unset WORLD_SIZE" in message
    assert contents(here) == before
    assert not list(here.glob("runs/*"))


def test_a_mistake_in_a_started_run_leaves_the_run(capsys, here):
    """Its own shards are cut short between two starts."""
    shard = here / "done" / "data" / "train_000000.bin"
    shard.write_bytes(shard.read_bytes()[:-100])
    before = contents(here)
    assert "done/data/train_000000.bin" in fails(capsys, "train", "done")
    assert contents(here) == before


def test_a_full_disk_is_one_line_too(capsys, here, monkeypatch):
    def write_tensors(path, tensors, metadata):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(training_state, "write_tensors", write_tensors)
        message = fails(capsys, "train", "tiny.toml")
    assert "the disk is full; what was there before is untouched" in message
    assert main(["train", "runs/tiny"]) == 0


def test_losses_that_are_no_numbers_are_one_line_too(capsys, here):
    options = ["--optimizer.learning-rate", "1e30", "--schedule.steps", "50"]
    message = fails(capsys, "train", "tiny.toml", *options)
    assert "3 steps in a row had no finite loss or gradient" in message
    assert "Start a run with a lower learning rate or a longer warm-up" in message


def test_a_dataset_that_cannot_be_had_is_one_line_too(capsys, here, hub, monkeypatch):
    from huggingface_hub import constants

    before = contents(here)
    message = fails(capsys, "train", "tiny.toml", "--data", "someone/nothing")
    assert "the Hub has no dataset 'someone/nothing', or it is private" in message
    hub.kind, hub.repo, hub.files = "datasets", "someone/pictures", {"a.png": b"x", "README.md": b"y"}
    message = fails(capsys, "train", "tiny.toml", "--data", "someone/pictures")
    assert "someone/pictures: none of its 2 files is text to train on" in message
    hub.repo, hub.files = "someone/tokens", {"train_000001.bin": b"x" * 2048}
    message = fails(capsys, "train", "tiny.toml", "--data", "someone/tokens")
    assert "someone/tokens: no `val` shards in this dataset" in message
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    message = fails(capsys, "train", "tiny.toml", "--data", "someone/else")
    assert "someone/else is not on this machine, and http://127.0.0.1:9 cannot be reached" in message
    assert "Go online and run the same command, or give a folder: --data FOLDER" in message
    assert contents(here) == before
    assert not list(here.glob("runs/*"))
