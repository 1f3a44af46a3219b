"""Datasets: written, opened, published ones without a manifest, and every way in which one does not fit."""

import errno
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import sha256_of
from gpt2lab.data import writer as writer_module
from gpt2lab.data.dataset import TokenDataset
from gpt2lab.data.manifest import load_manifest, verify_files
from gpt2lab.data.shards import HEADER_WORDS, UINT16, write_shard
from gpt2lab.data.writer import write_dataset

DOCUMENTS = st.lists(st.lists(st.integers(0, 999), max_size=30), min_size=1, max_size=20)
FINGERPRINT = "ab" * 32
MakeDataset = Callable[..., TokenDataset]


def write(
    folder: Path, documents: list[list[int]], shard_tokens: int = 16, end_of_text: int | None = 999
) -> Path:
    """A dataset whose every third document is held out; each document's text is 4 bytes a token."""
    with write_dataset(
        folder,
        tokenizer_fingerprint=FINGERPRINT,
        vocab_size=1000,
        end_of_text=end_of_text,
        sources=["a test"],
        shard_tokens=shard_tokens,
    ) as dataset:
        for number, document in enumerate(documents):
            dataset.append("val" if number % 3 == 2 else "train", document, text_bytes=4 * len(document))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "tokens", [list(range(i, i + 10)) for i in range(9)])


def nanogpt(path: Path, tokens: list[int]) -> None:
    path.write_bytes(struct.pack(f"<{len(tokens)}H", *tokens))


def llm_c(path: Path, tokens: list[int]) -> None:
    write_shard(path, np.array(tokens, dtype=np.uint16), UINT16)


@given(documents=DOCUMENTS, shard_tokens=st.integers(1, 50), end_of_text=st.sampled_from([None, 999]))
def test_documents_come_back_in_order_behind_end_of_text(
    documents: list[list[int]],
    shard_tokens: int,
    end_of_text: int | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("dataset")
    prefix = [] if end_of_text is None else [end_of_text]
    expected: dict[str, list[list[int]]] = {"train": [], "val": []}
    for number, document in enumerate(documents):
        expected["val" if number % 3 == 2 else "train"].append(document)
    streams = {split: [t for document in d for t in prefix + document] for split, d in expected.items()}
    if not any(streams.values()):
        with pytest.raises(UserError, match="no text to write"):
            write(folder, documents, shard_tokens, end_of_text)
        return
    write(folder, documents, shard_tokens, end_of_text)
    manifest = load_manifest(folder)
    assert manifest is not None
    for split, stream in streams.items():
        if not stream:
            with pytest.raises(UserError, match=f"no `{split}` shards"):
                TokenDataset.open(folder, split)  # type: ignore[arg-type]
            continue
        dataset = TokenDataset.open(folder, split, verify=True)  # type: ignore[arg-type]
        assert dataset.stream(0, dataset.n_tokens).tolist() == stream
        assert dataset.n_tokens == len(stream)
        assert dataset.documents == len(expected[split])
        assert dataset.text_bytes == 4 * sum(map(len, expected[split]))
        lengths = [len(shard) for shard in dataset.shards]
        assert set(lengths[:-1]) <= {shard_tokens}
        assert 1 <= lengths[-1] <= shard_tokens


def test_the_manifest_tells_all(folder: Path) -> None:
    manifest = load_manifest(folder)
    assert manifest is not None
    assert (manifest.tokenizer_fingerprint, manifest.vocab_size, manifest.end_of_text) == (
        FINGERPRINT,
        1000,
        999,
    )
    assert manifest.sources == ("a test",)
    assert manifest.created_by.startswith("gpt2lab ")
    assert [shard.file for shard in manifest.shards][:2] == ["train_000000.bin", "train_000001.bin"]
    for shard in manifest.shards:
        assert shard.size == (folder / shard.file).stat().st_size == 1024 + 2 * shard.tokens
        assert shard.sha256 == sha256_of(folder / shard.file)
    assert {path.name for path in folder.iterdir()} == {s.file for s in manifest.shards} | {"manifest.json"}


def test_a_large_vocabulary_takes_four_bytes_a_token(tmp_path: Path) -> None:
    with write_dataset(
        tmp_path / "big", tokenizer_fingerprint="", vocab_size=128_256, end_of_text=128_000, sources=[]
    ) as writer:
        writer.append("train", np.array([100_000, 3], dtype=np.uint32), text_bytes=9)
    dataset = TokenDataset.open(tmp_path / "big", "train")
    assert dataset.shards[0].kind.name == "llm.c uint32"
    assert dataset.stream(0, 9).tolist() == [128_000, 100_000, 3]


@pytest.mark.parametrize("token", [1000, -1])
def test_a_token_outside_the_vocabulary_is_not_written(tmp_path: Path, token: int) -> None:
    with pytest.raises(UserError, match=f"token {token} does not belong to a vocabulary of 1,000") as caught:
        write(tmp_path / "tokens", [[1, 2], [3, token]])
    assert caught.value.where == "document 1 of train"
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_dataset_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with write_dataset(
            tmp_path / "tokens",
            tokenizer_fingerprint="",
            vocab_size=9,
            end_of_text=0,
            sources=[],
            shard_tokens=2,
        ) as writer:
            writer.append("train", [1] * 20, text_bytes=20)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer_module, "write_shard", full)
    with pytest.raises(UserError, match="the disk is full"):
        write(tmp_path / "tokens", [[1, 2, 3]])
    assert list(tmp_path.iterdir()) == []


def test_never_overwrites(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="something here already"):
        write(folder, [[1]])
    assert TokenDataset.open(folder, "train", verify=True).n_tokens == 66
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="something here already"):
        write(tmp_path / "file", [[1]])


def test_published_fineweb_folder(tmp_path: Path) -> None:
    for number in (2, 1, 10):
        llm_c(tmp_path / f"edu_fineweb_train_{number:06d}.bin", [number] * 5)
    llm_c(tmp_path / "edu_fineweb_val_000000.bin", [7] * 4)
    train = TokenDataset.open(tmp_path, "train", vocab_size=50257)
    assert train.stream(0, 99).tolist() == [1] * 5 + [2] * 5 + [10] * 5
    assert TokenDataset.open(tmp_path, "val").n_tokens == 4
    assert (train.documents, train.text_bytes, train.manifest) == (None, None, None)


def test_published_nanogpt_folder(tmp_path: Path) -> None:
    nanogpt(tmp_path / "train.bin", [50256, 11, 13] * 50)
    nanogpt(tmp_path / "val.bin", [50256, 198])
    assert TokenDataset.open(tmp_path, "train", vocab_size=50257).n_tokens == 150
    assert TokenDataset.open(tmp_path, "val").stream(0, 2).tolist() == [50256, 198]


@pytest.mark.parametrize(
    ("name", "split"),
    [("TinyStories_val.bin", "val"), ("train-00001.bin", "train"), ("wiki.train.bin", "train")],
)
def test_split_in_a_published_name(tmp_path: Path, name: str, split: str) -> None:
    llm_c(tmp_path / name, [1, 2])
    llm_c(tmp_path / "intervals_000000.bin", [1])  # neither, though it contains "val"
    assert len(TokenDataset.open(tmp_path, split).shards) == 1  # type: ignore[arg-type]


def test_names_without_a_split(tmp_path: Path) -> None:
    llm_c(tmp_path / "fineweb_000000.bin", [1, 2])
    with pytest.raises(
        UserError, match=r"no `train` shards in this folder: its 1 \.bin files are fineweb_000000"
    ):
        TokenDataset.open(tmp_path, "train")


def test_wrong_places(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        TokenDataset.open(tmp_path / "nothing", "train")
    with pytest.raises(UserError, match="this is a file") as caught:
        TokenDataset.open(folder / "train_000000.bin", "train")
    assert str(folder) in caught.value.fix
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"it has no \.bin files"):
        TokenDataset.open(tmp_path / "empty", "val")


def test_another_vocabulary(folder: Path) -> None:
    TokenDataset.open(
        folder, "train", vocab_size=1024, tokenizer_fingerprint=FINGERPRINT
    )  # padded rows are fine
    with pytest.raises(UserError, match="written with 1,000 tokens and the model has 999"):
        TokenDataset.open(folder, "train", vocab_size=999)
    with pytest.raises(UserError, match="written with tokenizer abababababab and this one is cdcdcdcdcdcd"):
        TokenDataset.open(folder, "train", vocab_size=1000, tokenizer_fingerprint="cd" * 32)


def test_another_vocabulary_without_a_manifest(tmp_path: Path) -> None:
    nanogpt(tmp_path / "train.bin", [1] * 100_000 + [5000] * 20)
    nanogpt(tmp_path / "val.bin", [5000])
    with pytest.raises(UserError, match="holds token 5,000 and the model has 2,048"):
        TokenDataset.open(tmp_path, "val", vocab_size=2048)
    late = TokenDataset.open(tmp_path, "train", vocab_size=2048)  # past the sample: found when it is read
    assert late.windows(np.array([0]), 10).max() == 1
    with pytest.raises(UserError, match="holds token 5,000 and the model has 2,048"):
        late.windows(np.array([3, 10_000]), 10)
    with pytest.raises(UserError, match="holds token 5,000 and the model has 2,048"):
        late.stream(99_990, 100_005)
    assert TokenDataset.open(tmp_path, "train").windows(np.array([10_000]), 8).max() == 1


def test_damage_is_found_at_opening(folder: Path) -> None:
    path = folder / "train_000001.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(UserError, match="cut short: the manifest says 1,056 bytes and the file has 1,049"):
        TokenDataset.open(folder, "train")
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    TokenDataset.open(folder, "train")
    with pytest.raises(UserError, match="altered") as caught:
        TokenDataset.open(folder, "train", verify=True)
    assert caught.value.where == str(path)
    TokenDataset.open(folder, "val", verify=True)  # untouched
    manifest = load_manifest(folder)
    assert manifest is not None
    path.unlink()
    with pytest.raises(UserError, match="it is not there"):
        verify_files(folder, manifest.shards, checksums=False)


def test_a_damaged_header_under_a_manifest(folder: Path) -> None:
    path = folder / "train_000000.bin"
    content = bytearray(path.read_bytes())
    content[8:12] = struct.pack("<i", 12)
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="promises 12 tokens"):
        TokenDataset.open(folder, "train")


def test_verify_needs_a_manifest(tmp_path: Path) -> None:
    nanogpt(tmp_path / "train.bin", [1, 2])
    with pytest.raises(UserError, match="no checksums"):
        TokenDataset.open(tmp_path, "train", verify=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "manifest format 2"),
        ({"vocab_size": "1000"}, "`vocab_size` should be int and it is '1000'"),
        ({"vocab_size": True}, "`vocab_size` should be int and it is True"),
        ({"end_of_text": 1.5}, "`end_of_text` should be int or null"),
        ({"shards": [{"file": "a.bin"}]}, r"`shards\[0\].split` should be str and it is missing"),
        ({"shards": [7]}, r"`shards\[0\].file` should be str and it is missing"),
        ({"splits": {"train": {"documents": 1}}}, r"`splits.train.tokens` should be int and it is missing"),
        ({"splits": {}}, "add up to 66 tokens and the manifest states 0"),
        (
            {"shards": [{"file": "../a.bin", "split": "train", "tokens": 1, "size": 1, "sha256": ""}]},
            "plain file name",
        ),
    ],
)
def test_a_bad_manifest_names_the_field(folder: Path, change: dict[str, object], message: str) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message) as caught:
        TokenDataset.open(folder, "train")
    assert caught.value.where == str(path)


def test_a_manifest_that_is_not_an_object(folder: Path) -> None:
    (folder / "manifest.json").write_text("[1]")
    with pytest.raises(UserError, match="`format_version` should be int and it is missing"):
        TokenDataset.open(folder, "train")


def test_fingerprint_follows_the_data(folder: Path, tmp_path: Path) -> None:
    same = write(tmp_path / "same", [list(range(i, i + 10)) for i in range(9)])
    other = write(tmp_path / "other", [list(range(i, i + 10)) for i in range(8)] + [[1] * 10])
    assert TokenDataset.open(folder, "val").fingerprint == TokenDataset.open(same, "val").fingerprint
    assert TokenDataset.open(folder, "val").fingerprint != TokenDataset.open(other, "val").fingerprint


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6), context_length=st.integers(1, 20))
def test_windows_tile_each_shard_and_never_leave_it(
    lengths: list[int], context_length: int, numbered: MakeDataset
) -> None:
    dataset = numbered(lengths)
    expected = []
    first = 0
    for length in lengths:  # token i is i, so a window is a range
        expected += [
            list(range(start, start + context_length + 1))
            for start in range(first, first + length - context_length, context_length)
        ]
        first += length
    assert dataset.n_windows(context_length) == len(expected)
    assert dataset.windows(np.arange(len(expected)), context_length).tolist() == expected
    backwards = np.arange(len(expected))[::-1]
    assert dataset.windows(backwards, context_length).tolist() == expected[::-1]


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    start=st.integers(0, 60),
    count=st.integers(0, 60),
)
def test_stream_is_the_shards_end_to_end(
    lengths: list[int], start: int, count: int, numbered: MakeDataset
) -> None:
    expected = list(range(sum(lengths)))[start : start + count]
    assert numbered(lengths).stream(start, start + count).tolist() == expected


def test_header_is_256_words() -> None:
    assert HEADER_WORDS == 256
