"""Runs of two processes, whole or in shares: the same as one process's, and resumable either way."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gpt2lab
from gpt2lab.base.device import cxx_compiler
from gpt2lab.data.evaluation_windows import NO_TARGET
from gpt2lab.training import setup
from gpt2lab.training.launch import go_on, start
from gpt2lab.training.loss import summed_loss
from gpt2lab.training.parallel import Placement, micro_batches_of, model_of, shared_out
from gpt2lab.training.recipe import save_recipe
from gpt2lab.training.run import RunFolder
from gpt2lab.training.world import World

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def recipes(make_recipe):
    """Seven windows, which two processes do not share evenly; growing batches, saved in the background."""
    growth = {"schedule__first_batch_tokens": 32, "schedule__batch_growth_tokens": 128}
    common = {"schedule__steps": 8, "save_every": 4, "sample_every": 4, "sample_prompt": "the"}
    return {
        "ddp": make_recipe(parallel="ddp", batch_tokens=112, micro_batch=3, **common),
        "fsdp": make_recipe(parallel="fsdp", batch_tokens=112, micro_batch=3, **common),
        "muon": make_recipe(
            parallel="fsdp", optimizer__name="muon", background_saves="on", **growth, **common
        ),
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory, recipes, module_environment):
    """The folder in which two processes have run each recipe: once through, and from half-way on."""
    folder = tmp_path_factory.mktemp("two")
    for name, recipe in recipes.items():
        save_recipe(recipe, folder / f"{name}.toml")
        start(recipe, folder / f"one-{name}", sampler=lambda model, tokenizer, prompt: "...")
        shutil.copytree(folder / f"one-{name}", folder / f"one-then-two-{name}")
        shutil.rmtree(RunFolder(folder / f"one-then-two-{name}").checkpoint(8))
    lines = [f"train {name}.toml --out two-{name}" for name in recipes]
    lines += [f"train one-then-two-{name}" for name in recipes]
    lines += ["train ddp.toml --out two-ddp", "train ddp.toml --out new --batch-tokens 16"]
    command = [*TORCHRUN, "2", str(HERE / "in_processes.py"), "codes.json", *lines]
    done = subprocess.run(
        command, cwd=folder, env=module_environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    (folder / "stderr").write_text(done.stderr)
    (folder / "stdout").write_text(done.stdout)
    return folder


def losses(folder):
    rows = RunFolder(folder).metrics()
    return {(row["kind"], row["step"]): row["loss"] for row in rows if "loss" in row}


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_two_processes_train_as_one_does(two, name):
    ours, theirs = losses(two / f"two-{name}"), losses(two / f"one-{name}")
    assert ours.keys() == theirs.keys()
    assert max(abs(ours[key] - theirs[key]) for key in ours) < 1e-5
    assert RunFolder(two / f"two-{name}").facts()["parallel"] == name
    assert RunFolder(two / f"two-{name}").facts()["processes"] == 2


def test_muon_in_shares_drifts_no_further_than_its_bfloat16(two):
    ours, theirs = losses(two / "two-muon"), losses(two / "one-muon")
    assert ours.keys() == theirs.keys()
    assert max(abs(ours[key] - theirs[key]) for key in ours) < 2e-3


@pytest.mark.parametrize("name", ["ddp", "fsdp", "muon"])
def test_a_run_saved_by_two_processes_goes_on_in_one_and_the_other_way_round(two, tmp_path, name):
    tolerance = 2e-3 if name == "muon" else 1e-5
    expected = losses(two / f"one-{name}")
    half = tmp_path / "two-then-one"
    shutil.copytree(two / f"two-{name}", half)
    shutil.rmtree(RunFolder(half).checkpoint(8))
    assert go_on(half).finished
    for folder in (half, two / f"one-then-two-{name}"):
        found = losses(folder)
        assert found.keys() == expected.keys()
        assert max(abs(found[key] - expected[key]) for key in expected) < tolerance
        events = [row["what"] for row in RunFolder(folder).metrics() if row["kind"] == "event"]
        assert any(what.startswith("processes was") for what in events)


@pytest.mark.parametrize("name", ["ddp", "fsdp", "muon"])
def test_a_checkpoint_of_two_processes_has_what_one_writes(two, name):
    ours, theirs = (RunFolder(two / f"{n}-{name}").checkpoint(8) for n in ("two", "one"))
    tolerance = 5e-3 if name == "muon" else 1e-5  # Muon's orthogonal updates are rounded to bfloat16
    files = {path.relative_to(theirs).as_posix() for path in theirs.rglob("*")}
    assert {path.relative_to(ours).as_posix() for path in ours.rglob("*")} == files
    for file in ("model.safetensors", "training_state/state.safetensors"):
        one, other = read(ours / file), read(theirs / file)
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert value.dtype == other[key].dtype
            torch.testing.assert_close(value, other[key], rtol=1e-2, atol=tolerance)
            assert (value.double() - other[key].double()).square().mean().sqrt() < tolerance / 8
    model, tokenizer = gpt2lab.load(ours)
    assert tokenizer is not None
    assert model.lm_head.weight is model.wte.weight


def read(path):
    from gpt2lab.checkpoint.tensor_file import open_tensors

    with open_tensors(path) as file:
        return {name: file.read(name).clone() for name in file.names()}


def test_only_the_first_process_speaks_and_writes(two):
    lines = (two / "stderr").read_text().splitlines() + (two / "stdout").read_text().splitlines()
    assert sum(line.startswith("--- sample after step 4") for line in lines) == 6 - 3  # not when resumed at 4
    assert sum(line.startswith("Done. Let it write: gpt2lab generate two-fsdp") for line in lines) == 1
    assert sum("resumed after step 4" in line for line in lines) == 3
    for name in ("ddp", "fsdp", "muon"):
        steps = [row["step"] for row in RunFolder(two / f"two-{name}").metrics() if row["kind"] == "train"]
        assert steps == list(range(1, 9))


def test_a_mistake_is_said_once_and_ends_all_processes(two):
    codes = json.loads((two / "codes.json").read_text())
    assert codes == [0] * 6 + [2, 2]
    errors = [line for line in (two / "stderr").read_text().splitlines() if "gpt2lab: error:" in line]
    assert len(errors) == 2  # though both processes find the second
    assert "two-ddp: a run was already started in this folder" in errors[0]
    assert "a batch of 1 sequences cannot be shared by 2 processes" in errors[1]
    assert not (two / "new").exists()


def batches(n):
    return [(torch.full((2, 3), number), torch.full((2, 3), number)) for number in range(n)]


@pytest.mark.parametrize("n", range(8))
@pytest.mark.parametrize("size", [1, 2, 3])
def test_batches_to_score_are_shared_out_evenly(n, size):
    shares = [list(shared_out(iter(batches(n)), World(rank, size))) for rank in range(size)]
    assert {len(share) for share in shares} == {-(-n // size)}
    targets = torch.cat([targets for share in shares for _, targets in share] or [torch.zeros(0)]).flatten()
    assert sorted(targets[targets != NO_TARGET].tolist()) == [x for x in range(n) for _ in range(6)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 8])
def test_every_process_computes_as_many_micro_batches_of_a_step(make_loader, size, micro_batch):
    loader = make_loader(batch_windows=7)
    worlds = [World(rank, size) for rank in range(size)]
    shares = [list(micro_batches_of(loader, 3, micro_batch, world)) for world in worlds]
    assert len({len(share) for share in shares}) == 1
    for share in shares:
        assert [number for number, _, _ in share] == list(range(len(share)))
        assert [last for _, last, _ in share] == [False] * (len(share) - 1) + [True]
    counted = [
        row for share in shares for _, _, (_, t) in share for row in t.tolist() if NO_TARGET not in row
    ]
    whole = [row for _, targets in loader.micro_batches(3, 7) for row in targets.tolist()]
    assert sorted(counted) == sorted(whole)


@pytest.fixture
def make_loader(sources):
    from gpt2lab.data.dataset import TokenDataset
    from gpt2lab.data.loader import BatchLoader

    dataset = TokenDataset.open(sources / "shards", "train")
    return lambda batch_windows: BatchLoader(dataset, 16, batch_windows, seed=2)


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_made_of_tensors_is_the_model_they_came_from(make_recipe, tied):
    config = make_recipe(model__tie_word_embeddings=tied).model
    model = gpt2lab.GPT(config).initialise(torch.Generator().manual_seed(4))
    again = model_of(config, dict(model.named_parameters()))
    tokens = torch.randint(config.vocab_size, (2, 16))
    assert torch.equal(again.eval()(tokens), model.eval()(tokens))
    assert len(list(again.parameters())) == len(list(model.parameters()))


def test_one_process_alone_is_a_placement_that_changes_nothing(make_recipe):
    model = gpt2lab.GPT(make_recipe().model)
    placement = Placement(model)
    assert placement.whole_model() is model
    assert placement.parameters(lambda name, parameter: True) == dict(model.named_parameters())


# --- the whole of it, slower


@pytest.mark.slow
@pytest.mark.parametrize("script", ["parallel_parity.py", "worker_kills.py"])
def test_the_benchmarks_agree(script, environment):
    path = HERE.parents[1] / "benchmarks" / script
    options = ["--kills", "4", "--lose-a-node", "--steps", "300"] if script == "worker_kills.py" else []
    command = [sys.executable, str(path), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(row["same"] for row in json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_compiled_two_processes_train_as_one_does(tmp_path, make_recipe, environment, parallel):
    if cxx_compiler() is None:
        pytest.skip("there is no C++ compiler")
    recipe = make_recipe(parallel=parallel, compile="on", batch_tokens=96)
    save_recipe(recipe, tmp_path / "compiled.toml")
    command = [*TORCHRUN, "2", "-m", "gpt2lab", "train", "compiled.toml", "--out", "two"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "compiled in" in done.stderr
    start(recipe, tmp_path / "one")
    ours, theirs = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert ours.keys() == theirs.keys()
    assert max(abs(ours[key] - theirs[key]) for key in ours) < 1e-5


def test_where_one_process_cannot_compile_none_does(make_recipe, sources, tokenizer, monkeypatch, capsys):
    session = setup.build_session(make_recipe(), sources / "shards", tokenizer, None)
    rehearsed = []
    monkeypatch.setattr(session.step, "rehearse", lambda **how: rehearsed.append(how))
    monkeypatch.setattr(setup, "cxx_compiler", lambda: "g++")
    answers = iter([False, True])  # all have a compiler; then one of them failed
    monkeypatch.setattr(World, "any", lambda world, flag: next(answers))
    setup._compile(session.step, required=False)
    assert session.step.loss is summed_loss
    assert rehearsed == [{"last": False}]  # without waiting for the other's gradients
    assert "not compiled, so slower: another process could not compile" in capsys.readouterr().err
