"""Pictures of a run: SVG in the page's own colours and font for the report, and a PNG for everywhere else."""

import io
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gpt2lab.base.files import atomic_file

Row = dict[str, Any]
"""A line of metrics.jsonl"""

_TRAIN, _HELD_OUT, QUIET, PAPER = "#6f8fbf", "#c4513c", "#6e7681", "#ffffff"
_OF_THE_PAGE = {_TRAIN: "var(--train)", _HELD_OUT: "var(--accent)", QUIET: "var(--quiet)"}
_FONT_SIZE = 10  # points; both SVG sizes are shown at about 1.3 times their own
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: sharp, small, and in the page's own font
    "svg.hashsalt": "gpt2lab",  # the same picture gives the same bytes
    "font.size": _FONT_SIZE,
    "axes.titlesize": _FONT_SIZE,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": QUIET,
    "grid.alpha": 0.22,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), QUIET),
}
_LINE_BREAKS = re.compile(r"\n{3,}")
_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), 0x7F) if chr(code) not in "\n\t"}

CSS = """.plot { display: block; width: 100%; height: auto; margin: 1.2rem 0 .6rem; stroke-linejoin: round; }
.plot.narrow { display: none; }
.bars { margin: 1.2rem 0; font-size: .88rem; line-height: 1.3; }
.bars th { text-align: left; font-weight: normal; width: 34%; padding: .28rem .75rem .28rem 0; }
.bars i { display: block; height: 1.1rem; border-radius: 3px; background: var(--train); min-width: 1px; }
.bars .strong i { background: var(--accent); }
.bars .strong th, .bars .strong td { font-weight: bold; }
.bars td:last-child { width: 5.5rem; text-align: right; font-variant-numeric: tabular-nums; }
.piece { font: .86rem/1.7 ui-monospace, Menlo, "DejaVu Sans Mono", monospace; white-space: pre-wrap;
  background: color-mix(in srgb, var(--train) 24%, transparent); border-radius: 3px; padding: .15em 0; }
.piece:nth-child(even) { background: color-mix(in srgb, var(--accent) 17%, transparent); }
@media (max-width: 40rem) { .plot.wide { display: none; } .plot.narrow { display: block; } }
"""
"""The style sheet these pictures need; the page sets the colours --train, --accent and --quiet."""

PAGE_INCHES, _PHONE_INCHES = (7.6, 3.9), (3.9, 3.7)


def loss_plot(metrics: Sequence[Row], path: Path) -> None:
    """Save the loss curve of a run as a PNG on white paper.

    Args:
        metrics: the rows of its metrics.jsonl.
        path: where to write, usually the run's ``loss.png``.

    Raises:
        UserError: the disk is full or the folder may not be written.
    """
    with page_figure(PAGE_INCHES) as figure, atomic_file(path) as temporary:
        _draw_loss(figure, metrics, {})
        figure.savefig(temporary, format="png", dpi=200, facecolor=PAPER)


def loss_curve(metrics: Sequence[Row], marks: Mapping[str, float]) -> str:
    """Training and held-out loss (nats per token) over training tokens, as SVG for a page and for a phone.

    Args:
        metrics: the rows of metrics.jsonl.
        marks: levels in bits per byte to draw as dotted lines, for example what a compressor needs. They, and
            the axis they belong to, are left out where the metrics have no bits per byte.
    """
    return _svgs(
        "loss",
        "Loss on training and held-out text against the tokens read",
        lambda figure, narrow: _draw_loss(figure, metrics, marks),
        (PAGE_INCHES, _PHONE_INCHES),
    )


def rate_and_speed(metrics: Sequence[Row]) -> str:
    """Learning rate and throughput over training tokens, as SVG for a page and for a phone."""

    def draw(figure: Figure, narrow: bool) -> None:
        rate, speed = figure.subplots(2, 1) if narrow else figure.subplots(1, 2)
        train = _of_kind(metrics, "train")
        _panel(rate, train, [row["lr"] for row in train], "learning rate (of AdamW)")
        _panel(speed, train, [row["tokens_per_s"] / 1000 for row in train], "speed, thousand tokens a second")

    label = "Learning rate and training speed against the tokens read"
    return _svgs("speed", label, draw, ((7.6, 2.5), (3.9, 4.4)))


def health(metrics: Sequence[Row]) -> str:
    """Gradient norm, update-to-weight ratio and MFU over training tokens, as SVG for a page and for a phone.

    Empty where the run recorded none of them.
    """
    train = [row for row in _of_kind(metrics, "train") if "update_ratio" in row]
    if not train:
        return ""

    def draw(figure: Figure, narrow: bool) -> None:
        norm, ratio, used = figure.subplots(3, 1) if narrow else figure.subplots(1, 3)
        _panel(norm, train, [row["grad_norm"] for row in train], "gradient norm")
        _panel(ratio, train, [1000 * row["update_ratio"] for row in train], "update / weight, thousandths")
        _panel(used, train, [100 * row["mfu"] for row in train], "MFU, % of the peak")

    label = "Gradient norm, update-to-weight ratio and use of the machine against the tokens read"
    return _svgs("health", label, draw, ((7.6, 2.5), (3.9, 6.2)))


def bars(rows: Sequence[tuple[str, float, str]], highlight: str = "") -> str:
    """A bar chart as an HTML table.

    Args:
        rows: name, value and the value in words, from top to bottom.
        highlight: name of the row to bring out.
    """
    largest = max((value for _, value, _ in rows), default=0.0) or 1.0
    cells = (
        f"<tr class='{'strong' if name == highlight else 'bar'}'><th scope='row'>{escape(name)}</th>"
        f"<td><i style='width:{100 * value / largest:.1f}%'></i></td><td>{escape(words)}</td></tr>"
        for name, value, words in rows
    )
    return f"<table class='bars'><tbody>{''.join(cells)}</tbody></table>"


def pieces(texts: Sequence[str]) -> str:
    """A text cut into tokens, as HTML: each on a ground of its own colour."""
    return "".join(f"<span class='piece'>{shown(text)}</span>" for text in texts)


def shown(text: str) -> str:
    """Text as HTML: markup is text, control characters are visible, long runs of line breaks are counted."""
    breaks = "\n<span class='quiet'>↵ ×\N{NO-BREAK SPACE}{}</span>\n"
    escaped = escape(text).translate(_VISIBLE)
    return _LINE_BREAKS.sub(lambda found: breaks.format(len(found[0])), escaped)


def spelled(piece: str) -> str:
    """A piece on its own, its white space visible: a dot for each space."""
    return re.sub(r" {4,}", lambda found: f"·×{len(found[0])}", piece).replace(" ", "·").replace("\n", "↵")


@contextmanager
def page_figure(inches: tuple[float, float]) -> Iterator[Figure]:
    """A figure in our style; not pyplot's, which would ask for a window system and remember it."""
    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=inches, layout="constrained")


def _draw_loss(figure: Figure, metrics: Sequence[Row], marks: Mapping[str, float]) -> None:
    axes = figure.subplots()
    train, held_out = _of_kind(metrics, "train"), _of_kind(metrics, "validation")
    axes.plot(_millions(train), [row["loss"] for row in train], color=_TRAIN, lw=1.2, label="training text")
    losses = [row["loss"] for row in held_out]
    expected = [row for row in held_out if "expected_low" in row]
    if expected:
        low, high = ([row[f"expected_{edge}"] for row in expected] for edge in ("low", "high"))
        axes.fill_between(_millions(expected), low, high, color=QUIET, alpha=0.2, lw=0, label="expected")
    # The point at step 0 may be the only one; a marker shows it where a line cannot.
    axes.plot(_millions(held_out), losses, color=_HELD_OUT, lw=1.8, marker="o", ms=4, label="held-out text")
    for row in held_out[-1:]:
        axes.annotate(
            f"{row['loss']:.2f}",
            (row["tokens"] / 1e6, row["loss"]),
            textcoords="offset points",
            xytext=(0, 8),
            ha="right" if row["tokens"] else "left",
            color=_HELD_OUT,
            weight="bold",
        )
    axes.set_title("loss, nats per token")
    over_tokens(axes)
    axes.legend(loc="upper right")
    if held_out and marks and held_out[-1].get("bits_per_byte"):
        _draw_marks(axes, marks, losses[-1] / held_out[-1]["bits_per_byte"])


def _draw_marks(axes: Axes, marks: Mapping[str, float], nats_per_bit: float) -> None:
    """Dotted levels, and a second axis on the right that reads in their unit.

    One factor leads from bits per byte to nats per token, because tokens have a fixed mean length.
    """
    units = partial(operator.mul, 1 / nats_per_bit), partial(operator.mul, nats_per_bit)
    right = axes.secondary_yaxis("right", functions=units)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    axes.set_title("bits per byte", loc="right")
    for name, bits in marks.items():
        axes.axhline(bits * nats_per_bit, color=QUIET, lw=1, ls=(0, (1, 2.5)))
        axes.annotate(
            name,
            (1, bits * nats_per_bit),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            xytext=(-4, 3),
            ha="right",
            fontsize=_FONT_SIZE - 1,
        )


def _panel(axes: Axes, rows: Sequence[Row], values: Sequence[float], title: str) -> None:
    axes.plot(_millions(rows), values, color=_TRAIN, lw=1.5)
    axes.set_title(title)
    axes.set_ylim(bottom=0)
    over_tokens(axes)


def over_tokens(axes: Axes) -> None:
    """Let the horizontal axis be millions of training tokens."""
    axes.set_xlabel("training tokens read, millions")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.tick_params(length=0, pad=5)


def _of_kind(metrics: Sequence[Row], kind: str) -> list[Row]:
    return [row for row in metrics if row["kind"] == kind]


def _millions(rows: Sequence[Row]) -> list[float]:
    return [row["tokens"] / 1e6 for row in rows]


def _svgs(
    name: str,
    label: str,
    draw: Callable[[Figure, bool], None],
    inches: tuple[tuple[float, float], tuple[float, float]],
) -> str:
    """The picture twice: for a page, and for a phone, where the first one's text would be too small.

    The page's style sheet shows one of them: the classes are ``plot wide`` and ``plot narrow``.
    """
    drawings = []
    for width, size in zip(("wide", "narrow"), inches, strict=True):
        with page_figure(size) as figure:
            draw(figure, width == "narrow")
            buffer = io.StringIO()
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
        drawings.append(_for_page(buffer.getvalue(), f"{name}-{width}", f"plot {width}", label))
    return "".join(drawings)


def _for_page(svg: str, prefix: str, classes: str, label: str) -> str:
    """Matplotlib's file as an element of a page: the page's colours and font, no names that clash."""
    (view_box,) = re.findall(r'viewBox="[^"]*"', svg)
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"font: [^;\"]*?([\d.]+px)[^;\"]*", r"font-size: \1", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = body.replace("xlink:href", "href")
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = re.sub(
        r' id="([^"]+)"', lambda found: f' id="{prefix}-{found[1]}"' if found[1] in used else "", body
    )
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", body)
    body = re.sub(r"\s+", " ", body).replace("> <", "><")
    for colour, variable in _OF_THE_PAGE.items():
        body = body.replace(colour, variable)
    return f'<svg class="{classes}" role="img" aria-label="{escape(label)}" {view_box}>{body.strip()}'
