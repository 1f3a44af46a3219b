"""A corpus from its sources to its shards: what is in it, what is done again, what survives a kill."""

import gzip
import importlib.util
import json
import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import sha256_of
from gpt2lab.corpus import documents as documents_module
from gpt2lab.corpus.clean import normalise_text
from gpt2lab.corpus.documents import Document, read_documents
from gpt2lab.corpus.funnel import as_rows, funnel_text
from gpt2lab.corpus.parquet_files import read_rows
from gpt2lab.corpus.pipeline import build_corpus
from gpt2lab.corpus.recipe import CorpusRecipe, ShardsConfig, corpus_recipe_names, load_corpus_recipe
from gpt2lab.corpus.workers import Processes
from gpt2lab.data.dataset import TokenDataset
from gpt2lab.data.split import SPLITS, split_of
from gpt2lab.tokenizer import load_tokenizer

ENGLISH = (
    "The dog that was seen by the old man on the hill had not been there for {} days, and all of it was"
    " the fault of the neighbour, who had promised to look after it when they were away in {}. "
)
FRENCH = "Le chien que le vieil homme avait vu sur la colline n'était pas là depuis {} jours, disait {}. "


@pytest.fixture
def sources(tmp_path):
    """A folder of texts as people have them, with everything wrong that can be."""
    rng = random.Random(0)
    folder = tmp_path / "sources"
    folder.mkdir()
    names = ["".join(rng.choices("abcdefghijklmnop", k=7)) for _ in range(400)]
    pages = [
        "".join(ENGLISH.format(rng.choice(names), rng.choice(names)) for _ in range(6)) for _ in range(60)
    ]
    records = [{"id": f"https://a.example/{i}", "text": page} for i, page in enumerate(pages[:40])]
    records.append({"id": "https://b.example/copy", "text": pages[3].upper() + "!"})
    records.append({"id": "french", "text": "".join(FRENCH.format(i, names[i]) for i in range(9))})
    records.append({"id": "long", "text": "the end of it " * 9_000})
    lines = [json.dumps(record) for record in records]
    (folder / "pages.jsonl").write_text("\n".join([*lines, '{"text": ', '{"body": "x"}', ""]))
    again = [json.dumps({"id": f"z{i}", "text": pages[i]}) for i in range(3)]
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress("\n".join(again).encode(), mtime=0)[:-30])
    (folder / "latin1.txt").write_bytes("café".encode("latin-1"))
    for i, page in enumerate(pages[40:]):
        (folder / f"{i:02}.txt").write_text(page)
    (folder / "short.txt").write_text("Hi")
    return folder


@pytest.fixture
def recipe(made):
    recipe = load_corpus_recipe("webtext")
    recipe = replace(recipe, read=replace(recipe.read, max_bytes=100_000))
    return replace(recipe, shards=ShardsConfig(str(made / "vocabulary"), 0.2, 3_000))


def build(recipe, sources, out, workers=1):
    """The manifest of a corpus that is built, or built on."""
    with Processes(workers) as runner:
        return build_corpus(recipe, [str(sources)], out, runner=runner, memory=10**8)


def log_of(out):
    """How many tasks each stage has done so far."""
    lines = (out / "stages" / "log.jsonl").read_text().splitlines()
    return Counter(json.loads(line)["stage"] for line in lines)


def dropped(out):
    """Reason and id of everything that was dropped, from the files themselves."""
    files = sorted(out.glob("stages/*/*.dropped.parquet"))
    return {(reason, identity) for file in files for reason, identity in read_rows(file, ["reason", "id"])}


def documents_in(folder, split, tokenizer):
    tokens = np.concatenate([shard.tokens for shard in TokenDataset.open(folder, split).shards])
    starts = np.flatnonzero(tokens == tokenizer.end_of_text)
    return [tokenizer.decode(part[1:]) for part in np.split(tokens, starts[1:])]


def test_from_sources_to_shards(recipe, sources, tmp_path):
    manifest = build(recipe, sources, tmp_path / "out")
    went = dropped(tmp_path / "out")
    assert ("exact_duplicate", "https://b.example/copy") in went
    assert ("not_english", "french") in went
    assert ("too_large", "long") in went
    assert ("too_short", "short.txt") in went
    assert sum(reason == "unreadable" for reason, _ in went) == 4  # two lines, two files

    tokenizer = load_tokenizer(tmp_path / "out" / "shards" / "tokenizer")
    kept = [
        Document(*row)
        for file in sorted((tmp_path / "out" / "stages" / "filter").glob("?????.parquet"))
        for row in read_rows(file, ["id", "text", "source"])
        if ("exact_duplicate", row[0]) not in went
    ]
    assert len(kept) == 60
    for split in SPLITS:
        expected = [document.text for document in kept if split_of(document.id, 0.2) == split]
        assert documents_in(tmp_path / "out" / "shards", split, tokenizer) == expected
        assert manifest["splits"][split]["documents"] == len(expected)
    assert len([shard for shard in manifest["shards"] if shard["split"] == "train"]) > 1


def test_the_manifest_leads_from_source_to_shard(recipe, sources, tmp_path):
    manifest = build(recipe, sources, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == json.loads(json.dumps(manifest))
    assert {entry["sha256"] for entry in manifest["sources"]} == {sha256_of(f) for f in sources.iterdir()}
    for shard in manifest["shards"]:
        assert sha256_of(tmp_path / "out" / "shards" / shard["file"]) == shard["sha256"]
    rows = as_rows(manifest["funnel"])
    assert [row.step for row in rows] == ["sources", "read", "clean", "language", "duplicates"]
    for before, row in zip(rows, rows[1:], strict=False):
        assert before.documents == row.documents + sum(documents for documents, _ in row.dropped.values())
    assert rows[-1].documents == sum(manifest["splits"][split]["documents"] for split in SPLITS)
    text = funnel_text(rows, manifest["splits"])
    assert "  - exact_duplicate" in text
    assert max(map(len, text.splitlines())) <= 80


def test_documents_that_quote_an_evaluation_set_are_dropped(recipe, sources, tmp_path):
    quoted = " ".join((sources / "07.txt").read_text().split()[5:40])
    (tmp_path / "evaluation.jsonl").write_text(json.dumps({"asked": [f"Before. {quoted} After."]}) + "\n")
    own = replace(recipe.decontaminate, against=(str(tmp_path / "evaluation.jsonl"),), min_words=30)
    manifest = build(replace(recipe, decontaminate=own), sources, tmp_path / "out")
    assert ("contaminated", "07.txt") in dropped(tmp_path / "out")
    row = as_rows(manifest["funnel"])[-1]
    assert row.step == "decontaminate"
    assert row.dropped["contaminated"][0] == 1
    assert row.documents == sum(manifest["splits"][split]["documents"] for split in SPLITS)


def test_a_second_run_does_nothing(recipe, sources, tmp_path):
    first = build(recipe, sources, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")}
    done = log_of(tmp_path / "out")
    assert build(recipe, sources, tmp_path / "out") == first
    assert log_of(tmp_path / "out") == done
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")} == before


@pytest.mark.parametrize(
    ("table", "changes", "again"),
    [
        ("shards", {"validation_fraction": 0.4}, {"tokens", "shards"}),
        ("shards", {"shard_tokens": 2_000}, {"shards"}),
        (
            "duplicates",
            {"near_threshold": 0.9},
            {"pairs", "near"},
        ),  # which find the same, and no more is done
        ("quality", {"rules": "c4"}, {"filter"}),  # drops nothing here
        ("read", {"max_bytes": 90_000}, {"read"}),
    ],
)
def test_a_changed_parameter_does_again_only_what_depends_on_it(
    recipe, sources, tmp_path, table, changes, again
):
    build(recipe, sources, tmp_path / "out")
    before = log_of(tmp_path / "out")
    changed = replace(recipe, **{table: replace(getattr(recipe, table), **changes)})
    build(changed, sources, tmp_path / "out")
    assert set(log_of(tmp_path / "out") - before) == again
    fresh = build(changed, sources, tmp_path / "fresh")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == json.loads(json.dumps(fresh))
    assert shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "fresh")


def shard_bytes(out):
    return {path.name: path.read_bytes() for path in (out / "shards").rglob("*") if path.is_file()}


def test_two_processes_write_what_one_writes(recipe, sources, tmp_path):
    build(recipe, sources, tmp_path / "one")
    build(recipe, sources, tmp_path / "two", workers=2)
    kills = kills_module()
    assert kills.contents(tmp_path / "one") == kills.contents(tmp_path / "two")


def test_a_new_source_file_does_again_only_what_it_touches(recipe, sources, tmp_path):
    build(recipe, sources, tmp_path / "out")
    before = log_of(tmp_path / "out")
    (sources / "zz.txt").write_text((sources / "00.txt").read_text().replace("dog", "cat"))
    build(recipe, sources, tmp_path / "out")
    more = log_of(tmp_path / "out") - before
    assert more["read"] <= 2
    assert more["filter"] <= 2
    assert more["tokens"] <= 2


def test_the_split_of_a_document_never_moves(recipe, sources, tmp_path):
    build(recipe, sources, tmp_path / "all")
    for name in ("05.txt", "11.txt", "12.txt"):
        (sources / name).unlink()
    build(recipe, sources, tmp_path / "fewer")
    texts = {
        (out, split): set(
            documents_in(tmp_path / out / "shards", split, load_tokenizer(tmp_path / out / "tokenizer"))
        )
        for out in ("all", "fewer")
        for split in SPLITS
    }
    assert not texts["all", "train"] & texts["fewer", "val"]
    assert not texts["all", "val"] & texts["fewer", "train"]
    assert texts["all", "val"] & texts["fewer", "val"]


def test_shards_that_train(recipe, sources, tmp_path, tiny_recipe, monkeypatch):
    from gpt2lab.cli.main import main

    build(recipe, sources, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(tiny_recipe)
    assert main(["train", "tiny.toml", "--data.path", "out/shards", "--out", "run"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2, 3, 4]


@pytest.mark.slow
def test_the_books(recipe, test_data, tmp_path):
    books = test_data / "text" / "books" / "books-16.jsonl.xz"
    shards = replace(recipe.shards, tokenizer=str(test_data / "tokenizer" / "gpt2"), validation_fraction=0.3)
    books_recipe = replace(load_corpus_recipe("books"), shards=shards)
    build(books_recipe, books, tmp_path / "out", workers=2)
    tokenizer = load_tokenizer(tmp_path / "out" / "tokenizer")
    texts = [text for split in SPLITS for text in documents_in(tmp_path / "out" / "shards", split, tokenizer)]
    assert set(texts) == {normalise_text(document.text) for document in read_documents([books])}


@pytest.mark.slow
def test_the_documentation_of_python(made, tmp_path):
    recipe = load_corpus_recipe("python-docs")
    recipe = replace(recipe, shards=replace(recipe.shards, tokenizer=str(made / "vocabulary")))
    manifest = build_corpus(recipe, [], tmp_path / "out", runner=Processes(1), memory=10**8)
    rows = {row.step: row for row in as_rows(manifest["funnel"])}
    assert rows["clean"].parts["code"][0] > 100
    assert rows["duplicates"].documents > 500
    with pytest.raises(UserError, match="this recipe reads no files"):
        build_corpus(recipe, [str(tmp_path)], tmp_path / "other", runner=Processes(1), memory=10**8)


def test_every_shipped_recipe_is_sound():
    assert {"webtext", "fineweb", "books", "python-docs"} <= set(corpus_recipe_names())
    for name in corpus_recipe_names():
        assert load_corpus_recipe(name).summary


def test_nothing_left_is_an_error_that_says_where_to_look(recipe, tmp_path):
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "a.txt").write_text("Too short.")
    with pytest.raises(UserError, match=r"no document is left.*dropped\.parquet"):
        build(recipe, tmp_path / "sources", tmp_path / "out")
    assert ("too_short", "a.txt") in dropped(tmp_path / "out")
    (tmp_path / "sources" / "a.txt").write_text(ENGLISH.format(3, "May") * 3)
    with pytest.raises(UserError, match="fell into the 'val' split"):
        build(recipe, tmp_path / "sources", tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(recipe, sources, tmp_path, monkeypatch):
    def with_free(n_bytes):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, n_bytes))

    with_free(10_000)
    with pytest.raises(UserError, match="this corpus needs 0 MB and the disk has 0 MB free"):
        build(recipe, sources, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with_free(10**9)
    build(recipe, sources, tmp_path / "out")
    written = sum(file.stat().st_size for file in (tmp_path / "out" / "stages").rglob("*") if file.is_file())
    with_free(2 * sum(file.stat().st_size for file in sources.iterdir()) - written)
    build(recipe, sources, tmp_path / "out")  # what is there already needs no more space


def test_one_builder_at_a_time(recipe, sources, tmp_path):
    from gpt2lab.corpus.pipeline import _only_builder

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "corpus.toml").touch()
    with _only_builder(tmp_path / "out"), pytest.raises(UserError, match="another process is building here"):
        build(recipe, sources, tmp_path / "out")


def kills_module():
    """benchmarks/corpus_kills.py, which does the same with more kills."""
    path = Path(documents_module.__file__).parents[3] / "benchmarks" / "corpus_kills.py"
    if not path.exists():
        pytest.skip("the benchmarks are not beside the package")
    spec = importlib.util.spec_from_file_location("corpus_kills", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_killed_at_random_moments_the_result_is_the_same(tmp_path):
    kills = kills_module()
    kills.write_sources(tmp_path, 300)
    assert kills.torture(tmp_path, 2, random.Random(1))["identical"]


def test_ctrl_c_ends_all_and_loses_nothing_that_is_done(tmp_path):
    kills = kills_module()
    kills.write_sources(tmp_path, 1500)  # seconds of work are left when the signal comes
    process = kills.start(tmp_path, tmp_path / "out")
    log = tmp_path / "out" / "stages" / "log.jsonl"
    while not (log.exists() and log.read_text().count("\n") > 2):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert errors.decode().splitlines()[-1] == "gpt2lab: interrupted"
    before = log.read_text()
    kills.finish(kills.start(tmp_path, tmp_path / "out"))
    assert log.read_text().startswith(before)
    kills.finish(kills.start(tmp_path, tmp_path / "alone"))
    assert kills.contents(tmp_path / "out") == kills.contents(tmp_path / "alone")


def test_recipes_refuse_what_cannot_be():
    for table, field, value in [
        ("read", "max_bytes", 0),
        ("clean", "min_letters", 1.5),
        ("duplicates", "near_threshold", -0.1),
        ("shards", "validation_fraction", 1.0),
        ("shards", "shard_tokens", 0),
    ]:
        part = replace(getattr(CorpusRecipe(), table), **{field: value})
        with pytest.raises(UserError, match=rf"{table}\.{field} is"):
            replace(CorpusRecipe(), **{table: part})
