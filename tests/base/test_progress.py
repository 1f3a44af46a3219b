import sys
from typing import Any

import pytest

from gpt2lab.base import progress
from gpt2lab.base.progress import Progress, format_bytes, format_duration, track


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (47.6, "48 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (548_105_171, "548.1 MB"), (6.4e12, "6,400.0 GB")],
)
def test_bytes(n_bytes: float, text: str) -> None:
    assert format_bytes(n_bytes) == text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the progress display sees; append to it to let it pass."""
    times = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: times[-1])
    return times


def test_plain_lines_come_now_and_then(clock: list[float], capsys: Any) -> None:
    with Progress(1000, "tokenising", "documents") as bar:
        for _ in range(10):
            clock.append(clock[-1] + 1)
            bar.advance(10)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "tokenising: 5% of 1,000 documents, 1 min 35 s left",
        "tokenising: 10% of 1,000 documents, 1 min 30 s left",
    ]


def test_without_a_total_there_is_no_estimate(clock: list[float], capsys: Any) -> None:
    with Progress(None, "reading", "pages") as bar:
        clock.append(clock[-1] + 65)
        bar.advance(1234)
    assert capsys.readouterr().err == "reading: 1,234 pages in 1 min 05 s\n"


def test_track_yields_everything(clock: list[float], capsys: Any) -> None:
    seen = []
    for item in track(iter("abc"), "spelling", total=3, unit="letters"):
        seen.append(item)
        clock.append(clock[-1] + 10)
    assert seen == ["a", "b", "c"]
    assert capsys.readouterr().err.splitlines()[0] == "spelling: 33% of 3 letters, 20 s left"


@pytest.mark.parametrize("total", [5, None])
def test_the_bar_on_a_terminal(total: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress(total, "drawing", "steps") as bar:
        for _ in range(5):
            bar.advance()
    assert bar.done == 5
