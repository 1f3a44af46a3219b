"""The loss a run should have: a published or measured curve with its band, and whether a run keeps to it."""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from gpt2lab.base import shipped_recipes
from gpt2lab.base.errors import UserError

_FOLDER = "curves"
Verdict = Literal["inside the band", "above the band", "below the band"]


@dataclass(frozen=True)
class ExpectedCurve:
    """Held-out loss against training tokens; kept as TOML, shipped ones in ``gpt2lab/recipes/curves``.

    Attributes:
        source: whose curve it is, and where it stands.
        band: how the band was made, in words.
        tokens: training tokens of the points, rising.
        loss: nats a token at the points.
        low, high: the band's edges there.
    """

    source: str
    band: str
    tokens: tuple[float, ...]
    loss: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.tokens), len(self.loss), len(self.low), len(self.high)}
        if len(sizes) != 1 or len(self.tokens) < 2:
            raise _bad("tokens, loss, low and high are not lists of one length, of two points at least")
        if self.tokens[0] <= 0 or any(second <= first for first, second in pairwise(self.tokens)):
            raise _bad("its tokens do not rise from above 0")
        if any(not a <= b <= c for a, b, c in zip(self.low, self.loss, self.high, strict=True)):
            raise _bad("a loss lies outside its band")

    def at(self, tokens: float) -> tuple[float, float, float] | None:
        """Low edge, loss and high edge after so many tokens; None before the first point and after the last.

        Between two points they go straight over the logarithm of the tokens.
        """
        if not self.tokens[0] <= tokens <= self.tokens[-1]:
            return None
        right = min(max(bisect.bisect_right(self.tokens, tokens), 1), len(self.tokens) - 1)
        start, end = self.tokens[right - 1], self.tokens[right]
        share = math.log(tokens / start) / math.log(end / start)
        low, loss, high = (
            values[right - 1] + share * (values[right] - values[right - 1])
            for values in (self.low, self.loss, self.high)
        )
        return low, loss, high

    def verdict(self, tokens: float, loss: float) -> Verdict | None:
        """Where a loss lies; None where the curve says nothing."""
        edges = self.at(tokens)
        if edges is None:
            return None
        if loss < edges[0]:
            return "below the band"
        return "inside the band" if loss <= edges[2] else "above the band"  # where NaN belongs, too


def _bad(what: str) -> UserError:
    return UserError(what, where="expected curve", fix="Mend the file, or leave expected_curve empty")


def load_expected_curve(name_or_path: str) -> ExpectedCurve:
    """A shipped curve by its name, or any TOML file of the same shape.

    Raises:
        UserError: there is none, or it is no curve.
    """
    return shipped_recipes.read_recipe(
        ExpectedCurve, name_or_path, _FOLDER, what="expected curve or TOML file"
    )


def closing_words(verdicts: Sequence[Verdict], curve: ExpectedCurve) -> str:
    """One line on a finished run: how its validations lay to the curve; empty if none could be judged."""
    if not verdicts:
        return ""
    inside = sum(verdict == "inside the band" for verdict in verdicts)
    return (
        f"{inside:,} of {len(verdicts):,} validations lie inside the band of {curve.source}; the last one "
        f"is {verdicts[-1]}"
    )
