"""A run's folder: the recipe, facts, metrics and checkpoints of one training run.

    recipe.toml      what was asked for
    run.json         what was found at the start: device, precision, micro-batch, steps, versions
    metrics.jsonl    one JSON object a line: kinds train, validation, sample, skipped, event
    checkpoints/     step-00000500/ ...: Hugging Face model folders with training_state/ inside
    data/            shards, where the run tokenised text itself

Only whole files appear here (see `base.files`), except metrics.jsonl, which grows line by line; a resumed
run cuts it back to its checkpoint, a half-written last line included.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import (
    TEMPORARY_PREFIX,
    atomic_file,
    disk_errors_explained,
    read_json,
    remove_leftovers,
    write_json,
)
from gpt2lab.checkpoint.runs import checkpoint_folders
from gpt2lab.training.recipe import Recipe, load_recipe, save_recipe

Row = dict[str, Any]
KEEP_LAST = 2  # the newest may be damaged by a failing disk; then the one before it serves


class RunFolder:
    """Paths and records of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics_path = path / "metrics.jsonl"
        self.data_path = path / "data"
        self.listeners: list[Callable[[Row], None]] = []  # who else gets every row of metrics
        self._recipe_path = path / "recipe.toml"
        self._facts_path = path / "run.json"

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether a run was started in this folder."""
        return (path / "recipe.toml").is_file()

    @classmethod
    def create(cls, path: Path, recipe: Recipe) -> "RunFolder":
        """Start a new run.

        Raises:
            UserError: a run was already started there, or the folder holds something else.
        """
        if cls.is_one(path):
            raise UserError(
                "a run was already started in this folder",
                where=path,
                fix=f"Go on with it: `gpt2lab train {path}`; or give a new one another folder with --out",
            )
        if path.exists() and not _is_empty_folder(path):
            raise UserError("this is not an empty folder", where=path, fix="Choose another with --out")
        run = cls(path)
        save_recipe(recipe, run._recipe_path)
        return run

    def discard(self) -> None:
        """Delete the run, in whose folder `create` found nothing else."""
        shutil.rmtree(self.path)

    def recipe(self) -> Recipe:
        """The recipe the run was started with."""
        return load_recipe(str(self._recipe_path))

    def facts(self) -> Row | None:
        """What was found out at the start; None if the run was stopped before that."""
        facts: Row | None = read_json(self._facts_path) if self._facts_path.exists() else None
        return facts

    def save_facts(self, facts: Row) -> None:
        """Record what a resumed run must do the same way."""
        write_json(self._facts_path, facts)

    @contextmanager
    def locked(self, patience_s: float = 0.0) -> Iterator[None]:
        """Hold the run for this process; the lock ends with the process, however it ends.

        Args:
            patience_s: how long to wait for another process that has it.

        Raises:
            UserError: another process is training in this folder.
        """
        with (self.path / ".lock").open("w") as lock:
            give_up = time.monotonic() + patience_s
            while not _lock(lock):
                if time.monotonic() >= give_up:
                    raise UserError(
                        "another process is training in this folder",
                        where=self.path,
                        fix="Wait for it or stop it",
                    )
                time.sleep(0.2)
            remove_leftovers(self.path)
            remove_leftovers(self.path / "checkpoints")
            yield

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint taken after `step` steps lies, or will lie."""
        return self.path / "checkpoints" / f"step-{step:08d}"

    def prune(self, best_step: int) -> None:
        """Delete checkpoints other than the newest ones and the one after `best_step`."""
        checkpoints = checkpoint_folders(self.path)
        kept = {*checkpoints[-KEEP_LAST:], self.checkpoint(best_step)}
        for path in checkpoints:
            if path not in kept:
                doomed = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")  # never a half-deleted checkpoint
                path.rename(doomed)
                shutil.rmtree(doomed)

    def set_aside(self, checkpoint: Path) -> Path:
        """Rename a damaged checkpoint, so that nothing takes it for a whole one; returns where it is now."""
        aside = checkpoint.with_name(f"damaged-{checkpoint.name}")
        shutil.rmtree(aside, ignore_errors=True)
        return checkpoint.rename(aside)

    def metrics(self) -> list[Row]:
        """All complete rows so far."""
        if not self.metrics_path.exists():
            return []
        lines = self.metrics_path.read_bytes().split(b"\n")[:-1]  # what follows the last line end is torn
        return [json.loads(line) for line in lines]

    def cut_metrics(self, step: int | None) -> None:
        """Forget rows after `step` (all of them for None): they will be written again."""
        kept = [row for row in self.metrics() if step is not None and row["step"] <= step]
        with atomic_file(self.metrics_path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")

    def add_metrics(self, row: Row) -> None:
        """Append one row and see it onto the disk, so that no checkpoint is newer than its metrics."""
        with disk_errors_explained(self.metrics_path), self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        for listener in self.listeners:
            listener(row)


class OnlookersRunFolder(RunFolder):
    """The run's folder as every process but the first has it: to read, while the first one writes for all."""

    def save_facts(self, facts: Row) -> None:
        """Leave it to the first process."""

    def cut_metrics(self, step: int | None) -> None:
        """Leave it to the first process."""

    def add_metrics(self, row: Row) -> None:
        """Leave it to the first process."""


def _lock(file: TextIO) -> bool:
    """Lock a file for this process; False if another has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_empty_folder(path: Path) -> bool:
    """Whether there is nothing in the folder but what a process killed at its very start left there."""
    return path.is_dir() and all(entry.name.startswith(TEMPORARY_PREFIX) for entry in path.iterdir())
