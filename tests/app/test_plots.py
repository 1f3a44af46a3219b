"""Pictures: whole, small, in the page's colours, and drawable from whatever rows a run has."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gpt2lab.app.plots import bars, loss_curve, loss_plot, pieces, rate_and_speed, shown, spelled

Rows = list[dict[str, Any]]
FIRST_VALIDATION = {"kind": "validation", "step": 0, "tokens": 0, "loss": 7.6, "seconds": 0.0}


def test_loss_plot_is_a_png_and_leaves_nothing_else(metrics: Rows, tmp_path: Path) -> None:
    loss_plot(metrics, tmp_path / "loss.png")
    data = (tmp_path / "loss.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < 300_000
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]


def test_every_row_is_a_point(metrics: Rows) -> None:
    """Each of the two drawings has a marker a validation, and one in the legend."""
    n_validations = sum(row["kind"] == "validation" for row in metrics)
    for drawing in loss_curve(metrics, {}).split("<svg ")[1:]:
        assert drawing.count("<use ") - _ticks(drawing) == n_validations + 1


def _ticks(drawing: str) -> int:
    return len(re.findall(r"<use [^>]*stroke-width: 0.8", drawing))


def test_marks_stand_at_their_height(metrics: Rows) -> None:
    """A mark at the last validation's bits per byte lies as high as that validation's point."""
    last = next(row for row in reversed(metrics) if row["kind"] == "validation")
    drawing = loss_curve(metrics, {"here": last["bits_per_byte"]}).split("<svg ")[1]
    (dotted,) = re.findall(r'<path d="M [\d.]+ ([\d.]+) L [\d.]+ \1 ?"[^>]*stroke-dasharray', drawing)
    points = re.findall(r'<use href="#\S+" x="([\d.]+)" y="([\d.]+)" style="fill: var\(--accent\)', drawing)
    last_of_curve = max((point for point in points[:-1]), key=lambda point: float(point[0]))
    assert float(last_of_curve[1]) == pytest.approx(float(dotted), abs=0.01)
    assert ">here</text>" in drawing
    assert "bits per byte" in drawing


def test_no_marks_without_bits_per_byte() -> None:
    drawing = loss_curve([FIRST_VALIDATION | {"bits_per_byte": None}], {"gzip": 2.5})
    assert "gzip" not in drawing
    assert "bits per byte" not in drawing


@pytest.mark.parametrize("rows", [[], [FIRST_VALIDATION | {"bits_per_byte": 3.4}]])
def test_little_or_nothing_to_draw(rows: Rows, tmp_path: Path) -> None:
    assert loss_curve(rows, {"gzip": 2.5}).count("<svg ") == 2
    assert rate_and_speed(rows).count("<svg ") == 2
    loss_plot(rows, tmp_path / "loss.png")


def test_pictures_fit_into_one_page(metrics: Rows) -> None:
    """No name twice, no reference into nothing, no address, no colour or font of its own, no global style."""
    page = loss_curve(metrics, {"gzip": 2.5}) + rate_and_speed(metrics)
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', page)) == set(names)
    assert "http" not in page
    assert "font-family" not in page
    assert "<style" not in page
    assert set(re.findall(r"#[0-9a-f]{6}\b", page)) == set()
    assert "var(--accent)" in page


def test_the_same_rows_give_the_same_bytes(metrics: Rows) -> None:
    assert loss_curve(metrics, {}) == loss_curve(metrics, {})


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def _parse(page: str) -> _Text:
    parser = _Text()
    parser.feed(page)
    parser.close()
    return parser


def test_bars_are_in_proportion() -> None:
    page = bars([("a <b>", 4.0, "four"), ("c", 1.0, "one"), ("none", 0.0, "0")], highlight="c")
    assert re.findall(r"width:([\d.]+)%", page) == ["100.0", "25.0", "0.0"]
    assert _parse(page).text == "a <b>fourcone" + "none0"
    assert page.count("class='strong'") == 1
    assert "width" not in bars([])


def test_pieces_keep_every_character() -> None:
    texts = ["F", " <script>", "&amp;", " \t", "\ufffd", "'\""]
    parsed = _parse(pieces(texts))
    assert parsed.text == "".join(texts)
    assert parsed.tags == ["span"] * len(texts)


def test_shown_counts_line_breaks_and_shows_control_characters() -> None:
    assert _parse(shown("a\n\nb")).text == "a\n\nb"
    assert _parse(shown("a\n\n\n\nb")).text == "a\n↵ ×\N{NO-BREAK SPACE}4\nb"
    assert _parse(shown("\x16\x00\x7f\r")).text == r"\x16\x00\x7f\x0d"


def test_spelled() -> None:
    assert spelled("\n                ") == "↵·×16"
    assert spelled(" a  b") == "·a··b"
