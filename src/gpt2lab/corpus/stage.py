"""A stage: files in, files out, by a plain function; what is done and unchanged is not done again.

A stage's folder holds, for every task, its output files and `NAME.json`, written after them: inputs with
hashes, parameters, a hash of the code, counts, hashes of the outputs. A task is done if that file says of
the same inputs, parameters and code that it is. Outputs are whole or absent, so a killed run loses the files
that were being written and nothing else.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import atomic_file, make_folder, read_json, remove_leftovers, sha256_of, write_json
from gpt2lab.base.progress import Progress
from gpt2lab.corpus.code_version import code_version
from gpt2lab.corpus.workers import Runner

STAGES_FOLDER = "stages"
Counts = dict[str, Any]
"""What a task counted: plain numbers, and tables of numbers by name."""


@dataclass(frozen=True)
class FileFacts:
    """A file, its size in bytes and the SHA-256 of its bytes."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Task:
    """One piece of a stage's work.

    Attributes:
        name: of its output files, unique in the stage.
        inputs: the files it reads.
        parameters: what else decides its outcome, apart from the stage's own parameters; JSON.
    """

    name: str
    inputs: tuple[FileFacts, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """What a stage's function is called with.

    Attributes:
        inputs: the files to read.
        outputs: the files to write, all of them; temporary names, so the ending says nothing.
        parameters: the stage's and the task's.
        memory: about how many bytes the function may hold; must not change what it writes.
    """

    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    parameters: Mapping[str, Any]
    memory: int


@dataclass(frozen=True)
class Stage:
    """A kind of work.

    Attributes:
        name: of its folder, and in messages.
        function: found by its name from other processes. The same inputs and parameters give the same bytes.
        outputs: endings of the files that it writes for each task: ``("parquet", "dropped.parquet")``.
        parameters: what decides its outcome besides the inputs; JSON.
    """

    name: str
    function: Callable[[Call], Counts]
    outputs: tuple[str, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """A task that is done: what it wrote, in the order of the stage's `outputs`, and what it counted."""

    name: str
    outputs: tuple[FileFacts, ...]
    counts: Counts


@dataclass(frozen=True)
class Workshop:
    """Where and with what a corpus is built.

    Attributes:
        folder: the corpus's; stages get folders in its `stages/`.
        runner: does the work.
        memory: bytes for each worker.
    """

    folder: Path
    runner: Runner
    memory: int

    @property
    def log(self) -> Path:
        """One JSON line a task that was done: how long it took. Not a part of the result."""
        return self.folder / STAGES_FOLDER / "log.jsonl"


def run_stage(stage: Stage, tasks: Sequence[Task], workshop: Workshop) -> list[Done]:
    """Do those tasks that are not done yet; returns all of them in their order.

    Raises:
        UserError: a disk is full, an input vanished, or whatever the stage's function raises.
    """
    folder = workshop.folder / STAGES_FOLDER / stage.name
    make_folder(folder)
    remove_leftovers(folder)
    code = code_version(stage.function.__module__)
    jobs = [
        _Job(stage, task, folder, _plan(stage, task, code, workshop.folder), workshop.memory)
        for task in tasks
    ]
    _remove_strays(folder, {task.name for task in tasks})
    done = [_finished(job) for job in jobs]
    todo = [index for index, result in enumerate(done) if result is None]
    if todo:
        with Progress(len(todo), stage.name, "files") as progress:
            for position, (result, seconds) in workshop.runner.map(run_job, [jobs[index] for index in todo]):
                done[todo[position]] = result
                _note(workshop.log, jobs[todo[position]], seconds)
                progress.advance()
    return [result for result in done if result is not None]


@dataclass(frozen=True)
class _Job:
    stage: Stage
    task: Task
    folder: Path
    plan: dict[str, Any]
    memory: int

    def __str__(self) -> str:
        return ", ".join(str(file.path) for file in self.task.inputs[:1]) or self.task.name

    @property
    def manifest(self) -> Path:
        return self.folder / f"{self.task.name}.json"

    @property
    def outputs(self) -> list[Path]:
        return [self.folder / f"{self.task.name}.{ending}" for ending in self.stage.outputs]


def run_job(job: _Job) -> tuple[Done, float]:
    """Do one task, wherever this is; returns what came of it and the seconds it took."""
    started = time.monotonic()
    job.manifest.unlink(missing_ok=True)  # it may speak of other outputs than those that come now
    with ExitStack() as stack:
        temporary = [stack.enter_context(atomic_file(path)) for path in job.outputs]
        call = Call(
            tuple(file.path for file in job.task.inputs),
            tuple(temporary),
            {**job.stage.parameters, **job.task.parameters},
            job.memory,
        )
        try:
            counts = job.stage.function(call)
        except FileNotFoundError as error:
            raise UserError(
                "a file that was there has vanished", where=error.filename, fix="Run the same command again"
            ) from error
        facts = [file_facts(path) for path in temporary]
    outputs = tuple(
        FileFacts(path, fact.size, fact.sha256) for path, fact in zip(job.outputs, facts, strict=True)
    )
    write_json(
        job.manifest, job.plan | {"counts": counts, "outputs": [_said(o, job.folder) for o in outputs]}
    )
    return Done(job.task.name, outputs, counts), time.monotonic() - started


def file_facts(path: Path) -> FileFacts:
    """Read a file and say what it is."""
    return FileFacts(path, path.stat().st_size, sha256_of(path))


def _plan(stage: Stage, task: Task, code: str, root: Path) -> dict[str, Any]:
    """What decides a task's outcome, as its manifest says it."""
    plan = {
        "stage": stage.name,
        "code": code,
        "parameters": {**stage.parameters, **task.parameters},
        "inputs": [_said(file, root) for file in task.inputs],
    }
    plain: dict[str, Any] = json.loads(json.dumps(plan))  # tuples become lists, as when it is read again
    return plain


def _said(file: FileFacts, root: Path) -> dict[str, Any]:
    path = file.path.relative_to(root) if file.path.is_relative_to(root) else file.path
    return {"file": path.as_posix(), "size": file.size, "sha256": file.sha256}


def _finished(job: _Job) -> Done | None:
    """The task's result if it was done before, from the same, and its files are all there."""
    if not job.manifest.exists():
        return None
    manifest = read_json(job.manifest)
    if {key: manifest.get(key) for key in job.plan} != job.plan:
        return None
    outputs = []
    for path, said in zip(job.outputs, manifest["outputs"], strict=True):
        if not path.exists() or path.stat().st_size != said["size"]:
            return None
        outputs.append(FileFacts(path, said["size"], said["sha256"]))
    return Done(job.task.name, tuple(outputs), manifest["counts"])


def _remove_strays(folder: Path, names: set[str]) -> None:
    """Delete files of tasks that are no longer asked for: a source was taken away."""
    for file in folder.iterdir():
        if file.is_file() and file.name.split(".")[0] not in names:
            file.unlink()


def _note(log: Path, job: _Job, seconds: float) -> None:
    line = {
        "stage": job.stage.name,
        "task": job.task.name,
        "seconds": round(seconds, 3),
        "bytes": sum(file.size for file in job.task.inputs),
    }
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
