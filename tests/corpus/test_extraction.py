import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2lab.base.errors import UserError
from gpt2lab.corpus import extraction_process
from gpt2lab.corpus.documents import Document, Dropped
from gpt2lab.corpus.extraction import MAX_DEPTH, Extractor, extract, nesting_depth
from gpt2lab.corpus.extraction_process import ExtractionProcess
from gpt2lab.corpus.pages import MAX_PAGE_BYTES, Page

pytest.importorskip("trafilatura")
pytest.importorskip("resiliparse")

PAGES = Path(__file__).parent / "pages"
STORY = "<p>It rained until ten, and the donkey would not leave the barn. I read him the newspaper.</p>"
EXTRACTORS: tuple[Extractor, ...] = ("trafilatura", "resiliparse")


@pytest.fixture(scope="module")
def benchmark_script() -> types.ModuleType:
    script = Path(__file__).parents[2] / "benchmarks" / "corpus_filters.py"
    spec = importlib.util.spec_from_file_location("corpus_filters", script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["corpus_filters"] = module
    spec.loader.exec_module(module)
    return module


def page(html: str | bytes, kind: str = "text/html") -> Page:
    body = html if isinstance(html, bytes) else html.encode()
    return Page("https://example.org/a", body, kind, None, "")


def reason(html: str | bytes, kind: str = "text/html", extractor: Extractor = "trafilatura") -> str:
    result = extract(page(html, kind), extractor)
    assert isinstance(result, Dropped)
    assert result.id == "https://example.org/a"
    return result.reason


@pytest.mark.parametrize(("extractor", "least"), [("trafilatura", 0.90), ("resiliparse", 0.86)])
def test_main_text_of_pages_of_many_kinds(
    benchmark_script: types.ModuleType, extractor: Extractor, least: float
) -> None:
    scores = benchmark_script.extraction_scores(PAGES, extractor)
    assert scores["pages"] == 15
    assert scores["f1"] > least, scores


def test_shingles_are_counted_as_the_protocol_says(benchmark_script: types.ModuleType) -> None:
    same = benchmark_script.shingle_score("a b c d e", "a b c d e")
    assert same == (1.0, 0.0, 0.0)
    assert benchmark_script.shingle_score("a b c d e", "x a b c d e") == pytest.approx((2 / 3, 1 / 3, 0))
    assert benchmark_script.shingle_score("a b c d e", "") == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_a_document_is_known_by_its_address(extractor: Extractor) -> None:
    result = extract(page(f"<html><body><article>{STORY}</article></body></html>"), extractor)
    assert isinstance(result, Document)
    assert (result.id, result.source) == ("https://example.org/a", "https://example.org/a")
    assert "donkey would not leave" in result.text


def test_plain_text_is_taken_as_it_is() -> None:
    assert extract(page("One.\n\n  Two <b>.", "text/plain")) == Document(
        "https://example.org/a", "One.\n\n  Two <b>.", "https://example.org/a"
    )
    assert isinstance(extract(page("just words", "")), Document)
    assert "<" not in getattr(extract(page(f"<!doctype html><body>{STORY * 3}", "")), "text", "<")


HOSTILE = {
    "too_large": b"<div " + b"a" * MAX_PAGE_BYTES,
    "nested_too_deep": "<html><body>" + "<div>" * 40_000 + STORY,
    "too_many_attributes": "<div x='>' " + "a=1 " * 100_000 + ">" + STORY,
    "too_many_elements": "<p>" + "<br>" * 400_000 + STORY,
    "not_text": bytes(range(256)) * 1000,
    "no_main_text": "<html><body><script>" + "x = 1;" * 100_000,
}


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("expected", HOSTILE)
def test_hostile_pages_have_their_reason(expected: str, extractor: Extractor) -> None:
    assert reason(HOSTILE[expected], extractor=extractor) == expected


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_hostile_pages_within_the_limits_end_well(extractor: Extractor) -> None:
    hostile = [
        "<div " + "a" * 5_000_000 + ">" + STORY,
        "<" * 40_000 + STORY,
        "<a href=x>link</a> " * 20_000,
        "&amp;" * 200_000,
        "word " * 500_000,
        "<!--" * 40_000 + STORY,
        "<html><body><script>" * 10_000 + STORY,
        ("<table><tr><td>" * 200 + STORY) * 20,
        "\0".join(STORY * 400)[:1000] + STORY * 300,
    ]
    for html in hostile:
        extract(page(html), extractor)


def test_another_media_type_is_no_page() -> None:
    assert reason(STORY, "application/pdf") == "not_html"
    assert reason(b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "image/png") == "not_html"


@settings(max_examples=60)
@given(
    st.lists(
        st.sampled_from(["<p>", "</p>", "<div ", ">", "<!--", "-->", "<td>", "&#0;", "a\0b", "é", "<svg/>"])
    )
)
def test_any_markup_has_an_answer(parts: list[str]) -> None:
    for extractor in EXTRACTORS:
        extract(page("<html>" + "".join(parts)), extractor)


def test_nesting_depth() -> None:
    n = MAX_DEPTH + 1
    assert nesting_depth("<div>" * 10) == 0  # too few elements to be worth a look
    assert nesting_depth("<div>" * n) == n
    assert nesting_depth("<div><b>x</b></div>" * n) == 2
    assert nesting_depth("<p>one<br>" * n) == 0
    assert nesting_depth("<div/>" * n + "<i><b>" + "<li>x" * n) == 2
    assert nesting_depth("<script>" + "<div>" * n + "</script>" + "<div>" * n) == n
    assert nesting_depth("<!-- " + "<div>" * n) == 0


@pytest.fixture
def process() -> Iterator[ExtractionProcess]:
    with ExtractionProcess("resiliparse") as process:
        yield process


def test_the_process_gives_the_same_answers(process: ExtractionProcess) -> None:
    pages = [page(file.read_bytes()) for file in sorted(PAGES.glob("*.html"))[:4]]
    pages += [page(HOSTILE["nested_too_deep"]), page(""), page("é\n\0" * 9, "text/plain")]
    for one in pages:
        assert process.extract(one) == extract(one, "resiliparse")


def test_a_page_that_hangs_the_extractor_is_given_up_and_the_next_one_read(tmp_path: Path) -> None:
    # A page below the limits of the real ones, with the limit on time lowered instead.
    slow = page("<html><body>" + "<div>" * 249 + (STORY + "<div>x</div>" * 200) * 60)
    with ExtractionProcess("trafilatura", seconds=0.0) as process:
        assert process.extract(slow) == Dropped(slow.url, "", "too_slow")
        process._seconds = 60.0
        assert isinstance(process.extract(page(STORY * 5)), Document)


def test_a_page_that_kills_the_extractor_is_given_up_and_the_next_one_read(
    process: ExtractionProcess,
) -> None:
    good = page(STORY * 5)
    expected = process.extract(good)
    assert process._process
    process._process.kill()
    process._process.wait()
    assert process.extract(good) == Dropped(good.url, "", "extractor_crashed")
    assert process.extract(good) == expected


def test_a_missing_extractor_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    with pytest.raises(UserError, match=r"pip install 'gpt2lab\[corpus\]'"):
        extract(page(STORY))


def test_errors_travel_from_the_process(tmp_path: Path) -> None:
    file = tmp_path / "answers"
    with file.open("wb") as stream:
        extraction_process.write_answer(stream, UserError("a", where="b", fix="c"))
    with pytest.raises(UserError, match=r"b: a\. c\."):
        extraction_process._read_answer(file.read_bytes())
