"""Saving behind training's back: the same files, one save at a time, and no error lost."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import gpt2lab
from gpt2lab.base.errors import UserError
from gpt2lab.checkpoint import training_state
from gpt2lab.training import saving
from gpt2lab.training.run import RunFolder


def checkpoint_steps(run):
    return [int(path.name[-8:]) for path in sorted((run.path / "checkpoints").glob("step-*"))]


@pytest.fixture
def slow_saves(monkeypatch):
    """Make every save take until `go_on` is set; returns it, and how many have begun and are under way."""
    go_on, counts = threading.Event(), {"begun": 0, "under way": 0, "most": 0}
    original = saving.save

    def save(*arguments, **keywords):
        counts["begun"] += 1
        counts["under way"] += 1
        counts["most"] = max(counts["most"], counts["under way"])
        go_on.wait(timeout=60)
        original(*arguments, **keywords)
        counts["under way"] -= 1

    monkeypatch.setattr(saving, "save", save)
    return go_on, counts


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_background_saves_hold_what_foreground_ones_do(
    tmp_path, make_recipe, train_in, with_dropout, timeless, name
):
    """All that are kept, not only the last: while it is written, training changes what it was copied from."""
    recipe = make_recipe(optimizer__name=name, schedule__steps=12, save_every=3, **with_dropout)
    runs = [
        train_in(tmp_path / mode, make_recipe_with(recipe, background_saves=mode)) for mode in ("off", "on")
    ]
    assert checkpoint_steps(runs[0]) == checkpoint_steps(runs[1])
    for step in checkpoint_steps(runs[0]):
        one, other = (run.checkpoint(step) for run in runs)
        for path in (path for path in one.rglob("*") if path.is_file()):
            # The seconds that a run has taken differ, and with them the facts and their checksum.
            if path.name not in ("state.json", "checksums.json"):
                assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()
    assert timeless(runs[0]) == timeless(runs[1])


def make_recipe_with(recipe, **changes):
    import dataclasses

    return dataclasses.replace(recipe, **changes)


def test_training_goes_on_during_a_save_and_waits_for_it_before_the_next(
    tmp_path, make_recipe, train_in, slow_saves
):
    go_on, counts = slow_saves
    run = RunFolder(tmp_path / "run")
    recipe = make_recipe(background_saves="on", save_every=2, validate_every=100)

    def free_it():  # once training has gone as far as it can without the first save
        while not any(row["step"] == 4 for row in run.metrics()):
            time.sleep(0.01)
        seen.append((counts["begun"], checkpoint_steps(run)))
        go_on.set()

    seen = []
    thread = threading.Thread(target=free_it)
    thread.start()
    train_in(run.path, recipe)
    thread.join()
    assert seen == [(1, [])]
    assert counts == {"begun": 3, "under way": 0, "most": 1}
    assert checkpoint_steps(run) == [4, 6]


def test_an_error_in_the_background_stops_the_run_at_the_next_save(
    tmp_path, make_recipe, train_in, monkeypatch, final_bytes
):
    whole = train_in(tmp_path / "whole", make_recipe())
    original, saves = training_state.write_tensors, []

    def write_tensors(path, tensors, metadata):
        saves.append(path)
        if len(saves) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        original(path, tensors, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(training_state, "write_tensors", write_tensors)
        with pytest.raises(
            UserError, match="step-00000004: the disk is full; what was there before is untouc"
        ):
            train_in(tmp_path / "run", make_recipe(background_saves="on"))
    run = RunFolder(tmp_path / "run")
    assert checkpoint_steps(run) == [2]
    assert not list(run.path.rglob(".tmp-*"))
    gpt2lab.load(run.path)
    train_in(run.path)
    assert final_bytes(run, 6) == final_bytes(whole, 6)


def test_an_error_in_the_last_save_is_not_lost(tmp_path, make_recipe, train_in, monkeypatch):
    def write_tensors(path, tensors, metadata):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(training_state, "write_tensors", write_tensors)
    with pytest.raises(UserError, match="the disk is full"):
        train_in(tmp_path / "run", make_recipe(background_saves="on", save_every=100))


def test_a_run_that_fails_waits_for_its_save(tmp_path, make_recipe, train_in, slow_saves, monkeypatch):
    from gpt2lab.training.step import TrainingStep

    go_on, _ = slow_saves
    original = TrainingStep.take

    def take(self, number, factor):
        if number == 3:
            threading.Timer(0.3, go_on.set).start()
            raise UserError("something is wrong", fix="Mend it")
        return original(self, number, factor)

    monkeypatch.setattr(TrainingStep, "take", take)
    with pytest.raises(UserError, match="something is wrong"):
        train_in(tmp_path / "run", make_recipe(background_saves="on", save_every=2))
    assert checkpoint_steps(RunFolder(tmp_path / "run")) == [2]


def test_ctrl_c_waits_for_the_save(tmp_path, make_recipe, environment):
    from gpt2lab.training.recipe import save_recipe

    recipe = make_recipe(
        schedule__steps=10**6, save_every=2, validate_every=10**6, log_every=10**6, background_saves="on"
    )
    save_recipe(recipe, tmp_path / "long.toml")
    command = [sys.executable, "-m", "gpt2lab", "train", "long.toml", "--out", "run"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    run = RunFolder(tmp_path / "run")
    while process.poll() is None and not checkpoint_steps(run):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    step = checkpoint_steps(run)[-1]
    assert err.decode().splitlines()[-1].startswith(f"Stopped and saved after step {step:,}.")
    assert not list(run.path.rglob(".tmp-*"))
