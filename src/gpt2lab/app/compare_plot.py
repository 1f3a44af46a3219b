"""A picture of a comparison: each group's mean loss over the tokens, and from its best to its worst seed."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from textwrap import fill

from gpt2lab.app.compare import Comparison, Group
from gpt2lab.app.plots import PAGE_INCHES, PAPER, over_tokens, page_figure
from gpt2lab.base.files import atomic_file

_COLOURS = ("#c4513c", "#6f8fbf", "#5b8c5a", "#a06cb0", "#b58900", "#6e7681")
_LEGEND_COLUMNS, _LINE_INCHES = 85, 0.18  # names can be long: the legend stands below the curves
_TITLES = {
    "loss": "held-out loss, nats per token",
    "bits_per_byte": "held-out text, bits per byte",
}


def comparison_plot(comparison: Comparison, path: Path) -> None:
    """Save the curves as a PNG on white paper.

    Raises:
        UserError: the disk is full or the folder may not be written.
    """
    width, height = PAGE_INCHES
    labels = [_label(group) for group in comparison.groups]
    lines = sum(label.count("\n") + 1 for label in labels)
    with page_figure((width, height + _LINE_INCHES * lines)) as figure, atomic_file(path) as temporary:
        axes = figure.subplots()
        for number, group in enumerate(comparison.groups):
            tokens, means, lows, highs = _band(group)
            millions = [count / 1e6 for count in tokens]
            colour = _COLOURS[number % len(_COLOURS)]
            marker = "o" if len(tokens) == 1 else None  # a line through one point is not to be seen
            axes.plot(millions, means, color=colour, lw=1.8, marker=marker, label=labels[number])
            axes.fill_between(millions, lows, highs, color=colour, alpha=0.2, lw=0)
        axes.set_title(f"{_TITLES[comparison.unit]}; shaded: from the best seed to the worst")
        over_tokens(axes)
        figure.legend(loc="outside lower left")
        figure.savefig(temporary, format="png", dpi=200, facecolor=PAPER)


def _band(group: Group) -> tuple[list[float], list[float], list[float], list[float]]:
    """Tokens, and mean, lowest and highest loss there, as far as all runs went."""
    end = min(curve.tokens[-1] for curve in group.curves)
    tokens = sorted({count for curve in group.curves for count in curve.tokens if count <= end})
    losses: Sequence[list[float]] = [group.at(count) for count in tokens]
    return tokens, [fmean(at) for at in losses], [min(at) for at in losses], [max(at) for at in losses]


def _label(group: Group) -> str:
    seeds = f"{len(group.runs)} seed{'s' if len(group.runs) > 1 else ''}"
    return fill(f"{group.name} ({seeds})", _LEGEND_COLUMNS)
