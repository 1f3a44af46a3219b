"""Published shards: fetched as they are read, in an order that the step number alone decides."""

import io
from typing import Any

import numpy as np
import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.base.hub_dataset import HubDataset
from gpt2lab.data import published
from gpt2lab.data.evaluation_windows import sequential_windows
from gpt2lab.data.loader import BatchLoader
from gpt2lab.data.published import PublishedShards
from gpt2lab.data.shards import HEADER_WORDS

LENGTHS = (101, 70, 9, 141)  # tokens; the third has no window of ten
CONTEXT = 10


def shard(first: int, n_tokens: int, magic: int = 20240520) -> bytes:
    header = np.zeros(HEADER_WORDS, "<i4")
    header[:3] = magic, 1, n_tokens
    file = io.BytesIO()
    file.write(header.tobytes())
    file.write(np.arange(first, first + n_tokens, dtype="<u2").tobytes())
    return file.getvalue()


@pytest.fixture
def tokens(hub: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server with four training shards, whose tokens are numbered through, and one held out."""
    hub.kind, hub.repo = "datasets", "someone/tokens"
    firsts = np.cumsum((0, *LENGTHS))
    hub.files = {
        f"some_train_{number:06d}.bin": shard(int(first), length)
        for number, (first, length) in enumerate(zip(firsts, LENGTHS, strict=False), 1)
    }
    hub.files |= {"some_val_000000.bin": shard(0, 60), "README.md": b"tokens"}
    monkeypatch.setattr(published, "WAITS_S", ())
    return hub


def loader_of(tokens: Any, batch: int = 4) -> BatchLoader:
    dataset = PublishedShards(HubDataset.open(tokens.repo)).open("train", 500)
    return BatchLoader(dataset, CONTEXT, batch, seed=3)


def settle(loader: BatchLoader) -> None:
    """Wait for what is being fetched in the background."""
    for one in loader.dataset.shards:
        if one._coming:  # type: ignore[attr-defined]
            one._coming.join()  # type: ignore[attr-defined]


def test_every_window_once_an_epoch_shard_after_shard_and_each_epoch_in_another_order(tokens: Any) -> None:
    loader = loader_of(tokens, batch=30)
    sizes = [10, 6, 0, 14]
    assert loader.n_windows == sum(sizes)
    orders = [loader.window_indices(epoch).tolist() for epoch in range(3)]
    for order in orders:
        start = 0
        for size in sizes:
            assert sorted(order[start : start + size]) == list(range(start, start + size))
            start += size
        assert order != sorted(order)
    assert len({tuple(order) for order in orders}) == 3
    assert tokens.downloads() == []  # the order is known before anything is here


def test_batches_are_those_of_all_shards_at_hand_and_nothing_is_fetched_early(tokens: Any) -> None:
    loader = loader_of(tokens)
    seen: list[list[str]] = []
    for step in range(8):
        rows = [
            [*inputs.tolist(), targets.tolist()[-1]]
            for inputs_BT, targets_BT in loader.micro_batches(step, 2)
            for inputs, targets in zip(inputs_BT, targets_BT, strict=True)
        ]
        where = [(index, (index >= 10) + (index >= 16)) for index in loader.window_indices(step).tolist()]
        firsts = [(0, 101, 180)[number] + CONTEXT * (index - (0, 10, 16)[number]) for index, number in where]
        assert rows == [list(range(first, first + CONTEXT + 1)) for first in firsts]
        settle(loader)
        seen.append(tokens.downloads())
    one, two, three, four = (f"some_train_{number:06d}.bin" for number in range(1, 5))
    assert seen[0] == seen[1] == [one, two]  # ten windows in the first shard, the second came in advance
    assert seen[2] == [one, two, three]
    assert sorted(seen[-1]) == [one, two, three, four]  # each once


def test_only_a_shard_or_two_are_mapped_at_a_time(tokens: Any) -> None:
    loader = loader_of(tokens)
    for step in range(16):
        list(loader.micro_batches(step, 4))
        mapped = [one for one in loader.dataset.shards if one._tokens is not None]  # type: ignore[attr-defined]
        assert 1 <= len(mapped) <= 2


def test_validation_reads_the_held_out_shard_only(tokens: Any) -> None:
    dataset = PublishedShards(HubDataset.open(tokens.repo)).open("val", None)
    batches = list(sequential_windows(dataset, CONTEXT, 2, 40))
    assert batches[0][0][0].tolist() == list(range(CONTEXT))
    assert tokens.downloads() == ["some_val_000000.bin"]


def test_the_fingerprint_is_the_files_and_fetches_none(tokens: Any) -> None:
    hub = HubDataset.open(tokens.repo)
    names = {split: PublishedShards(hub).open(split, None).fingerprint for split in ("train", "val")}
    assert len(set(names.values())) == 2
    assert PublishedShards(HubDataset.open(tokens.repo)).open("train", None).fingerprint == names["train"]
    assert tokens.downloads() == []


def test_a_network_that_fails_is_tried_again_then_named(
    tokens: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    loader = loader_of(tokens)
    from huggingface_hub import constants

    monkeypatch.setattr(published, "WAITS_S", (0.0, 0.0))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="Go online and run the same command again"):
        list(loader.micro_batches(0, 4))
    assert capfd.readouterr().err.count("trying again in 0 s") == 2
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert len(list(loader.micro_batches(0, 4))) == 1


@pytest.mark.parametrize("content", [shard(0, 101, magic=20240801), b"x" * 1201, b"x" * 100])
def test_another_kind_of_file_is_refused(tokens: Any, content: bytes) -> None:
    tokens.files["some_train_000001.bin"] = content
    with pytest.raises(UserError, match=r"some_train_000001\.bin"):
        list(loader_of(tokens).micro_batches(0, 4))


def test_no_such_split(tokens: Any) -> None:
    del tokens.files["some_val_000000.bin"]
    with pytest.raises(UserError, match="no `val` shards in this dataset"):
        PublishedShards(HubDataset.open(tokens.repo)).open("val", None)


def test_a_run_is_told_of_the_shards_it_will_read_and_no_more(tokens: Any, capfd: Any) -> None:
    shards = PublishedShards(HubDataset.open(tokens.repo))
    capfd.readouterr()
    shards.announce(150)
    assert "3 files, " in capfd.readouterr().err  # two to train on, and the one held out
    shards.announce(10**9)
    assert "5 files, " in capfd.readouterr().err
