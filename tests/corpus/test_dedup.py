import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2lab.corpus import dedup
from gpt2lab.corpus.documents import Document
from gpt2lab.corpus.ngrams import words


def _exact_shingles(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + 5]) for i in range(len(found) - 4)}


def _similarity(first: str, second: str) -> float:
    a, b = _exact_shingles(first), _exact_shingles(second)
    return len(a & b) / max(len(a | b), 1)


def _prose(seed: int, n_words: int = 200) -> list[str]:
    source = random.Random(seed)
    return ["".join(source.choices("abcdefgh", k=source.randint(2, 7))) for _ in range(n_words)]


def _document(identity: str, some_words: list[str]) -> Document:
    return Document(identity, " ".join(some_words), "")


def test_exact_duplicates_ignore_case_spaces_and_punctuation() -> None:
    documents = [
        Document("b", "Hello,  World", ""),
        Document("a", "hello world!", ""),
        Document("c", "hello word", ""),
        Document("d", "!!!", ""),
        Document("e", "???", ""),
    ]
    result = dedup.remove_duplicates(documents)
    assert [document.id for document in result.kept] == ["a", "c", "d", "e"]
    assert [(d.id, d.reason, d.duplicate_of) for d in result.dropped] == [("b", "exact_duplicate", "a")]


def test_chains_are_one_group_and_the_lowest_id_survives() -> None:
    text = _prose(1)
    edited = [*text[:100], "edit", *text[101:]]
    edited_again = [*edited[:40], "edit", *edited[41:]]
    documents = [_document("c", text), _document("b", edited), _document("a", edited_again)]
    assert (
        _similarity(documents[0].text, documents[2].text)
        < 0.92
        < _similarity(documents[0].text, documents[1].text)
    )
    result = dedup.remove_duplicates([*documents, _document("x", _prose(2))], threshold=0.92)
    assert [document.id for document in result.kept] == ["a", "x"]
    assert [(d.id, d.reason, d.duplicate_of) for d in result.dropped] == [
        ("c", "near_duplicate", "a"),
        ("b", "near_duplicate", "a"),
    ]


def test_two_documents_with_one_id_and_one_text() -> None:
    result = dedup.remove_duplicates([Document("a", "same text", "1"), Document("a", "same text", "2")])
    assert [document.source for document in result.kept] == ["1"]


@settings(max_examples=20)
@given(st.permutations(range(8)))
def test_what_survives_does_not_depend_on_the_order(order: list[int]) -> None:
    documents = []
    for index in range(4):
        text = _prose(index)
        documents += [_document(f"{index}-b", text), _document(f"{index}-a", [*text[:-1], "end"])]
    result = dedup.remove_duplicates([documents[i] for i in order])
    assert {document.id for document in result.kept} == {f"{index}-a" for index in range(4)}


def test_recall_is_complete_where_similarity_is_high_and_no_pair_is_below_the_threshold() -> None:
    source = random.Random(3)
    originals = [_prose(100 + index, 120) for index in range(150)]
    edited = []
    for text in originals:
        copy = list(text)
        for _ in range(source.choice([1, 5, 15])):
            copy[source.randrange(len(copy))] = "edit"
        edited.append(copy)
    texts = [" ".join(words) for words in (*originals, *edited)]
    shingles = {index: dedup.shingle_set(text) for index, text in enumerate(texts)}
    groups = dedup.Groups(len(texts))
    for first, second in dedup.near_duplicate_pairs(shingles, 0.8, groups):
        assert _similarity(texts[first], texts[second]) >= 0.8
        groups.join(first, second)
    alike = [i for i in range(150) if _similarity(texts[i], texts[150 + i]) >= 0.9]
    assert len(alike) > 30
    assert all(groups.find(i) == groups.find(150 + i) for i in alike)


def test_a_thousand_copies_cost_a_thousand_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    text = _prose(5, 300)
    documents = [_document(f"{index:04}", [*text, f"number{index}"]) for index in range(1000)]
    compared = []
    jaccard = dedup.jaccard
    monkeypatch.setattr(dedup, "jaccard", lambda a, b: compared.append(1) or jaccard(a, b))
    assert [document.id for document in dedup.remove_duplicates(documents).kept] == ["0000"]
    assert len(compared) < 2000


@given(st.sets(st.integers(0, 50)), st.sets(st.integers(0, 50)))
def test_jaccard_of_sets(first: set[int], second: set[int]) -> None:
    a, b = (np.array(sorted(members), dtype=np.uint64) for members in (first, second))
    assert dedup.jaccard(a, b) == len(first & second) / max(len(first | second), 1)


def test_signatures_estimate_jaccard_without_bias() -> None:
    source = np.random.Generator(np.random.PCG64(1))
    errors = []
    for _ in range(200):
        numbers = source.integers(0, 2**64, 600, dtype=np.uint64)
        shared = int(source.integers(0, 300))
        a, b = np.unique(numbers[:300]), np.unique(numbers[300 - shared : 600 - shared])
        estimate = float((dedup.signature(a) == dedup.signature(b)).mean())
        errors.append(estimate - dedup.jaccard(a, b))
    assert abs(np.mean(errors)) < 0.01
    assert np.std(errors) < 0.05  # sqrt(0.25 / 112) = 0.047 at worst


def test_signatures_are_the_same_on_every_machine_and_in_any_block_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = dedup.shingle_set(" ".join(_prose(9, 5000)))
    whole = dedup.signature(numbers)
    assert whole[:2].tolist() == [787312, 290205]
    monkeypatch.setattr(dedup, "_BLOCK", 7)
    assert (dedup.signature(numbers) == whole).all()


def test_repeated_paragraphs_go_from_later_documents_only() -> None:
    licence = "This library is free software; you can redistribute it and modify it."
    documents = [
        Document("a", f"{licence}\n\nFirst module.\n\n{licence}", ""),
        Document("b", f"Second module.\n\n{licence.replace(' is ', chr(10) + 'is ')}\n\nSee above.", ""),
        Document("c", licence, ""),
        Document("d", "First module.\n\nSee above.", ""),
    ]
    result = dedup.remove_repeated_paragraphs(documents)
    assert [document.text for document in result.kept] == [
        documents[0].text,
        "Second module.\n\nSee above.",
        documents[3].text,
    ]
    assert [(d.id, d.reason, d.duplicate_of) for d in result.dropped] == [
        ("b", "repeated_paragraph", "a"),
        ("c", "repeated_paragraph", "a"),
    ]


def test_published_near_duplicates(test_data: Path) -> None:
    folder = test_data / "web" / "neardup_minhash"
    for size in (100, 1000, 2500):
        lines = (folder / f"articles_{size}.train").read_text(encoding="utf-8").splitlines()
        documents = [Document(*line.split(" ", 1), "") for line in lines]
        truth = {
            frozenset(line.split()) for line in (folder / f"articles_{size}.truth").read_text().splitlines()
        }
        texts = {document.id: document.text for document in documents}
        result = dedup.remove_duplicates(documents)
        found = {frozenset((d.id, str(d.duplicate_of))) for d in result.dropped}
        alike = {pair for pair in truth if _similarity(*(texts[i] for i in pair)) >= 0.9}
        assert len(alike & found) >= 0.99 * len(alike)
        assert all(_similarity(*(texts[i] for i in pair)) >= 0.8 for pair in found)
        assert len(truth) == {100: 5, 1000: 10, 2500: 20}[size]


@pytest.mark.parametrize("seed", range(500))
def test_groups_are_what_all_alike_pairs_of_the_buckets_connect(seed: int) -> None:
    source = random.Random(seed)
    pairs = [(first, second) for first in range(8) for second in range(first)]
    alike = {pair for pair in pairs if source.random() < 0.2}
    buckets = [source.sample(range(8), source.randint(2, 8)) for _ in range(4)]

    class Given(dedup.Comparisons):
        def alike(self, first: int, second: int) -> bool:
            return (first, second) in alike or (second, first) in alike

    groups, connected = dedup.Groups(8), {member: {member} for member in range(8)}
    for bucket in buckets:
        for first, second in dedup.pairs_in_bucket(bucket, Given(lambda index: None, 0.5), groups):
            assert (first, second) in alike or (second, first) in alike
            groups.join(first, second)
        for first in bucket:
            for second in bucket:
                if (first, second) in alike and connected[first] is not connected[second]:
                    connected[first] |= connected[second]
                    for member in connected[second]:
                        connected[member] = connected[first]
    assert [groups.find(member) for member in range(8)] == [min(connected[member]) for member in range(8)]
