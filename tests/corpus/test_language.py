import json
import lzma
import random
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt2lab.corpus.language import _load_model, _pieces, english, identify_each, language_shares

py3langid = pytest.importorskip("py3langid")

# English creoles, Scots, and the one page that opens with a page of English: reported apart.
APART = {"pcm", "kri", "tpi", "bis", "pis", "sco", "njo"}
ENGLISH = "All human beings are born free and equal in dignity and rights. They are endowed with reason. "
FRENCH = "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison. "


@pytest.fixture(scope="module")
def declaration(test_data: Path) -> dict[str, str]:
    """The Universal Declaration of Human Rights by language, without its margins."""
    with zipfile.ZipFile(test_data / "web/langid_udhr/udhr2.zip") as archive:
        return {
            Path(name).stem: "\n".join(map(str.strip, archive.read(name).decode().splitlines())).strip()
            for name in archive.namelist()
            if name.endswith(".txt")
        }


def cut(text: str, size: int) -> Iterator[str]:
    for start in range(0, len(text) - size + 1, size):
        yield text[start : start + size]


def recall(texts: list[str], size: int, at_most: int) -> float:
    pieces = [piece for text in texts for piece in cut(text, size)]
    asked = random.Random(0).sample(pieces, min(at_most, len(pieces)))
    return sum(english(piece) is None for piece in asked) / len(asked)


@given(st.text(max_size=300))
@example("")
@example("A")
@example("ALL HUMAN BEINGS ARE BORN FREE")
@example("e\u0301te\u0301 \ud800 \U0001f600")
def test_the_answer_is_that_of_py3langid(text: str) -> None:
    (answer,) = identify_each([text])
    assert answer in (py3langid.classify(text)[0], "zxx")


def test_the_answer_is_that_of_py3langid_in_every_language(declaration: dict[str, str]) -> None:
    pieces = [piece for text in declaration.values() for piece in list(cut(text, 700))[:2]]
    assert identify_each(pieces) == [py3langid.classify(piece)[0] for piece in pieces]


def test_all_places_at_once_find_the_ngrams_that_a_walk_finds(declaration: dict[str, str]) -> None:
    walker = py3langid.langid.LanguageIdentifier.from_model_file(py3langid.langid.MODEL_FILE)
    for text in declaration.values():
        data = text[:3000].encode()
        walked = py3langid.langid.visit_counts(walker.tk_nextmove, walker._rowbase, walker.tk_output, data)
        found = _load_model().ngrams_of(data)
        assert Counter(found[found >= 0].tolist()) == (walked or {})


@pytest.mark.parametrize("size", [200, 500, 1000, 2000])
def test_english_is_found_and_nothing_else(declaration: dict[str, str], size: int) -> None:
    found = {
        language: [piece for piece in cut(text, size) if english(piece) is None]
        for language, text in declaration.items()
        if language not in APART
    }
    right = found.pop("eng")
    wrong = [(language, piece) for language, pieces in found.items() for piece in pieces]
    assert len(right) >= 0.99 * len(list(cut(declaration["eng"], size)))
    assert len(right) >= 0.99 * (len(right) + len(wrong)), wrong


@pytest.mark.parametrize("size", [200, 500, 1000, 2000])
def test_english_of_books_and_of_wikitext_is_kept(test_data: Path, size: int) -> None:
    with lzma.open(test_data / "text/books/books-16.jsonl.xz", "rt", encoding="utf-8") as lines:
        books = [json.loads(line)["text"] for line in lines]
    wikitext = (test_data / "evaluation/wikitext-raw/wiki.test.raw").read_text(encoding="utf-8")
    assert recall(books, size, 1000) >= 0.99
    assert recall([wikitext], size, 1000) >= 0.99


def test_creoles_are_not_english_and_scots_is(declaration: dict[str, str]) -> None:
    kept = {
        language: sum(english(piece) is None for piece in cut(declaration[language], 500))
        for language in APART - {"njo"}
    }
    n_scots = len(list(cut(declaration["sco"], 500)))
    assert kept == {"pcm": 0, "kri": 0, "tpi": 0, "bis": 0, "pis": 0, "sco": n_scots}


def test_a_text_in_two_languages_goes_by_the_larger_part() -> None:
    assert english(20 * ENGLISH + 10 * FRENCH) is None
    assert english(10 * ENGLISH + 20 * FRENCH) == "not_english"
    shares = language_shares(200 * ENGLISH + 100 * FRENCH)
    assert list(shares) == ["en", "fr"]
    assert shares["en"] == pytest.approx(2 / 3, abs=0.1)
    assert sum(shares.values()) == pytest.approx(1)


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_the_verdict_is_that_of_all_pieces(are_english: list[bool]) -> None:
    text = "".join((ENGLISH if is_english else FRENCH).ljust(100) * 2 for is_english in are_english)
    judged = [identify_each([piece]) == ["en"] for piece in _pieces(text)]
    assert (english(text) is None) == (2 * sum(judged) >= len(judged))


def test_what_holds_no_english_words_is_not_english() -> None:
    names = "Anderson Baker Carter Davies Edwards Foster Graham Harris Jackson Kennedy Lawson Mitchell " * 3
    assert english(names) == "not_english"
    assert english("") == "not_english"
    assert english("12345 67890") == "not_english"
