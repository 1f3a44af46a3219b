import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt2lab.corpus import ngrams
from gpt2lab.corpus.documents import Document
from gpt2lab.corpus.ngrams import ngram_hashes, word_hashes, words
from gpt2lab.corpus.overlap import shared_ngrams

_TEXT = st.text(st.sampled_from("abAB1_ -.'\né\u4e2d"), max_size=80)


def test_letters_moved_between_words_make_another_ngram() -> None:
    pairs = ["11 a", "1a 1", "1 1a", "a 11"]
    assert len({int(ngram_hashes(word_hashes(pair), 2)[0]) for pair in pairs}) == len(pairs)


@given(st.text())
def test_words_are_the_same_on_both_paths(text: str) -> None:
    assert words(text) == re.findall(r"[^\W_]+", text.replace("İ", "i").lower().replace("ς", "σ"))


def test_what_a_word_is() -> None:
    assert words("Don't STOP: snake_case, naïve 3.14") == [
        "don", "t", "stop", "snake", "case", "naïve", "3", "14",
    ]  # fmt: skip


def test_hashes_are_the_same_on_every_machine() -> None:
    assert word_hashes("Hello, world").tolist() == [11802906927683009011, 1869948451264633877]
    assert ngram_hashes(word_hashes("hello world"), 2).tolist() == [16728015001262716361]


@given(st.text())
@example("ΟΔΥΣΣΕΥΣ İstanbul ǅ ß ﬁ \ud800 x\u0301 ٣ ½")
def test_a_word_has_the_number_it_has_alone(text: str) -> None:
    alone = [word_hashes(word).tolist() for word in words(text)]
    assert [[number] for number in word_hashes(text).tolist()] == alone
    assert word_hashes(text + "\u4e2d")[: len(alone) - 1].tolist() == [x for (x,) in alone][:-1]


@given(st.text())
@example("ΟΔΥΣΣΕΥΣ İstanbul")
def test_words_are_where_they_are_said_to_be(text: str) -> None:
    _, starts, ends = ngrams.locate_words(text)
    found = [text[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    assert [words(word) for word in found] == [[word] for word in words(text)]


def test_numbers_do_not_hang_on_where_the_blocks_end(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = "a bc def, " * 10 + "g" * 100 + " hi" + "\n" * 50 + "jk" * 30
    for text in (plain, plain + "\u4e2d"):
        whole = word_hashes(text)
        monkeypatch.setattr(ngrams, "_BLOCK", 16)
        assert (word_hashes(text) == whole).all()
        monkeypatch.undo()


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
