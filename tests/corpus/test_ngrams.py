import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.corpus.documents import Document
from gpt2lab.corpus.ngrams import ngram_hashes, word_hashes, words
from gpt2lab.corpus.overlap import shared_ngrams

_TEXT = st.text(st.sampled_from("abAB1_ -.'\né\u4e2d"), max_size=80)


@given(st.text())
def test_words_are_the_same_on_both_paths(text: str) -> None:
    assert words(text) == re.findall(r"[^\W_]+", text.lower())


def test_what_a_word_is() -> None:
    assert words("Don't STOP: snake_case, naïve 3.14") == [
        "don", "t", "stop", "snake", "case", "naïve", "3", "14",
    ]  # fmt: skip


def test_hashes_are_the_same_on_every_machine() -> None:
    assert word_hashes("Hello, world").tolist() == [9022087748821825191, 1122476747036766552]
    assert ngram_hashes(word_hashes("hello world"), 2).tolist() == [3311852739034099381]


@given(_TEXT, st.integers(1, 6))
def test_equal_ngrams_and_only_they_have_equal_hashes(text: str, n: int) -> None:
    found = words(text)
    grams = [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]
    hashes = ngram_hashes(word_hashes(text), n)
    assert hashes.shape == (len(grams),)
    assert len(set(zip(grams, hashes.tolist(), strict=True))) == len(set(grams)) == len(np.unique(hashes))


@given(st.lists(_TEXT, max_size=3), st.lists(_TEXT, max_size=3), st.integers(1, 4))
def test_overlap_equals_the_plain_definition(held: list[str], training: list[str], n: int) -> None:
    def grams(text: str) -> list[tuple[str, ...]]:
        found = words(text)
        return [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]

    known = {gram for text in training for gram in grams(text)}
    asked = [gram for text in held for gram in grams(text)]
    expected = sum(gram in known for gram in asked) / len(asked) if asked else 0.0
    measured = shared_ngrams(
        [Document("h", text, "") for text in held], [Document("t", text, "") for text in training], n
    )
    assert measured == expected


def test_ngrams_do_not_run_across_documents() -> None:
    training = [Document("1", "one two", ""), Document("2", "three four", "")]
    assert shared_ngrams([Document("3", "two three", "")], training, 2) == 0.0
