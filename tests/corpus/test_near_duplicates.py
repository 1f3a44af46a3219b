"""Duplicates of a corpus on disk: the same as in memory, whatever the partitions."""

import json
import random
from dataclasses import replace

import pytest

from gpt2lab.corpus import pipeline
from gpt2lab.corpus.dedup import remove_duplicates
from gpt2lab.corpus.documents import Document, read_documents
from gpt2lab.corpus.near_duplicates import ShingleStore
from gpt2lab.corpus.ngrams import words
from gpt2lab.corpus.parquet_files import read_rows
from gpt2lab.corpus.recipe import CleanConfig, CorpusRecipe, LanguageConfig, ShardsConfig
from gpt2lab.corpus.workers import Processes


@pytest.fixture
def deduplicate(made, tmp_path, monkeypatch):
    """Runs the pipeline; returns (id, reason, detail) of each duplicate, and what it says of near ones."""

    def run(documents, *, threshold=0.8, partition_documents=50_000, files=3, name="out"):
        monkeypatch.setattr(pipeline, "PARTITION_DOCUMENTS", partition_documents)
        folder = tmp_path / f"{name}-sources"
        folder.mkdir()
        size = -(-len(documents) // files)
        for number in range(files):
            part = documents[number * size : (number + 1) * size]
            lines = (json.dumps({"id": document.id, "text": document.text}) for document in part)
            (folder / f"{number}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        monkeypatch.setattr("gpt2lab.corpus.sources._GROUP_BYTES", 1)  # a task for each file
        recipe = CorpusRecipe(
            clean=CleanConfig(min_chars=1),
            language=LanguageConfig(english_only=False),
            shards=ShardsConfig(tokenizer=str(made / "vocabulary"), validation_fraction=0.3),
        )
        recipe = replace(recipe, duplicates=replace(recipe.duplicates, near_threshold=threshold))
        manifest = pipeline.build_corpus(
            recipe, [str(folder)], tmp_path / name, runner=Processes(1), memory=1_000_000
        )
        dropped = sorted((tmp_path / name / "stages" / "duplicates").glob("*.parquet"))
        rows = [row for file in dropped for row in read_rows(file, ["id", "reason", "detail"])]
        return rows, manifest["near_duplicates"]

    return run


def _shingles(text):
    found = words(text)
    return {tuple(found[i : i + 5]) for i in range(len(found) - 4)}


def _similarity(first, second):
    a, b = _shingles(first), _shingles(second)
    return len(a & b) / max(len(a | b), 1)


def _many(seed, n=60):
    """Texts with exact copies, light edits, heavy edits and chains of edits among them."""
    source = random.Random(seed)
    texts = []
    for _ in range(n // 4):
        found = ["".join(source.choices("abcdefgh", k=source.randint(2, 7))) for _ in range(90)]
        for edits in (0, 0, 2, 9):
            found = list(found)
            for _ in range(edits):
                found[source.randrange(len(found))] = "edit"
            texts.append(" ".join(found))
    source.shuffle(texts)
    return [Document(f"{source.randrange(10**6):06}-{index}", text, "") for index, text in enumerate(texts)]


def edges_of(out):
    """Every pair that was found near-duplicate, by the documents' numbers."""
    files = sorted((out / "stages" / "pairs").glob("*.parquet"))
    return [row for file in files for row in read_rows(file, ["first", "second"])]


@pytest.mark.parametrize("partition_documents", [50_000, 7])
def test_the_same_documents_survive_as_in_memory(deduplicate, partition_documents):
    documents = _many(1)
    rows, near = deduplicate(documents, partition_documents=partition_documents)
    expected = remove_duplicates(documents, 0.8)
    assert {identity for identity, _, _ in rows} == {dropped.id for dropped in expected.dropped}
    assert {reason for _, reason, _ in rows} == {"exact_duplicate", "near_duplicate"}
    assert near["duplicates"] == sum(reason == "near_duplicate" for _, reason, _ in rows)


def test_partitions_and_files_do_not_change_what_is_said(deduplicate):
    documents = _many(2)
    rows, near = deduplicate(documents, name="one")
    for number, options in enumerate([{"partition_documents": 3}, {"files": 7, "partition_documents": 11}]):
        again, near_again = deduplicate(documents, name=f"other-{number}", **options)
        assert sorted(again) == sorted(rows)
        assert near_again == near


def test_chains_are_reported_and_the_lowest_id_survives(deduplicate):
    source = random.Random(5)
    found = ["".join(source.choices("abcdefgh", k=5)) for _ in range(200)]
    chain = []
    for step in range(4):
        chain.append(" ".join(found))
        found[20 * step + 10] = "edit"
    documents = [Document(name, text, "") for name, text in zip("dcba", chain, strict=True)]
    other = [Document(f"x{i}", " ".join(source.choices("pqrst", k=150)), "") for i in range(20)]
    rows, near = deduplicate([*documents, *other], threshold=0.93)
    assert sorted(identity for identity, _, _ in rows) == ["b", "c", "d"]
    assert all(detail.endswith(" of a") for _, _, detail in rows)
    shown = {identity: float(detail.split()[0]) for identity, _, detail in rows}
    assert shown["b"] >= 0.93 > shown["d"]
    assert shown["d"] == pytest.approx(_similarity(chain[0], chain[3]), abs=0.001)
    assert near["groups"] == 1
    assert near["chained"] == sum(similarity < 0.93 for similarity in shown.values()) > 0
    assert near["least_similarity"] == pytest.approx(min(shown.values()), abs=0.001)
    assert near["group_sizes"] == {"4": 1}


def test_published_near_duplicates(deduplicate, test_data, tmp_path):
    folder = test_data / "web" / "neardup_minhash"
    for size in (100, 1000, 2500):
        lines = (folder / f"articles_{size}.train").read_text(encoding="utf-8").splitlines()
        documents = [Document(*line.split(" ", 1), "") for line in lines]
        truth = [line.split() for line in (folder / f"articles_{size}.truth").read_text().splitlines()]
        texts = {document.id: document.text for document in documents}
        rows, _ = deduplicate(documents, threshold=0.5, name=f"articles-{size}", partition_documents=500)
        found = {frozenset((identity, detail.split(" of ")[-1])) for identity, _, detail in rows}
        alike = [frozenset(pair) for pair in truth if _similarity(*(texts[i] for i in pair)) >= 0.9]
        assert sum(pair in found for pair in alike) >= 0.99 * len(alike)
        assert all(_similarity(*(texts[i] for i in pair)) >= 0.5 for pair in found if len(pair) == 2)
        edges = edges_of(tmp_path / f"articles-{size}")
        assert edges
        assert all(_similarity(documents[a].text, documents[b].text) >= 0.5 for a, b in edges)


def test_planted_edits_of_books(deduplicate, test_data, tmp_path):
    """Pieces of books, and copies with some of their words changed; the truth is the exact similarity."""
    source = random.Random(7)
    books = read_documents([test_data / "text" / "books" / "books-16.jsonl.xz"])
    pieces = []
    for book in books:
        found = book.text.split()
        pieces += [found[start : start + 400] for start in range(0, len(found) - 400, 2_000)]
    source.shuffle(pieces)
    documents, pairs = [], []
    for number, piece in enumerate(pieces[:400]):
        edited = list(piece)
        for place in source.sample(range(len(piece)), source.choice([1, 2, 3, 4, 8, 16, 40])):
            edited[place] = source.choice(piece)
        both = (
            Document(f"{number:04}-a", " ".join(piece), ""),
            Document(f"{number:04}-b", " ".join(edited), ""),
        )
        documents += both
        pairs.append((*both, _similarity(both[0].text, both[1].text)))
    rows, near = deduplicate(documents, threshold=0.5, partition_documents=100)
    gone = {identity: detail for identity, _, detail in rows}
    alike = [second.id for _, second, similarity in pairs if similarity >= 0.9]
    assert len(alike) > 100
    assert sum(identity in gone for identity in alike) >= 0.99 * len(alike)
    similarity_of = {second.id: similarity for _, second, similarity in pairs}
    for identity, _, detail in rows:
        if not detail.endswith("-a") or detail.split()[-1][:4] != identity[:4]:
            continue  # a piece like another piece: books quote
        assert similarity_of[identity] >= 0.5
    assert near["least_similarity"] >= 0.5 or near["chained"]
    edges = edges_of(tmp_path / "out")
    assert len(edges) >= len(alike)
    assert all(_similarity(documents[a].text, documents[b].text) >= 0.5 for a, b in edges)


def test_the_store_forgets_and_reads_again(tmp_path):
    import numpy as np

    from gpt2lab.corpus.near_duplicates import SHINGLES
    from gpt2lab.corpus.parquet_files import RowWriter

    sets = {number: np.arange(number, number + 50, dtype=np.uint64) for number in (4, 7, 9)}
    with RowWriter(tmp_path / "facts", SHINGLES) as writer, (tmp_path / "sets").open("wb") as file:
        for number, members in sets.items():
            writer.write((number, str(number), len(members)))
            file.write(members.tobytes())
    store = ShingleStore([tmp_path / "facts"], [tmp_path / "sets"], np.array([4, 9]), memory=1)
    for number in (9, 4, 9, 4):
        assert (store[number] == sets[number]).all()
    with pytest.raises(KeyError):
        store[7]
