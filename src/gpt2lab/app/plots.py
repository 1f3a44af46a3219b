"""Pictures of a run's metrics, as SVG text that fits a light or a dark page."""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Row = dict[str, Any]

_TRAIN, _HELD_OUT, _QUIET = "#8aa4c8", "#d1495b", "#7d8590"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: sharp, small, and in the page's own font
    "svg.hashsalt": "gpt2lab",  # the same picture gives the same bytes
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _QUIET,
    "grid.alpha": 0.25,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _QUIET
    ),
}


def loss_curve(metrics: Sequence[Row]) -> str:
    """Training and held-out loss (nats per token) over training tokens, as an SVG element."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(8, 4))
        train, held_out = _of_kind(metrics, "train"), _of_kind(metrics, "validation")
        axes.plot(_millions(train), [row["loss"] for row in train], color=_TRAIN, lw=1, label="training")
        losses = [row["loss"] for row in held_out]
        axes.plot(_millions(held_out), losses, color=_HELD_OUT, lw=2, marker="o", ms=4, label="held out")
        axes.annotate(
            f"{losses[-1]:.2f}",
            (_millions(held_out)[-1], losses[-1]),
            textcoords="offset points",
            xytext=(0, 9),
            ha="center",
            color=_HELD_OUT,
        )
        axes.set_ylabel("loss, nats per token")
        axes.set_xlabel("training tokens, millions")
        axes.legend(frameon=False)
        return _svg(figure)


def rate_and_speed(metrics: Sequence[Row]) -> str:
    """Learning rate and throughput over training tokens, side by side, as an SVG element."""
    with matplotlib.rc_context(_STYLE):
        figure, (rate, speed) = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained")
        train = _of_kind(metrics, "train")
        _panel(rate, train, [row["lr"] for row in train], "learning rate (AdamW's)")
        _panel(speed, train, [row["tokens_per_s"] / 1000 for row in train], "thousand tokens a second")
        speed.set_ylim(bottom=0)
        return _svg(figure)


def _panel(axes: Axes, rows: Sequence[Row], values: Sequence[float], title: str) -> None:
    axes.plot(_millions(rows), values, color=_TRAIN, lw=1.5)
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel("training tokens, millions")


def _of_kind(metrics: Sequence[Row], kind: str) -> list[Row]:
    return [row for row in metrics if row["kind"] == kind]


def _millions(rows: Sequence[Row]) -> list[float]:
    return [row["tokens"] / 1e6 for row in rows]


def _svg(figure: Figure) -> str:
    """The figure as an `<svg>` element that takes the width it is given."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    element = buffer.getvalue()
    element = element[element.index("<svg") :]
    return re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", element, count=1).replace(
        "<svg ", '<svg role="img" class="plot" ', 1
    )
