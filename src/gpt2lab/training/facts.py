"""What a run found out at its start and keeps to afterwards, so that a resumption repeats it bit for bit."""

import dataclasses
import platform
import sys
from dataclasses import dataclass
from typing import Any, Self

import torch as pytorch

import gpt2lab
from gpt2lab.base.device import device_label
from gpt2lab.training.cpu_kernels import identity
from gpt2lab.training.parallel import Placement

# The last bits of a result depend on these; a resumption under others goes on, but says so.
_BITS_DEPEND_ON = (
    "precision",
    "compiled",
    "micro_batch",
    "device_name",
    "kernels",
    "threads",
    "torch",
    "data_fingerprint",
    "processes",
    "parallel",
)


@dataclass(frozen=True)
class Facts:
    """One run's circumstances; kept as run.json."""

    steps: int
    micro_batch: int
    precision: str
    compiled: bool
    device: str
    parameters: int
    data_fingerprint: str
    device_name: str
    threads: int
    torch: str
    python: str
    gpt2lab: str
    command: str
    processes: int = 1
    parallel: str = Placement.name
    peak_flops: float = 0.0
    peak_source: str = ""
    recompute: bool = False  # of activations
    kernels: str = "not recorded"  # training's own, on a CPU
    smaller_micro_batch: int = 0  # what memory had room for later; 0: all of micro_batch

    @classmethod
    def here(cls, device: pytorch.device, placement: Placement, **decided: Any) -> Self:
        """Facts of this process on `device`; `decided` gives the fields that are choices."""
        return cls(
            device=str(device),
            device_name=device_label(device),
            threads=pytorch.get_num_threads(),
            kernels=identity() if device.type == "cpu" else "none",
            torch=pytorch.__version__,
            python=platform.python_version(),
            gpt2lab=gpt2lab.__version__,
            command=" ".join(["gpt2lab", *sys.argv[1:]]),
            processes=placement.world.size,
            parallel=placement.name,
            **decided,
        )

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Read back `to_json`; fields of other versions are ignored."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in fields.items() if name in known})

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return dataclasses.asdict(self)

    def differences(self, now: "Facts") -> list[str]:
        """What changed since, among the things on which the last bits of a result depend."""
        return [
            f"{name} was {getattr(self, name)} and is {getattr(now, name)}"
            for name in _BITS_DEPEND_ON
            if getattr(self, name) != getattr(now, name)
        ]
