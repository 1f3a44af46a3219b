"""Steps whose loss or gradient stands out from those before it: a bad batch, a bit flipped in memory.

Such a step can throw a large model back by thousands of steps. Where a recipe asks for it, a value more than
so many standard deviations above the mean of the last 128 steps marks its step as a spike, and the step is
skipped like one that is not finite (llm.c and OLMo-core can do the same). The value enters the window all
the same: one outlier hardly moves it, but where the loss has changed for good the window follows, and
training goes on within a few steps.

It is off by default. Gradient clipping already bounds what a single batch can do, small models rarely need
more, and a run that drops steps by a rule of its own is harder to compare with a published one.
"""

import math
import statistics

WINDOW = 128  # steps
FEWEST = 64  # with fewer values there is no saying what is usual


class SpikeWatch:
    """Remembers recent losses and gradient norms, and tells which step stands out.

    Args:
        threshold: standard deviations above the mean that make a spike; 0 watches nothing.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._recent: dict[str, list[float]] = {"loss": [], "gradient norm": []}

    def verdict(self, loss: float, gradient_norm: float) -> str:
        """Take note of a step; why it is a spike, or empty if it is none. Values not finite are not noted."""
        values = {"loss": loss, "gradient norm": gradient_norm}
        if not self._threshold or not all(map(math.isfinite, values.values())):
            return ""
        reasons = [self._reason(name, value) for name, value in values.items()]
        for name, value in values.items():
            self._recent[name] = [*self._recent[name], value][-WINDOW:]
        return next(filter(None, reasons), "")

    def _reason(self, name: str, value: float) -> str:
        recent = self._recent[name]
        if len(recent) < FEWEST:
            return ""
        mean, deviation = statistics.fmean(recent), statistics.pstdev(recent)
        if value <= mean + self._threshold * deviation:
            return ""
        return f"the {name} {value:.4g} stands out from the last {len(recent)} (mean {mean:.4g})"

    def state(self) -> dict[str, list[float]]:
        """What a resumed run must know to decide the same; JSON keeps every bit of it."""
        return {name: list(values) for name, values in self._recent.items()}

    def load_state(self, state: dict[str, list[float]]) -> None:
        """Put back what `state` gave."""
        self._recent = {name: list(values) for name, values in state.items()}
