"""The demo's page: self-contained, everything escaped, the copied span marked where it stands."""

import re
from pathlib import Path

from gpt2lab.app.report import DataFacts, DemoReport, Sample, VocabularyFacts, write_report
from gpt2lab.evaluation.compression import Compression

HOSTILE = 'a <script>alert("x")</script> & copied words <b>end'


def _report() -> DemoReport:
    start = HOSTILE.index("copied words")
    return DemoReport(
        recipe={
            "model": {"n_layer": 2, "n_embd": 32, "context_length": 16},
            "optimizer": {"name": "muon"},
            "batch_tokens": 64,
            "seed": 1,
        },
        facts={
            "parameters": 2_100_000, "device_name": "A <CPU>", "steps": 4, "precision": "float32",
            "compiled": False, "threads": 2, "gpt2lab": "0.1.0", "python": "3.11.7", "torch": "2.13.0",
            "command": "gpt2lab demo --steps 4",
        },
        metrics=[
            {"kind": "validation", "step": 0, "tokens": 0, "loss": 7.6, "bits_per_byte": 3.4, "seconds": 0.0},
            {"kind": "train", "step": 4, "tokens": 256, "loss": 6.1, "lr": 0.01, "tokens_per_s": 9e3,
             "seconds": 61.0},
        ],
        data=DataFacts(10, 5_000_000, 2, 3, 7, 4_000_000, 1, 250_000, 0.022, 0.012),
        vocabulary=VocabularyFacts(2048, 3.14, ["The", " <b>"], [" documentation"]),
        bits_per_byte=1.53,
        held_out_loss=3.32,
        compression=Compression(gzip=2.54, xz=2.26, xz_after_training=1.82),
        samples=[Sample("A prompt", 0.8, 1, HOSTILE, start, len("copied words"), 2)],
        stage_seconds={"training": 61.0},
    )  # fmt: skip


def test_the_page_needs_nothing_else_and_escapes_everything(tmp_path: Path) -> None:
    write_report(_report(), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "{{" not in page
    assert not re.search(r"<script|(src|href)=[\"']?http|@import|url\((?!#)", page)
    assert (
        "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; <mark>copied words</mark> &lt;b&gt;end"
        in page
    )
    assert "A &lt;CPU&gt;" in page
    assert page.count("<svg") == 2


def test_the_page_shows_what_was_measured(tmp_path: Path) -> None:
    write_report(_report(), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    numbers = ["2.1M", "1 min 01 s", "1.53", "2.54", "2.26", "1.82", "1.2%", "2.2%", "12 characters", "3.14"]
    for shown in [*numbers, "gpt2lab demo --steps 4", "Python 3.11.7", "not compiled"]:
        assert shown in page, shown
