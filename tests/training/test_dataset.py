"""What `--data` may name: shards or texts, on this machine or on the Hub."""

import gzip
import json
from typing import Any

import numpy as np
import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.data import published
from gpt2lab.data.published import PublishedShards
from gpt2lab.data.shards import open_shard
from gpt2lab.training.dataset import open_data
from gpt2lab.training.run import RunFolder


@pytest.fixture
def dataset(hub: Any, sources: Any, monkeypatch: Any) -> Any:
    """The Hub with the shards of `sources` as a published dataset, the training tokens cut into three."""
    hub.kind, hub.repo, hub.licence = "datasets", "someone/tokens", "mit"
    train = open_shard(sources / "shards" / "train_000000.bin").tokens
    header = np.fromfile(sources / "shards" / "train_000000.bin", "<i4", 256)
    hub.files = {"t_val_000000.bin": (sources / "shards" / "val_000000.bin").read_bytes()}
    for number, piece in enumerate(np.array_split(train, 3), 1):
        header[2] = len(piece)
        hub.files[f"t_train_{number:06d}.bin"] = header.tobytes() + piece.tobytes()
    monkeypatch.setattr(published, "WAITS_S", ())
    return hub


def test_a_run_on_published_shards_fetches_as_it_goes_and_resumes_to_the_bit(
    dataset: Any, make_recipe: Any, train_in: Any, timeless: Any, final_bytes: Any, tmp_path: Any, change: Any
) -> None:
    recipe = make_recipe(data__path=dataset.repo)
    whole = train_in(tmp_path / "whole", recipe)
    assert sorted(set(dataset.downloads())) == [
        "t_train_000001.bin",
        "t_train_000002.bin",
        "t_val_000000.bin",
    ]
    short = change(recipe, schedule=change(recipe.schedule, steps=6))
    stopped = RunFolder(tmp_path / "stopped")
    dataset.requests.clear()
    train_in(stopped.path, short)
    assert not dataset.downloads()  # all of it is here by now
    assert timeless(stopped) == timeless(whole)
    assert final_bytes(stopped, 6) == final_bytes(whole, 6)


def test_published_shards_are_announced_with_size_and_licence(
    dataset: Any, make_recipe: Any, tmp_path: Any, capfd: Any
) -> None:
    run = RunFolder.create(tmp_path / "run", make_recipe(data__path=dataset.repo))
    data, tokenizer = open_data(run, run.recipe())
    assert isinstance(data, PublishedShards)
    assert tokenizer is not None
    said = capfd.readouterr().err
    assert "downloading as training goes from" in said
    assert "2 files, " in said  # 6 steps of 64 tokens are in the first
    assert "licence mit" in said
    assert dataset.downloads() == []


def test_a_hub_dataset_of_texts_is_fetched_and_tokenised(
    hub: Any, text: str, make_recipe: Any, train_in: Any, tmp_path: Any
) -> None:
    hub.kind, hub.repo = "datasets", "someone/texts"
    lines = [json.dumps({"text": paragraph}) for paragraph in text.split("\n\n")]
    half = len(lines) // 2
    hub.files = {
        "data/a.jsonl.gz": gzip.compress("\n".join(lines[:half]).encode()),
        "data/b.jsonl": "\n".join(lines[half:]).encode(),
        "other/c.txt": b"never wanted",
        "README.md": b"# not to train on",
    }
    run = train_in(
        tmp_path / "run", make_recipe(data__path=hub.repo, data__files="data/*", schedule__steps=2)
    )
    assert sorted(hub.downloads()) == ["a.jsonl.gz", "b.jsonl"]
    assert run.checkpoint(2).is_dir()
    with pytest.raises(UserError, match=r"none of its 4 files is text to train on and matches '\*\.csv'"):
        train_in(tmp_path / "none", make_recipe(data__path=hub.repo, data__files="*.csv"))


def test_a_parquet_file_is_text_too(text: str, make_recipe: Any, train_in: Any, tmp_path: Any) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"text": text.split("\n\n")}), tmp_path / "some.parquet")
    run = train_in(
        tmp_path / "run", make_recipe(data__path=str(tmp_path / "some.parquet"), schedule__steps=2)
    )
    assert run.checkpoint(2).is_dir()


def test_without_a_vocabulary_one_of_the_models_size_is_learned(
    sources: Any, make_recipe: Any, train_in: Any, tmp_path: Any
) -> None:
    from gpt2lab.checkpoint.huggingface import load

    recipe = make_recipe(
        data__path=str(sources / "text.txt"), data__tokenizer="", model__vocab_size=280, schedule__steps=2
    )
    run = train_in(tmp_path / "run", recipe)
    _, tokenizer = load(run.checkpoint(2))
    assert tokenizer is not None
    assert tokenizer.vocab_size == 280
