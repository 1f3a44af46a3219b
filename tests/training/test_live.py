"""What a run shows: everything fits a terminal of 80 columns, and a log has plain lines."""

import io
import re
import sys

from gpt2lab.training import live
from gpt2lab.training.live import LiveView

ROW = {
    "kind": "train", "step": 123_400, "loss": 3.5678, "lr": 1.234e-4, "tokens_per_s": 1_234_567.8,
    "memory_bytes": 79_900_000_000, "seconds": 5.0, "grad_norm": 0.4321, "update_ratio": 1.2e-3, "mfu": 0.456,
}  # fmt: skip
VALIDATION = {"kind": "validation", "step": 123_000, "loss": 3.4567, "bits_per_byte": 1.5432}


class Screen(io.StringIO):
    def isatty(self):
        return True

    def lines(self):
        return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.getvalue()))


def test_nothing_is_cut_off_at_80_columns(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with LiveView(0, 200_000) as view:
        view.validated(VALIDATION)
        view.step_done(123_400)
        view.logged(ROW)
        view.say("a line that stays")
    lines = [line.strip() for line in screen.lines()]
    assert "loss 3.568  held-out 3.457, 1.543 bits/byte  1,234,568 tokens/s  79.9 GB" in lines
    assert "|g| 0.43  update 1e-03  MFU 46%" in lines
    (bar,) = {line for line in lines if line.startswith("step 123,400/200,000") and "left" in line}
    assert re.fullmatch(r"step 123,400/200,000 [━╸╺]{20} lr 1\.2e-04  0 s left", bar)
    assert "a line that stays" in lines
    assert max(map(len, lines)) <= 80


def test_a_log_gets_a_line_now_and_then_and_always_the_last(monkeypatch, capsys):
    now = 1000.0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    with LiveView(100, 130) as view:
        view.validated(VALIDATION | {"step": 100, "bits_per_byte": None})
        for step in (110, 115, 120, 130):
            now += {110: 20.0, 115: 5.0, 120: 15.0, 130: 1.0}[step]
            view.step_done(step)
            view.logged(ROW | {"step": step})
    assert capsys.readouterr().err.splitlines() == [
        "step 100/130  held-out loss 3.457 nats/token",
        *(
            f"step {step}/130  loss 3.568  held-out 3.457  lr 1.2e-04  1,234,568 tokens/s  79.9 GB  "
            f"|g| 0.43  update 1e-03  MFU 46%  {left}"
            for step, left in ((110, "40 s left"), (120, "20 s left"), (130, "0 s left"))
        ),
    ]
