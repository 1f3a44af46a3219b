"""A run that was stopped and resumed ends with the same bytes as one that never stopped."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import transformers

import gpt2lab
from gpt2lab.base.errors import UserError
from gpt2lab.checkpoint.runs import checkpoint_folders
from gpt2lab.corpus.build import prepare
from gpt2lab.model.config import ModelConfig
from gpt2lab.tokenizer import train_bpe
from gpt2lab.training import trainer
from gpt2lab.training.launch import go_on, start
from gpt2lab.training.recipe import DataConfig, OptimizerConfig, Recipe, ScheduleConfig
from gpt2lab.training.run import RunFolder
from gpt2lab.training.step import StepOutcome, TrainingStep

STEPS = 12
TIMINGS = ("tokens_per_s", "seconds", "memory_bytes")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    text = "\n\n".join(f"Number {n} comes before {n + 1}, and after it {n + 2}." for n in range(400))
    (folder / "text.txt").write_text(text)
    prepare([folder / "text.txt"], train_bpe([text], 300), folder / "shards", 0.2)
    return folder / "shards"


def _recipe(
    shards: Path, optimizer: str = "muon", precision: str = "float32", compiled: str = "off"
) -> Recipe:
    return Recipe(
        model=ModelConfig(
            vocab_size=300, context_length=16, n_layer=2, n_head=2, n_embd=16, embd_pdrop=0.1, resid_pdrop=0.1
        ),
        data=DataConfig(path=str(shards)),
        optimizer=OptimizerConfig(name=optimizer, learning_rate=1e-3),
        schedule=ScheduleConfig(steps=STEPS, warmup_steps=2),
        batch_tokens=16 * 8,
        micro_batch=4,
        device="cpu",
        precision=precision,
        compile=compiled,
        log_every=1,
        validate_every=5,
        validate_tokens=256,
        save_every=4,
    )


def _end_state(run: Path) -> tuple[bytes, bytes, list[dict[str, Any]]]:
    """Weights and optimizer state as bytes, and the metrics without timings."""
    last = checkpoint_folders(run)[-1]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: value for key, value in row.items() if key not in TIMINGS} for row in rows]
    files = ("model.safetensors", "training_state/state.safetensors")
    weights, state = ((last / file).read_bytes() for file in files)
    return weights, state, metrics


class _CrashError(Exception):
    """Stands for a process that dies."""


def _crash_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    take = TrainingStep.take

    def crashing(self: TrainingStep, number: int, factor: float) -> StepOutcome:
        if number == step:
            raise _CrashError
        return take(self, number, factor)

    monkeypatch.setattr(TrainingStep, "take", crashing)


@pytest.mark.parametrize(("optimizer", "precision"), [("adamw", "float32"), ("muon", "bfloat16")])
def test_crashes_change_nothing(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, precision: str
) -> None:
    recipe = _recipe(shards, optimizer, precision)
    assert start(recipe, tmp_path / "whole").finished
    RunFolder.create(tmp_path / "torn", recipe)
    for step in (0, 3, 7, 11):
        with monkeypatch.context() as patch:
            _crash_at(patch, step)
            with pytest.raises(_CrashError):
                go_on(tmp_path / "torn")
        with (tmp_path / "torn" / "metrics.jsonl").open("a") as file:
            file.write('{"kind": "train", "st')  # killed while writing a line
    assert go_on(tmp_path / "torn").finished
    assert _end_state(tmp_path / "torn") == _end_state(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_crashes_change_nothing_in_compiled_runs(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    recipe = _recipe(shards, "muon", precision, "on")
    assert start(recipe, tmp_path / "whole").finished
    RunFolder.create(tmp_path / "torn", recipe)
    for step in (2, 9):
        with monkeypatch.context() as patch:
            _crash_at(patch, step)
            with pytest.raises(_CrashError):
                go_on(tmp_path / "torn")
    assert go_on(tmp_path / "torn").finished
    assert _end_state(tmp_path / "torn") == _end_state(tmp_path / "whole")


def test_ctrl_c_saves_and_goes_on(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = _recipe(shards)
    start(recipe, tmp_path / "whole")
    take = TrainingStep.take

    def interrupting(self: TrainingStep, number: int, factor: float) -> StepOutcome:
        if number == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return take(self, number, factor)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingStep, "take", interrupting)
        result = start(recipe, tmp_path / "stopped")
    assert (result.finished, result.step) == (False, 6)
    assert result.checkpoint.exists()
    assert go_on(tmp_path / "stopped").finished
    assert _end_state(tmp_path / "stopped") == _end_state(tmp_path / "whole")


def test_a_damaged_newest_checkpoint_falls_back(shards: Path, tmp_path: Path) -> None:
    start(_recipe(shards), tmp_path / "run")
    expected = _end_state(tmp_path / "run")
    weights = checkpoint_folders(tmp_path / "run")[-1] / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert go_on(tmp_path / "run").finished
    assert _end_state(tmp_path / "run") == expected


def test_three_steps_without_a_finite_loss_stop_the_run(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = TrainingStep._gradients

    def failing(self: TrainingStep, step: int) -> StepOutcome:
        outcome = gradients(self, step)
        return StepOutcome(float("nan"), 1.0) if step in (2, 6, 7, 8) else outcome

    monkeypatch.setattr(TrainingStep, "_gradients", failing)
    with pytest.raises(UserError, match="3 steps in a row had no finite loss"):
        start(_recipe(shards), tmp_path / "run")
    skipped = [row["step"] for row in RunFolder(tmp_path / "run").metrics() if row["kind"] == "skipped"]
    assert skipped == [3, 7, 8, 9]  # one alone is passed over
    gpt2lab.load(tmp_path / "run")  # the last good checkpoint is whole


def test_a_full_disk_leaves_the_last_checkpoint_whole(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves = 0
    save = trainer.save

    def filling(*args: Any, **kwargs: Any) -> None:
        nonlocal saves
        saves += 1
        if saves == 2:
            monkeypatch.setattr("gpt2lab.checkpoint.huggingface.write_checksums", _no_space)
        save(*args, **kwargs)

    monkeypatch.setattr(trainer, "save", filling)
    with pytest.raises(UserError, match="the disk is full"):
        start(_recipe(shards), tmp_path / "run")
    monkeypatch.undo()
    assert [folder.name for folder in checkpoint_folders(tmp_path / "run")] == ["step-00000004"]
    gpt2lab.load(tmp_path / "run")
    assert go_on(tmp_path / "run").finished


def _no_space(folder: Path) -> None:
    raise OSError(28, "No space left on device")


def test_one_process_at_a_time(shards: Path, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", _recipe(shards))
    with run.locked(), pytest.raises(UserError, match="another process is training"):
        go_on(run.path)


def test_a_run_learns_and_transformers_opens_it(shards: Path, tmp_path: Path) -> None:
    start(_recipe(shards), tmp_path / "run")
    rows = [row for row in RunFolder(tmp_path / "run").metrics() if row["kind"] == "validation"]
    assert [row["step"] for row in rows] == [0, 5, 10, STEPS]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["bits_per_byte"] > 0
    checkpoint = checkpoint_folders(tmp_path / "run")[-1]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    ours, tokenizer = gpt2lab.load(tmp_path / "run")
    assert tokenizer is not None
    assert sum(p.numel() for p in theirs.parameters()) == gpt2lab.count_parameters(ours.config)


def test_minutes_only_choose_the_steps(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setattr("gpt2lab.training.setup.seconds_a_step", lambda step: 60 * 0.5 / STEPS)
    start(_recipe(shards), tmp_path / "fixed")
    start(replace(_recipe(shards), minutes=0.5, schedule=ScheduleConfig(1, 2)), tmp_path / "timed")
    assert _end_state(tmp_path / "timed") == _end_state(tmp_path / "fixed")
