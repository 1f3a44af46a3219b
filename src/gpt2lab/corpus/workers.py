"""Worker processes: one function over many arguments, on all cores, each argument in a process that may die.

Python's own pool breaks as a whole when one of its processes is killed (out of memory, a fault in a
library); this one says which argument was being worked on, tries it once more, and goes on.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess, parent_process
from types import TracebackType
from typing import Any, Protocol, Self

from gpt2lab.base.errors import UserError

DRIVER_BYTES = 150_000_000  # what the process that hands out the work takes itself
LEAST_BYTES = 500_000_000  # what a worker takes in any case: libraries, a language model, a long document


def share_memory(workers: int, memory: int) -> tuple[int, int]:
    """How many workers can share `memory` bytes, at most `workers`, and how many bytes each of them has.

    Raises:
        UserError: it is too little for one.
    """
    if memory < DRIVER_BYTES + LEAST_BYTES:
        raise UserError(
            f"{memory / 1e6:,.0f} MB are too little for one worker",
            where="--memory",
            fix=f"Allow at least {(DRIVER_BYTES + LEAST_BYTES) / 1e6:,.0f} MB",
        )
    possible = min(workers, (memory - DRIVER_BYTES) // LEAST_BYTES)
    return possible, (memory - DRIVER_BYTES) // possible


class Runner(Protocol):
    """Where work is done: processes of this machine, or a cluster."""

    workers: int
    """how many arguments are worked on at the same time"""

    def map(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Call `function` with each argument; yields (index of the argument, result) as they come.

        Args:
            function: found by its name from other processes; it says all it has to say by its result.
            arguments: travel by pickle; `str(argument)` names one to people.
        """


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: int | None = None


class Processes:
    """Runs work in processes of this machine; with one worker in this very process.

    They live as long as the `with` block; Ctrl-C ends them at once.

    Args:
        workers: how many.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: list[_Worker] = []

    def map(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """See `Runner.map`.

        Raises:
            UserError: a process died twice over the same argument. Whatever `function` raises comes through.
        """
        if self.workers == 1:
            yield from ((index, function(argument)) for index, argument in enumerate(arguments))
            return
        waiting = list(range(len(arguments)))[::-1]
        died: set[int] = set()
        n_done = 0
        while n_done < len(arguments):
            while waiting and (worker := self._free_worker()):
                worker.task = waiting.pop()
                worker.pipe.send((function, arguments[worker.task]))
            for worker in self._ready():
                task = worker.task
                assert task is not None
                answer = _receive(worker)
                worker.task = None
                if answer is None:
                    self._bury(worker, arguments[task], again=task not in died)
                    died.add(task)
                    waiting.append(task)
                else:
                    n_done += 1
                    yield task, answer.result()

    def _free_worker(self) -> _Worker | None:
        """An idle worker; a new one while there are fewer than `workers`; None if all are busy."""
        for worker in self._pool:
            if worker.task is None:
                return worker
        if len(self._pool) == self.workers:
            return None
        context = multiprocessing.get_context("spawn")  # a fork would copy this process's threads' locks
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        self._pool.append(_Worker(process, ours))
        return self._pool[-1]

    def _ready(self) -> list[_Worker]:
        busy = [worker for worker in self._pool if worker.task is not None]
        ready = wait([worker.pipe for worker in busy])
        return [worker for worker in busy if worker.pipe in ready]

    def _bury(self, worker: _Worker, argument: Any, *, again: bool) -> None:
        worker.process.join()
        self._pool.remove(worker)
        how = _ending(worker.process.exitcode)
        if not again:
            raise UserError(
                f"a worker process died twice over this ({how})",
                where=str(argument),
                fix="Give it more memory, fewer --workers, or leave this file out",
            )
        print(f"a worker process died ({how}) over {argument}; trying it again", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._pool:
            worker.process.terminate()
        for worker in self._pool:
            worker.process.join()
        self._pool.clear()


@dataclass(frozen=True)
class Answer:
    """What a worker sends back: what its function returned, or the exception it raised."""

    value: Any

    def result(self) -> Any:
        """What the function returned; or the exception is raised here."""
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


def answer_to(function: Callable[[Any], Any], argument: Any) -> Answer:
    """Call a function and keep whatever comes of it."""
    try:
        return Answer(function(argument))
    except UserError as error:
        return Answer(error)
    except BaseException:  # whether others travel by pickle is not known; their text does
        return Answer(RuntimeError(f"in a worker process:\n{traceback.format_exc()}"))


def _receive(worker: _Worker) -> Answer | None:
    """The worker's answer; None if it died."""
    try:
        answer: Answer = worker.pipe.recv()
        return answer
    except (EOFError, ConnectionResetError):
        return None


def _work(pipe: Connection) -> None:
    """The life of a worker: a function and its argument in, the result out, until nobody asks any more."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to everyone at the terminal; the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    while True:
        try:
            function, argument = pipe.recv()
        except EOFError:
            return
        pipe.send(answer_to(function, argument))


def _die_with_parent() -> None:
    """A parent that was killed cannot end its workers; they must not go on writing without it."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"signal {-exit_code}, {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
