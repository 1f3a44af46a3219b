"""The report: valid, alone, safe, and with every number in it."""

import dataclasses
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gpt2lab.app.report import DemoReport, Sample, write_report

_VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Text and tags of a page; fails on a tag that is not closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.text, self.open = html, "", [""]
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.marked: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [""]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "mark":
            self.marked.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] != "style":
            self.text += data
        if "mark" in self.open:
            self.marked[-1] += data


@pytest.fixture(scope="module")
def page(report: DemoReport, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of the plausible report."""
    return written(report, tmp_path_factory.mktemp("report"))


def written(report: DemoReport, folder: Path) -> Page:
    write_report(report, folder / "report.html")
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_is_one_small_valid_page_that_loads_nothing(page: Page) -> None:
    assert page.html.startswith("<!doctype html>")
    assert len(page.html) < 1_000_000
    assert "http" not in page.html
    assert "@import" not in page.html
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert {tag for tag, _ in page.tags} >= {"html", "head", "title", "style", "body", "h1", "svg", "figure"}
    for _, attributes in page.tags:
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "{{" not in page.html


@pytest.mark.parametrize(
    "words",
    [
        *("2026-11-21 14:05", "Example Processor 9000, 2 cores", "3.7 million", "2 min 39 s"),
        *(
            "gpt2lab demo --out runs/demo --minutes 2.5",
            "gpt2lab 0.1.0",
            "Python 3.12.4",
            "PyTorch 2.13.0+cpu",
        ),
        *(
            "3,716,608 parameters",
            "4 layers",
            "256 wide",
            "8 heads",
            "context 128 tokens",
            "vocabulary 2,048",
        ),
        *("900 steps of 8,192 tokens", "muon", "seed 17", "bfloat16, compiled, 2 threads, micro-batch 32"),
        *(
            "(cpu)",
            "1,496 modules and topics, 5.7 MB",
            "125 duplicate documents",
            "1,726 repeated paragraphs",
        ),
        *(
            "977 documents, 3.8 MB",
            "67 documents, 250.6 kB",
            "1.2% of the runs of 13 words",
            "2.2% of the runs",
        ),
        *("3.14 bytes", "1.52", "2.54", "2.26", "1.82", "it is 3.31", "among 27 equally", "60% of what gzip"),
        *("temperature 0.5", "temperature 1", "seed 11", "longest copy: 28 characters, 5 words"),
        *(
            "7.0 s",
            "1.4 s",
            "0.3 s",
            "2 min 38 s",
            "17 s",
            "3 min 04 s from text to this page",
            "--steps 900",
        ),
        *(
            "Steps skipped: 2 (the gradient norm is inf)",
            "·implementation",
            "↵·×16",
            "about 30 times smaller",
        ),
        "about 10,000 times less",
    ],
)
def test_says_every_number(words: str, page: Page) -> None:
    assert words in " ".join(page.text.split())


def test_marks_exactly_what_is_copied(report: DemoReport, tmp_path: Path) -> None:
    text = "abc <b>def</b> & ghi"
    sample = Sample("Say ", 0.7, 3, text, copied_start=4, copied_chars=12, copied_words=2)
    page = written(dataclasses.replace(report, samples=[sample]), tmp_path)
    assert page.marked[1:] == ["<b>def</b> &"]  # the first one is in the explanation
    assert f"Say {text}" in page.text
    assert "abc <mark>&lt;b&gt;" in page.html


def test_a_span_may_reach_across_line_breaks_or_be_empty(report: DemoReport, tmp_path: Path) -> None:
    across = Sample("", 1.0, 1, "one\n\n\n\ntwo", copied_start=2, copied_chars=6, copied_words=2)
    none = Sample("", 1.0, 1, "zzz", copied_start=0, copied_chars=0, copied_words=0)
    page = written(dataclasses.replace(report, samples=[across, none]), tmp_path)
    assert page.marked[1:] == ["e\n↵ ×\N{NO-BREAK SPACE}4\nt", ""]


HOSTILE = "</p><script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)>{{data}}&lt;\"'"


def test_whatever_is_in_the_texts_stays_text(page: Page, report: DemoReport, tmp_path: Path) -> None:
    ordinary = page
    hostile = dataclasses.replace(
        report,
        facts=report.facts | dict.fromkeys(("command", "device_name", "precision", "torch"), HOSTILE),
        metrics=[*report.metrics, {"kind": "skipped", "step": 900, "reason": HOSTILE}],
        samples=[Sample(HOSTILE, 1.0, 1, f"\x00{HOSTILE}", 4, 30, 2)],
        vocabulary=dataclasses.replace(report.vocabulary, example=[f"\x00{HOSTILE}"], longest=[HOSTILE]),
        stage_seconds={HOSTILE: 1.0},
        written=HOSTILE,
    )
    page = written(hostile, tmp_path)
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in ordinary.tags}
    assert "<script" not in page.html
    assert "<img" not in page.html
    assert "\x00" not in page.html
    assert page.text.count(HOSTILE) >= 8
    assert page.text.count("{{data}}") == page.text.count("</script>")  # nothing was filled in there


def minimal(report: DemoReport) -> DemoReport:
    first = {"kind": "validation", "step": 0, "tokens": 0, "loss": 7.6, "bits_per_byte": None, "seconds": 0.0}
    return dataclasses.replace(report, metrics=[first], samples=[], stage_seconds={})


def test_little_is_enough(report: DemoReport, tmp_path: Path) -> None:
    page = written(minimal(report), tmp_path)
    assert "skipped" not in page.text
    assert "What it says" in page.text


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (1.0, "fewer than all of them: 39% of what gzip takes"),
        (2.0, "fewer than gzip -9 and xz -9e, and more than xz -9e with the training text"),
        (3.0, "still needs more than all of them"),
    ],
)
def test_the_verdict_follows_the_figures(bits: float, words: str, report: DemoReport, tmp_path: Path) -> None:
    page = written(dataclasses.replace(report, bits_per_byte=bits), tmp_path)
    assert words in " ".join(page.text.split())


def test_the_last_row_need_not_have_a_time(report: DemoReport, tmp_path: Path) -> None:
    """A run may end with a skipped step."""
    late: dict[str, Any] = {"kind": "skipped", "step": 900, "reason": "the loss is nan"}
    page = written(dataclasses.replace(report, metrics=[*report.metrics, late]), tmp_path)
    assert "2 min 39 s" in page.text


def test_prompts_stand_in_rows(page: Page) -> None:
    assert [row.count("<figure>") for row in page.html.split("<div class='samples'>")[1:]] == [3, 3, 3]
    assert page.text.count("(no prompt)") == 3
