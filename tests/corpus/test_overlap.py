import itertools
import json
import lzma
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.corpus.decontaminate import shared_stretches
from gpt2lab.corpus.ngram_index import NgramIndex
from gpt2lab.corpus.ngrams import words
from gpt2lab.corpus.overlap import (
    Overlap,
    SeenNgrams,
    filter_of,
    overlap_with,
    overlap_with_own_training,
    set_hashes,
)
from gpt2lab.data.evaluation_sets import read_evaluation_sets

_TEXT = st.text(st.sampled_from("abAB1_ -.'\né"), max_size=80)
_TEXTS = st.lists(_TEXT, max_size=3)


def grams(text: str, n: int) -> list[tuple[str, ...]]:
    found = words(text)
    return [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]


@given(st.dictionaries(st.sampled_from("xyz"), _TEXTS), _TEXTS, st.integers(1, 4))
def test_both_ways_equal_the_plain_definition(
    sets: dict[str, list[str]], training: list[str], n: int
) -> None:
    known = {gram for text in training for gram in grams(text, n)}
    expected = {}
    for name, texts in sets.items():
        asked = [gram for text in texts for gram in grams(text, n)]
        expected[name] = Overlap(len(asked), sum(gram in known for gram in asked))
    streaming = SeenNgrams(sets, n)
    for text in training:
        streaming.mark(text)
    assert streaming.overlaps() == expected
    seen = filter_of(training, 1000, 1e-8, n)
    assert {name: overlap_with(seen, texts, n) for name, texts in sets.items()} == expected


def test_what_several_processes_marked_is_merged() -> None:
    sets = {"s": ["one two three", "four five six"]}
    whole, first, second = SeenNgrams(sets, 2), SeenNgrams(sets, 2), SeenNgrams(sets, 2)
    for part, text in ((first, "one two"), (second, "five six and")):
        whole.mark(text)
        part.mark(text)
    first.merge(second.seen)
    assert first.overlaps() == whole.overlaps() == {"s": Overlap(4, 2)}
    assert whole.overlaps()["s"].share == 0.5


def test_a_set_without_ngrams_has_no_overlap() -> None:
    assert SeenNgrams({"empty": [], "short": ["too short"]}).overlaps() == {
        "empty": Overlap(0, 0),
        "short": Overlap(0, 0),
    }
    assert Overlap(0, 0).share == 0.0


def test_the_papers_protocol_on_books_and_published_sets(test_data: Path) -> None:
    """Section 4 and table 6: both ways agree within the filter's error."""
    with lzma.open(test_data / "text/books/books-16.jsonl.xz", "rt", encoding="utf-8") as lines:
        books = [json.loads(line)["text"] for line in itertools.islice(lines, 2)]
    sets = {found.name: found.texts for found in read_evaluation_sets(test_data / "evaluation")}
    streaming = SeenNgrams(sets)
    for book in books:
        streaming.mark(book)
    overlaps = streaming.overlaps()
    seen = filter_of(books, sum(len(book) // 4 for book in books), 1e-8)
    for name, texts in sets.items():
        by_filter = overlap_with(seen, texts)
        assert by_filter.n_grams == overlaps[name].n_grams
        assert overlaps[name].seen <= by_filter.seen <= overlaps[name].seen + 1  # at most 0.03 expected
    assert 0 < overlaps["LAMBADA test"].share < 0.001
    assert overlaps["WMT 2014 French"].share < 0.0001


def test_a_sets_own_training_part(test_data: Path) -> None:
    sets = {found.name: found for found in read_evaluation_sets(test_data / "evaluation")}
    pronouns = sets["Definite pronouns test"]
    assert pronouns.training
    assert overlap_with_own_training(pronouns.texts, pronouns.training) == Overlap(4139, 0)
    assert overlap_with_own_training(pronouns.texts, pronouns.texts[:100]).seen > 400


QUOTED = "The quick brown fox jumps over the lazy dog, and then it does so again for no reason at all."
INDEX = NgramIndex(set_hashes([QUOTED]))


def test_a_quotation_is_found_where_it_stands() -> None:
    text = f"He wrote: “{QUOTED.upper().replace(' ', '  ')}” and left. {QUOTED}"
    assert [text[a:b].lower().replace("  ", " ") for a, b in shared_stretches(text, INDEX)] == [
        QUOTED.lower()[:-1],
        QUOTED.lower()[:-1],
    ]


def test_a_few_shared_words_are_chance() -> None:
    short = " ".join(QUOTED.split()[:12]) + " but not this time."
    assert shared_stretches(short, INDEX) == []
    assert shared_stretches(short, INDEX, min_words=12) == [(0, len(" ".join(QUOTED.split()[:12])))]


@given(st.lists(st.sampled_from("abc"), max_size=60), st.lists(st.sampled_from("abc"), max_size=30))
def test_stretches_are_what_all_lies_in_shared_ngrams(text: list[str], held: list[str]) -> None:
    n, joined = 3, " ".join(text)
    known = set(grams(" ".join(held), n))
    covered = np.zeros(len(text) + 1, dtype=bool)
    for i in range(len(text) - n + 1):
        if tuple(text[i : i + n]) in known:
            covered[i : i + n] = True
    found = shared_stretches(joined, NgramIndex(set_hashes([" ".join(held)], n)), n=n, min_words=n)
    inside = {place for start, end in found for place in range(start, end, 2)}
    assert inside == {2 * i for i in range(len(text)) if covered[i]}
