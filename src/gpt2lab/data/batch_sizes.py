"""How many windows each step's batch has: the full size, or stages that grow up to it.

A small batch learns as much a token as a large one while the gradient is still large beside its noise, so
GPT-3 began with 32 thousand tokens and grew the batch linearly over its first billions (GPT-3 paper, appendix
B). Here the growth is in stages of 1, 2, 3, ... times the first size, each of about as many windows as any
other. What step n reads is thus known without going through the steps before it, and a size that processes
and micro-batches divide at the beginning they divide all the way.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchSizes:
    """The sizes of the global batches of a run, in windows.

    Args:
        full: size after the growth.
        first: size of the first step, a divisor of `full`.
        growth: windows read before the batch is full; 0 begins with the full one.
    """

    full: int
    first: int = 0
    growth: int = 0

    def __post_init__(self) -> None:
        assert self.full >= 1
        assert self.growth == 0 or self.full % self.first == 0

    def span(self, step: int) -> tuple[int, int]:
        """How many windows the steps before `step` (from 0) read, and how many it reads itself."""
        before = 0
        for size, n_steps in self._stages():
            if step < n_steps:
                return before + step * size, size
            before, step = before + n_steps * size, step - n_steps
        return before + step * self.full, self.full

    def _stages(self) -> list[tuple[int, int]]:
        """Size and number of steps of each stage before the batch is full."""
        if self.growth == 0:
            return []
        sizes = range(self.first, self.full, self.first)
        return [(size, max(1, round(self.growth / len(sizes) / size))) for size in sizes]
