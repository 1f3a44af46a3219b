"""Runs from end to end: what they leave behind, how they stop, and that resuming them is exact."""

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import gpt2lab
from gpt2lab.base.errors import UserError
from gpt2lab.checkpoint import training_state
from gpt2lab.model.gpt import GPT
from gpt2lab.training import setup, spikes, trainer
from gpt2lab.training.launch import go_on, start
from gpt2lab.training.memory import memory_plan
from gpt2lab.training.run import RunFolder
from gpt2lab.training.step import TrainingStep


def of_kind(run, kind):
    return [row for row in run.metrics() if row["kind"] == kind]


def checkpoint_steps(run):
    return [int(path.name[-8:]) for path in sorted((run.path / "checkpoints").glob("step-*"))]


@pytest.fixture
def stop_after(monkeypatch):
    """Have the process ask itself to stop, once, as Ctrl-C would, during step number `step` (from 1)."""

    def arrange(step):
        original = TrainingStep.take

        def take(self, number, factor):
            if number + 1 == step:
                monkeypatch.setattr(TrainingStep, "take", original)  # once only
                os.kill(os.getpid(), signal.SIGINT)
            return original(self, number, factor)

        monkeypatch.setattr(TrainingStep, "take", take)

    return arrange


@pytest.fixture
def spoil_losses(monkeypatch):
    """Make the loss NaN in the given steps (counted from 1)."""

    def arrange(bad):
        original = TrainingStep.take

        def take(self, number, factor):
            spoiled = self.loss
            if number + 1 in bad:
                self.loss = lambda *arguments: spoiled(*arguments) * math.nan
            try:
                return original(self, number, factor)
            finally:
                self.loss = spoiled

        monkeypatch.setattr(TrainingStep, "take", take)

    return arrange


def test_a_run_learns_and_leaves_what_is_documented(tmp_path, make_recipe, train_in, tokenizer, sources):
    recipe = make_recipe(
        data__path=str(sources / "text.txt"),
        schedule__steps=30,
        log_every=5,
        validate_every=10,
        save_every=12,
    )
    run = train_in(tmp_path / "run", recipe)

    rows = of_kind(run, "train")
    assert [row["step"] for row in rows] == [5, 10, 15, 20, 25, 30]
    fields = {"kind", "step", "tokens", "loss", "lr", "grad_norm", "tokens_per_s", "seconds", "memory_bytes"}
    fields |= {"update_ratio", "mfu"}
    assert all(set(row) == fields for row in rows)
    assert [row["tokens"] for row in rows] == [64 * row["step"] for row in rows]
    assert rows[-1]["lr"] == pytest.approx(3e-3 * 0.1)
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)

    validations = of_kind(run, "validation")
    assert [row["step"] for row in validations] == [0, 10, 20, 30]
    fields = {"kind", "step", "tokens", "loss", "bits_per_byte", "seconds"}
    assert all(set(row) == fields for row in validations)
    assert validations[0]["loss"] == pytest.approx(math.log(tokenizer.vocab_size), abs=0.1)
    assert validations[-1]["loss"] < validations[0]["loss"] - 0.5
    assert 0 < validations[-1]["bits_per_byte"] < validations[0]["bits_per_byte"]

    assert checkpoint_steps(run) == [24, 30]
    facts = run.facts()
    assert facts["steps"] == 30
    assert facts["micro_batch"] == 2
    assert facts["precision"] == "float32"
    assert facts["compiled"] is False
    names = {path.name for path in run.path.iterdir()}
    assert names == {".lock", "recipe.toml", "run.json", "metrics.jsonl", "checkpoints", "data"}


@pytest.mark.parametrize("architecture", ["gpt1", "gpt2"])
def test_transformers_opens_a_checkpoint_with_the_same_logits(tmp_path, make_recipe, train_in, architecture):
    transformers = pytest.importorskip("transformers")
    run = train_in(tmp_path / "run", make_recipe(model__architecture=architecture))
    model, tokenizer = gpt2lab.load(run.path)
    assert checkpoint_steps(run)[-1] == 6
    theirs = transformers.AutoModelForCausalLM.from_pretrained(run.checkpoint(6))
    tokens = torch.tensor([tokenizer.encode("the old man sees a dog")])
    with torch.no_grad():
        difference = (theirs.eval()(tokens).logits - model(tokens)).abs().max().item()
    assert difference < 2e-5


def test_a_run_starts_from_the_weights_of_another(tmp_path, make_recipe, train_in):
    first = train_in(tmp_path / "first", make_recipe())
    recipe = make_recipe(init_from=str(first.path), model__attn_pdrop=0.1, schedule__steps=2)
    second = train_in(tmp_path / "second", recipe)
    before, after = of_kind(first, "validation")[-1], of_kind(second, "validation")[0]
    assert after["step"] == 0
    assert after["loss"] == before["loss"]
    model = setup.initial_model(recipe, None)
    expected = gpt2lab.load(first.path)[0].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_once_saved_a_run_needs_neither_what_it_started_from_nor_its_folder(
    tmp_path, make_recipe, train_in, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    train_in(Path("first"), make_recipe())
    data = make_recipe().data.path
    Path("shards").symlink_to(data)
    recipe = make_recipe(init_from="first", data__path="shards", schedule__steps=4, save_every=2)
    whole = train_in(tmp_path / "whole", recipe)
    cut = train_in(tmp_path / "cut", recipe)
    shutil.rmtree(cut.checkpoint(4))
    shutil.rmtree("first")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert go_on(cut.path).finished
    expected, found = (gpt2lab.load(run.checkpoint(4))[0].state_dict() for run in (whole, cut))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_run_knows_what_it_starts_from_by_its_full_path(tmp_path, make_recipe, train_in, monkeypatch):
    """It may be killed before its first checkpoint, and gone on with from another folder."""
    monkeypatch.chdir(tmp_path)
    train_in(Path("first"), make_recipe())
    run = train_in(Path("second"), make_recipe(init_from="first"))
    assert run.recipe().init_from == str(tmp_path / "first")


def test_tokens_a_second_count_the_steps_and_nothing_else(tmp_path, make_recipe, train_in, monkeypatch):
    now, take, check = 0.0, TrainingStep.take, trainer.validate

    def slow_take(self, step, factor):
        nonlocal now
        now += 1.0 if step < 2 else 4.0
        return take(self, step, factor)

    def slow_validate(*arguments):
        nonlocal now
        now += 100.0
        return check(*arguments)

    monkeypatch.setattr(TrainingStep, "take", slow_take)
    monkeypatch.setattr(trainer, "validate", slow_validate)
    monkeypatch.setattr(trainer.time, "monotonic", lambda: now)
    recipe = make_recipe(log_every=2, validate_every=1)
    rows = of_kind(train_in(tmp_path / "run", recipe), "train")
    assert [row["tokens_per_s"] for row in rows] == [recipe.batch_tokens / s for s in (1.0, 4.0, 4.0)]


def test_samples_are_asked_for_and_kept(tmp_path, make_recipe):
    recipe = make_recipe(sample_every=3, sample_prompt="the cat")
    start(recipe, tmp_path / "run", sampler=lambda model, tokenizer, prompt: f" after {prompt}")
    assert of_kind(RunFolder(tmp_path / "run"), "sample") == [
        {"kind": "sample", "step": step, "prompt": "the cat", "text": " after the cat"} for step in (3, 6)
    ]


def test_the_best_checkpoint_that_was_saved_is_kept(tmp_path, make_recipe, train_in, monkeypatch):
    """An even better validation between two saves must not make it look worse than it is."""
    losses = {0: 5.0, 2: 3.0, 3: 1.0, 4: 2.0, 6: 4.0, 8: 4.0, 9: 4.0, 10: 4.0}
    steps = iter(sorted(losses))
    monkeypatch.setattr(
        trainer, "validate", lambda *arguments: trainer_validation(losses.get(next(steps), 9.0))
    )
    recipe = make_recipe(schedule__steps=10, validate_every=1, save_every=2)
    steps = iter(range(11))
    run = train_in(tmp_path / "run", recipe)
    assert checkpoint_steps(run) == [4, 8, 10]


def trainer_validation(loss):
    from gpt2lab.training.validate import Validation

    return Validation(loss, 1, None)


# --- what stops a run


def test_ctrl_c_saves_and_the_resumed_run_ends_with_the_same_bits(
    tmp_path, make_recipe, train_in, stop_after, with_dropout, final_bytes, timeless
):
    recipe = make_recipe(**with_dropout)
    whole = train_in(tmp_path / "whole", recipe)
    stop_after(3)
    result = start(recipe, tmp_path / "stopped")
    assert (result.step, result.finished) == (3, False)
    assert result.checkpoint == RunFolder(tmp_path / "stopped").checkpoint(3)
    resumed = train_in(tmp_path / "stopped")
    assert final_bytes(resumed, 6) == final_bytes(whole, 6)
    assert timeless(resumed) == timeless(whole)


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resuming_is_exact_after_any_step(
    tmp_path, make_recipe, train_in, stop_after, with_dropout, final_bytes, timeless, name, precision
):
    recipe = make_recipe(optimizer__name=name, precision=precision, save_every=4, **with_dropout)
    whole = train_in(tmp_path / "whole", recipe)
    for step in (1, 2, 4, 5):
        stop_after(step)
        path = tmp_path / "stopped"
        run = train_in(path, None if path.exists() else recipe)
        assert checkpoint_steps(run)[-1] == step
    resumed = train_in(tmp_path / "stopped")
    assert final_bytes(resumed, 6) == final_bytes(whole, 6)
    assert timeless(resumed) == timeless(whole)


def test_a_run_that_dies_without_saving_repeats_what_it_lost(
    tmp_path, make_recipe, train_in, monkeypatch, with_dropout, final_bytes, timeless
):
    recipe = make_recipe(**with_dropout)
    whole = train_in(tmp_path / "whole", recipe)

    class PowerCutError(Exception):
        pass

    for dies_at in (1, 4, 6):  # before the first checkpoint, and between and at later ones
        original = TrainingStep.take

        def take(self, number, factor, original=original, dies_at=dies_at):
            if number + 1 == dies_at:
                raise PowerCutError
            return original(self, number, factor)

        with monkeypatch.context() as patch, pytest.raises(PowerCutError):
            patch.setattr(TrainingStep, "take", take)
            path = tmp_path / "died"
            train_in(path, None if path.exists() else recipe)
        with RunFolder(path).metrics_path.open("a") as file:
            file.write('{"kind": "train", "st')  # killed while writing a line
    resumed = train_in(tmp_path / "died")
    assert final_bytes(resumed, 6) == final_bytes(whole, 6)
    assert timeless(resumed) == timeless(whole)


def test_going_on_with_a_finished_run_changes_nothing(tmp_path, make_recipe, train_in, final_bytes):
    run = train_in(tmp_path / "run", make_recipe())
    before = final_bytes(run, 6), run.metrics()
    train_in(tmp_path / "run")
    assert (final_bytes(run, 6), run.metrics()) == before


def test_single_bad_losses_are_skipped_and_said(tmp_path, make_recipe, train_in, spoil_losses):
    spoil_losses({2, 3, 5})
    run = train_in(tmp_path / "run", make_recipe())
    assert of_kind(run, "skipped") == [
        {"kind": "skipped", "step": step, "reason": "the loss is nan"} for step in (2, 3, 5)
    ]
    assert [row["step"] for row in of_kind(run, "train")] == [1, 4, 6]
    assert math.isfinite(of_kind(run, "validation")[-1]["loss"])


def test_spikes_are_skipped_and_said_and_a_resumed_run_skips_the_same(
    tmp_path, make_recipe, train_in, stop_after, monkeypatch, with_dropout, final_bytes, timeless
):
    monkeypatch.setattr(spikes, "FEWEST", 2)
    recipe = make_recipe(
        schedule__steps=30,
        save_every=7,
        log_every=3,
        optimizer__skip_spikes_above=0.7,
        optimizer__learning_rate=1e-7,  # so that losses only scatter
        **with_dropout,
    )
    whole = train_in(tmp_path / "whole", recipe)
    skipped = of_kind(whole, "skipped")
    assert 3 < len(skipped) < 15
    assert all("stands out from the last" in row["reason"] for row in skipped)
    for step in (5, 11, 12, 20):
        stop_after(step)
        path = tmp_path / "stopped"
        train_in(path, None if path.exists() else recipe)
    resumed = train_in(tmp_path / "stopped")
    assert final_bytes(resumed, 30) == final_bytes(whole, 30)
    assert timeless(resumed) == timeless(whole)


def test_any_number_of_spikes_in_a_row_does_not_end_a_run(tmp_path, make_recipe, train_in, monkeypatch):
    monkeypatch.setattr(spikes.SpikeWatch, "verdict", lambda self, loss, norm: "it is a spike")
    run = train_in(tmp_path / "run", make_recipe())
    assert [row["step"] for row in of_kind(run, "skipped")] == [1, 2, 3, 4, 5, 6]
    losses = [row["loss"] for row in of_kind(run, "validation")]
    assert losses[0] == losses[-1]


def test_a_growing_batch_counts_its_tokens_and_resumes_to_the_bit(
    tmp_path, make_recipe, train_in, stop_after, with_dropout, final_bytes, timeless
):
    growth = {"schedule__first_batch_tokens": 16, "schedule__batch_growth_tokens": 200}
    recipe = make_recipe(schedule__steps=12, **growth, **with_dropout)
    whole = train_in(tmp_path / "whole", recipe)
    tokens = [row["tokens"] for row in of_kind(whole, "train")]
    assert tokens == [16, 32, 48, 64, 96, 128, 176, 240, 304, 368, 432, 496]
    for step in (3, 6, 8):
        stop_after(step)
        path = tmp_path / "stopped"
        train_in(path, None if path.exists() else recipe)
    resumed = train_in(tmp_path / "stopped")
    assert final_bytes(resumed, 12) == final_bytes(whole, 12)
    assert timeless(resumed) == timeless(whole)


def test_three_bad_losses_in_a_row_end_the_run_with_the_last_good_checkpoint(
    tmp_path, make_recipe, train_in, spoil_losses, monkeypatch, final_bytes
):
    whole = train_in(tmp_path / "whole", make_recipe())
    with monkeypatch.context():
        spoil_losses({3, 4, 5})
        with pytest.raises(UserError, match=r"3 steps in a row had no finite loss.*step 5: the loss is nan"):
            train_in(tmp_path / "run", make_recipe(save_every=2))
    run = RunFolder(tmp_path / "run")
    assert checkpoint_steps(run)[-1] == 4
    model, _ = gpt2lab.load(run.path)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    monkeypatch.undo()
    # What was wrong has gone away (a bad memory module, say): steps 3 and 4 were skipped, the rest follows.
    train_in(tmp_path / "run")
    assert [row["step"] for row in of_kind(run, "train")] == [1, 2, 5, 6]
    assert final_bytes(run, 6).keys() == final_bytes(whole, 6).keys()


@pytest.mark.parametrize(
    "damaged", ["model.safetensors", "training_state/state.safetensors", "checksums.json"]
)
def test_a_damaged_newest_checkpoint_is_passed_over(
    tmp_path, make_recipe, train_in, capsys, final_bytes, timeless, damaged, stop_after
):
    recipe = make_recipe(schedule__steps=8)
    whole = train_in(tmp_path / "whole", recipe)
    stop_after(6)
    run = train_in(tmp_path / "run", recipe)
    path = run.checkpoint(6) / damaged
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x04
    path.write_bytes(content)
    capsys.readouterr()
    train_in(tmp_path / "run")
    err = capsys.readouterr().err
    assert str(path) in err
    assert "Set aside as damaged-step-00000006; going on from the checkpoint before it" in err
    assert "resumed after step 4" in err
    assert final_bytes(run, 8) == final_bytes(whole, 8)
    assert timeless(run) == timeless(whole)
    assert checkpoint_steps(run) == checkpoint_steps(whole)


def test_a_run_without_a_whole_checkpoint_begins_again(
    tmp_path, make_recipe, train_in, final_bytes, timeless, stop_after
):
    whole = train_in(tmp_path / "whole", make_recipe())
    stop_after(1)
    run = train_in(tmp_path / "run", make_recipe())
    (run.checkpoint(1) / "model.safetensors").write_bytes(b"short")
    train_in(tmp_path / "run")
    assert final_bytes(run, 6) == final_bytes(whole, 6)
    assert timeless(run) == timeless(whole)


@pytest.mark.parametrize("full_after", [0, 1])
def test_a_full_disk_while_saving_leaves_the_checkpoint_before(
    tmp_path, make_recipe, train_in, monkeypatch, final_bytes, timeless, full_after
):
    """The save fails after the weights, in the middle of the optimizer's state."""
    whole = train_in(tmp_path / "whole", make_recipe())
    saves = []
    original = training_state.write_tensors

    def write_tensors(path, tensors, metadata):
        saves.append(path)
        if len(saves) > full_after:
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        original(path, tensors, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(training_state, "write_tensors", write_tensors)
        with pytest.raises(UserError, match="step-.*the disk is full; what was there before is untouched"):
            train_in(tmp_path / "run", make_recipe())
    run = RunFolder(tmp_path / "run")
    assert checkpoint_steps(run) == [2, 4][:full_after]
    assert not list(run.path.rglob(".tmp-*"))
    if full_after:
        gpt2lab.load(run.path)
    train_in(tmp_path / "run")
    assert final_bytes(run, 6) == final_bytes(whole, 6)
    assert timeless(run) == timeless(whole)


def test_a_really_full_disk(tmp_path, make_recipe, train_in):
    """A file system of 600 kB, where this machine lets one be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        with pytest.raises(UserError, match=r"needs 10 MB and the disk has .* free|the disk is full"):
            train_in(disk / "run", make_recipe())
        run = RunFolder(disk / "run")
        assert not list(run.path.rglob(".tmp-*"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- time, memory and the machine


def test_minutes_set_the_steps_and_leave_the_weights_as_initialised(
    tmp_path, make_recipe, train_in, monkeypatch, with_dropout, final_bytes, timeless
):
    now, take = 100.0, TrainingStep.take

    def slow_take(self, step, factor):
        nonlocal now
        now += 1.5
        return take(self, step, factor)

    with monkeypatch.context() as patch:
        patch.setattr(setup.time, "perf_counter", lambda: now)
        patch.setattr(TrainingStep, "take", slow_take)
        timed = train_in(tmp_path / "timed", make_recipe(minutes=0.2, **with_dropout))
    assert timed.facts()["steps"] == 8
    asked = train_in(tmp_path / "asked", make_recipe(schedule__steps=8, **with_dropout))
    assert final_bytes(timed, 8) == final_bytes(asked, 8)
    assert timeless(timed) == timeless(asked)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_timing_steps_changes_no_weight(make_recipe, sources, tokenizer, name):
    recipe = make_recipe(optimizer__name=name, minutes=0.01)
    session = setup.build_session(recipe, sources / "shards", tokenizer, None)
    expected = GPT(recipe.model).initialise(torch.Generator().manual_seed(recipe.seed)).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in session.model.state_dict().items())
    assert session.step.optimizers.state() == {}


@pytest.mark.parametrize("free_bytes", [0, 88 * 10**6, 90 * 10**6, 10**12])
@pytest.mark.parametrize("processes", [1, 3])
def test_micro_batches_are_as_few_as_fit_and_alike(make_recipe, monkeypatch, free_bytes, processes):
    monkeypatch.setattr(setup, "available_memory", lambda device: free_bytes)
    most = setup.fitted(make_recipe(batch_tokens=16 * 9999, micro_batch=0), torch.device("cpu")).micro_batch
    for windows in range(1, 40):
        recipe = make_recipe(batch_tokens=16 * windows, micro_batch=0)
        share = -(-windows // processes)
        found = setup.fitted(recipe, torch.device("cpu"), processes).micro_batch
        assert 1 <= found <= max(1, most)
        count = -(-share // found)
        assert count == -(-share // max(1, most))
        assert found == -(-share // count)
    assert (most == 1) == (free_bytes == 0)


def test_where_not_one_sequence_fits_blocks_are_computed_anew(make_recipe, monkeypatch):
    recipe, device = make_recipe(model__n_layer=6, micro_batch=0), torch.device("cpu")
    placing = setup.fitted(recipe, device)
    assert not placing.recompute
    one, anew = (
        memory_plan(recipe.model, replace(placing, micro_batch=1, accumulates=True, recompute=choice)).total
        for choice in (False, True)
    )
    assert anew < one
    monkeypatch.setattr(setup, "available_memory", lambda device: (one + 1) / 0.7)
    assert not setup.fitted(recipe, device).recompute
    monkeypatch.setattr(setup, "available_memory", lambda device: (anew + 1) / 0.7)
    assert setup.fitted(recipe, device).recompute
    assert setup.fitted(recipe, device).micro_batch == 1


def test_a_resumed_run_keeps_its_micro_batch_and_says_what_changed(
    tmp_path, make_recipe, train_in, capsys, stop_after, final_bytes
):
    stop_after(2)
    run = train_in(tmp_path / "run", make_recipe(micro_batch=0))
    facts = run.facts()
    assert facts["micro_batch"] == 4
    run.save_facts(facts | {"micro_batch": 1, "torch": "0.0"})
    capsys.readouterr()
    train_in(tmp_path / "run")
    assert f"not bit-identical from here: torch was 0.0 and is {torch.__version__}" in capsys.readouterr().err
    assert run.facts()["micro_batch"] == 1


# --- in a process of its own


def start_process(recipe_path, out, environment):
    command = [sys.executable, "-m", "gpt2lab", "train", str(recipe_path), "--out", str(out), "--resume"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_how_to_go_on_and_exits_with_130(tmp_path, make_recipe, environment, number):
    from gpt2lab.training.recipe import save_recipe

    recipe = make_recipe(schedule__steps=10**6, save_every=10**6, validate_every=10**6)
    save_recipe(recipe, tmp_path / "long.toml")
    process = start_process(tmp_path / "long.toml", tmp_path / "run", environment)
    run = RunFolder(tmp_path / "run")
    while process.poll() is None and len(run.metrics()) < 3:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    last = err.decode().splitlines()[-1]
    step = checkpoint_steps(run)[-1]
    assert last == f"Stopped and saved after step {step:,}. Go on with: gpt2lab train {run.path}"
    assert run.metrics()[-1]["step"] == step
    assert b"stopping after the step at hand" in err
    assert b"Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eager-float32", "eager-bfloat16", "compiled-float32", "compiled-bfloat16"])
def test_kill_9_at_random_moments(mode, environment):
    if mode.startswith("compiled"):
        from gpt2lab.base.device import cxx_compiler

        if cxx_compiler() is None:
            pytest.skip("there is no C++ compiler")
    script = Path(__file__).parents[2] / "benchmarks" / "resume_kills.py"
    command = [sys.executable, str(script), "--kills", "4", "--steps", "200", "--modes", mode]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["kills"] == 4
    assert row["identical"]


def test_a_checkpoint_is_never_older_than_so_many_minutes(tmp_path, make_recipe, train_in, monkeypatch):
    saved, save = [], trainer._Loop._save
    monkeypatch.setattr(trainer._Loop, "_save", lambda loop: (saved.append(loop.position.step), save(loop)))
    train_in(tmp_path / "often", make_recipe(save_every=100, save_minutes=1e-9))
    train_in(tmp_path / "never", make_recipe(save_every=100, save_minutes=0.0))
    assert saved == [1, 2, 3, 4, 5, 6, 6]
