"""The processes of one run: which of them this is, which device is its own, what they tell each other.

`torchrun` starts the processes and says in the environment who each is. Tensors travel over NCCL between GPUs
and over gloo between CPUs; words (a checkpoint's name, "someone asked to stop") over a gloo group of their
own with a patience of days, because the first process may tokenise a corpus while the others wait for it.
"""

import datetime
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from gpt2lab.base.device import DeviceName, pick_device
from gpt2lab.base.errors import UserError

T = TypeVar("T")

_TIME_TO_SPEAK_S = 1.0
_PATIENCE = datetime.timedelta(days=7)
_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")
_VARIABLES = (*_NUMBERS, "MASTER_ADDR")
_LOST = ("gloo", "Connection closed", "Connection reset", "NCCL", "Broken pipe", "Timed out")


def restarted() -> bool:
    """Whether torchrun started this process anew after another was lost."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def launch_id() -> str:
    """What torchrun calls this start of its and all restarts within; empty without it."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "")


@dataclass(frozen=True)
class World:
    """The processes that share a run's work, seen from one of them; without arguments, one process alone.

    Args:
        rank: this process, in [0, size).
        size: how many there are.
        words: the group for what is not a tensor; None for a process alone.
    """

    rank: int = 0
    size: int = 1
    words: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def on_first(self, work: Callable[[], T]) -> T:
        """Have the first process do `work`; every process gets the result.

        Raises:
            UserError: in the first process, what `work` raised there.
            SystemExit: in the others then, with a user error's exit code: the first one says what is wrong.
        """
        if self.size == 1:
            return work()
        answer: list[Any] = [None, True]  # the result, and whether there is one
        if self.is_first:
            try:
                answer[0] = work()
            except UserError:
                self._broadcast([None, False])
                raise
        self._broadcast(answer)
        if not answer[1]:
            _leave_quietly()
        return answer[0]  # type: ignore[no-any-return]

    def _broadcast(self, values: list[Any]) -> None:
        """Overwrite `values` with those of the first process."""
        dist.broadcast_object_list(values, src=0, group=self.words)

    def first_then_all(self, work: Callable[[], T]) -> T:
        """Have every process do `work`, the first before the others, which find on the disk what it made."""
        results: list[T] = []
        self.on_first(lambda: results.append(work()))
        return results[0] if results else work()

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        return flag if self.size == 1 else bool(self.total(float(flag))[0])

    def total(self, *numbers: float) -> tuple[float, ...]:
        """The sums of numbers over all processes, in float64 and the same to the last bit in each."""
        if self.size == 1:
            return numbers
        sums = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(sums, group=self.words)
        return tuple(sums.tolist())

    def device(self, name: DeviceName) -> torch.device:
        """This process's device: `pick_device`, and of several GPUs the one of its own.

        Raises:
            UserError: no such device, or there are fewer GPUs here than processes.
        """
        device = pick_device(name)
        if self.size == 1 or device.type == "cpu":
            return device
        local, n_devices = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if device.type != "cuda" or local >= n_devices:
            raise UserError(
                f"this machine has {n_devices} NVIDIA GPUs and was given more processes",
                where="torchrun --nproc-per-node",
                fix=f"Start {n_devices} processes here" if n_devices else "Use --device cpu, or one process",
            )
        return torch.device("cuda", local)


@contextmanager
def joined() -> Iterator[World]:
    """This process's world, for as long as the block lasts.

    Raises:
        UserError: the environment is not what torchrun makes; or another process was lost in the block.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield World()
        return
    _check_environment()
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        store = _store(rank, size)
    except dist.DistError as error:
        lost = UserError(
            f"the {size} processes of this run did not find each other ({_told(error)})",
            where=f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
            fix="Check that all were started, and that --rdzv-endpoint can be reached from every machine",
        )
        _fail(lost, rank)
    try:
        yield _join(rank, size, store)
    except UserError as error:
        _one_speaks(error, rank, store)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(sign in str(error) for sign in _LOST):
            raise
        lost = UserError(
            f"another process of this run was lost ({_told(error)})",
            fix="Started with --max-restarts torchrun starts all of them again, from the last checkpoint; "
            "else run the same command with --resume",
        )
        _one_speaks(lost, rank, store)
    else:
        dist.destroy_process_group()


def _one_speaks(error: UserError, rank: int, store: Any) -> NoReturn:
    """What one process finds wrong the others find too, or they miss that one: only the earliest says it."""
    if store.add("failed", 1) > 1:
        _leave_quietly()
    _fail(error, rank)


def _fail(error: UserError, rank: int) -> NoReturn:
    """Have the command line say it, or say it here where that is not the first process and so silent."""
    if rank == 0:
        raise error
    print(f"gpt2lab: error: process {rank}: {error}", file=sys.stderr)
    raise SystemExit(2)


def _leave_quietly() -> NoReturn:
    """End this process as after a user error, but not before the one that says why has had the time to.

    torchrun ends all processes as soon as one has ended.
    """
    time.sleep(_TIME_TO_SPEAK_S)
    raise SystemExit(2)


def _told(error: RuntimeError) -> str:
    """The beginning of what the communication library says, without the places in its own source."""
    return re.sub(r"\[[^ ]*:\d+\] *", "", str(error)).strip().splitlines()[0][:100].rstrip(".")


def _join(rank: int, size: int, store: Any) -> World:
    local, backend = int(os.environ["LOCAL_RANK"]), "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        if local < torch.cuda.device_count():
            torch.cuda.set_device(local)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    return World(rank, size, dist.new_group(backend="gloo", timeout=_PATIENCE))


def _store(rank: int, size: int) -> Any:
    """Where the processes of this start, and of no earlier one, leave each other their addresses.

    torchrun keeps one store over restarts and does not part them in it (PyTorch 2.11 to 2.13), so it holds
    the addresses of dead processes too. The first process therefore invents a name for this start, and goes
    on when all others have answered under that name; each of them goes on when its own answer was accepted.
    """
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    from_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    hosts = rank == 0 and not from_torchrun
    store = TCPStore(address, port, size, is_master=hosts, wait_for_workers=False)
    mine = uuid.uuid4().hex
    if rank == 0:
        store.set("start", mine)
        answers = [store.get(f"{mine}/{other}").decode() for other in range(1, size)]  # waits for each
        store.set(f"{mine}/accepted", " ".join(answers))
        return PrefixStore(mine, store)
    while True:
        start = store.get("start").decode()
        store.set(f"{start}/{rank}", mine)
        if store.check([f"{start}/accepted"]) and mine.encode() in store.get(f"{start}/accepted"):
            return PrefixStore(start, store)
        time.sleep(0.02)


def _check_environment() -> None:
    """With only some of torchrun's variables there would be as many runs as processes."""
    for name in _VARIABLES:
        value = os.environ.get(name, "")
        if not value or (name in _NUMBERS and not value.isdigit()):
            raise UserError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']!r} and {name} is {value!r}",
                where="environment",
                fix="Start several processes with torchrun, or unset WORLD_SIZE",
            )


def sum_over(world: World, tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes, on its device; in place."""
    if world.size > 1:
        dist.all_reduce(tensor)
    return tensor
