from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.audit import copying
from gpt2lab.audit.copying import CopiedSpan, TrainingText

_TEXT = st.text(st.sampled_from("ab é\U0001f600"), max_size=40)


def _plain_search(sample: str, documents: list[str]) -> CopiedSpan:
    for length in range(len(sample), 0, -1):
        for start in range(len(sample) - length + 1):
            if any(sample[start : start + length] in document for document in documents):
                return CopiedSpan(sample[start : start + length], start)
    return CopiedSpan("", 0)


@given(st.lists(_TEXT, max_size=3), st.lists(_TEXT, max_size=4))
def test_equals_the_plain_search(documents: list[str], samples: list[str]) -> None:
    expected = [_plain_search(sample, documents) for sample in samples]
    assert TrainingText(documents).longest_copied_spans(samples) == expected


@given(st.integers(0, 300), st.integers(1, 300), st.text(st.sampled_from("xyz"), max_size=50))
def test_finds_what_was_planted(start: int, length: int, before: str) -> None:
    text = "".join(chr(ord("a") + (i * i // 7 + i) % 20) for i in range(600))
    planted = text[start : start + length]
    (span,) = TrainingText([text]).longest_copied_spans([f"{before}Z{planted}Z"])
    assert span.text == planted or len(span.text) == len(planted)
    assert span.start >= len(before)


def test_spans_do_not_run_from_one_document_into_the_next() -> None:
    (span,) = TrainingText(["one two", " three"]).longest_copied_spans(["one two three"])
    assert span == CopiedSpan("one two", 0)
    (span,) = TrainingText(["a", "b"]).longest_copied_spans(["a\uffffb"])
    assert span == CopiedSpan("a", 0)


def test_words_are_counted_at_white_space() -> None:
    assert CopiedSpan(" of the\nsystem (see", 3).words == 4
    assert CopiedSpan("", 0).words == 0


def test_spans_with_equal_hashes_are_told_apart(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(copying, "_scatter", lambda codes: codes * 0)  # now all spans of a length collide
    documents, samples = ["abcdef", "xyz"], ["cdxyq", "zzz", "fabc"]
    expected = [_plain_search(sample, documents) for sample in samples]
    assert TrainingText(documents).longest_copied_spans(samples) == expected


def test_monotonous_text_is_no_slower() -> None:
    (span,) = TrainingText(["a" * 1_000_000]).longest_copied_spans(["a" * 2_000 + "b"])
    assert span == CopiedSpan("a" * 2_000, 0)
