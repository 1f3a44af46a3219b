"""How far an update moves the weights: one number that tells a learning rate too high or too low.

The ratio of an update's size to the size of what it updates, over the matrices, is about a thousandth in a
healthy AdamW run (Karpathy's rule of thumb, CS231n notes); a hundred times more destroys what was learned, a
hundred times less learns nothing. It is taken on a sample of each matrix: the weights before a step would
else have to be kept whole.
"""

import math
from collections.abc import Iterator

from torch import Tensor

from gpt2lab.training.parallel import Placement

_SAMPLED = 4096  # entries of each matrix, evenly spread


class UpdateWatch:
    """Measures one step: call `before` before it and `ratio` after it.

    Args:
        placement: of the model, whole or in shares; each process looks at what it has, and all of them call
            both methods together.
    """

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._before: list[Tensor] = []

    def before(self) -> None:
        """Remember a sample of the matrices."""
        self._before = [sample.clone() for sample in self._samples()]

    def ratio(self) -> float:
        """The size of what was added to the matrices since `before`, as a share of their size then."""
        moved = sum(
            float((after - before).square().sum())
            for before, after in zip(self._before, self._samples(), strict=True)
        )
        size = sum(float(before.square().sum()) for before in self._before)
        self._before = []
        moved, size = self._placement.world.total(moved, size)
        return math.sqrt(moved / size) if size else 0.0

    def _samples(self) -> Iterator[Tensor]:
        for weights in self._placement.own_weights():
            if weights.dim() >= 2:
                # An odd stride: one that divides the rows' length would see the same few columns in all.
                yield weights.flatten()[:: weights.numel() // _SAMPLED | 1]
