"""Token shards: the three kinds, byte for byte, and every way in which one can be bad."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from gpt2lab.base.errors import UserError
from gpt2lab.data.shards import HEADERLESS, UINT16, UINT32, kind_for, open_shard, write_shard

SENTENCE = [50256, 464, 2068, 7586, 21831, 18045, 625, 262, 16931, 3290, 13, 198] * 20


def llm_c_bytes(magic: int, version: int, tokens: list[int], code: str, count: int | None = None) -> bytes:
    """The file as llm.c's data_common.py lays it out, written independently with struct."""
    header = [magic, version, len(tokens) if count is None else count] + [0] * 253
    return struct.pack("<256i", *header) + struct.pack(f"<{len(tokens)}{code}", *tokens)


def nanogpt_bytes(tokens: list[int]) -> bytes:
    return struct.pack(f"<{len(tokens)}H", *tokens)


def test_reads_the_three_published_kinds(tmp_path: Path) -> None:
    files = {
        "fineweb_train_000001.bin": (llm_c_bytes(20240520, 1, SENTENCE, "H"), UINT16, SENTENCE),
        "llama3_val_000000.bin": (
            llm_c_bytes(20240801, 7, [128000, 5, 70000], "I"),
            UINT32,
            [128000, 5, 70000],
        ),
        "train.bin": (nanogpt_bytes(SENTENCE), HEADERLESS, SENTENCE),
        "val.bin": (nanogpt_bytes([7]), HEADERLESS, [7]),
    }
    for name, (content, kind, tokens) in files.items():
        (tmp_path / name).write_bytes(content)
        shard = open_shard(tmp_path / name)
        assert shard.kind is kind
        assert shard.tokens.tolist() == tokens
        assert len(shard) == len(tokens)
        assert not shard.tokens.flags.writeable


@given(
    tokens=st.one_of(
        st_numpy.arrays(np.uint16, st.integers(1, 300)), st_numpy.arrays(np.uint32, st.integers(1, 300))
    )
)
def test_what_is_written_is_llm_c_and_reads_back(
    tokens: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("shard") / "train_000000.bin"
    kind, code = (UINT16, "H") if tokens.dtype == np.uint16 else (UINT32, "I")
    write_shard(path, tokens, kind)
    assert path.read_bytes() == llm_c_bytes(kind.magic or 0, kind.version or 0, tokens.tolist(), code)
    shard = open_shard(path)
    assert shard.kind is kind
    assert shard.tokens.tolist() == tokens.tolist()


def test_two_bytes_a_token_where_they_suffice() -> None:
    assert kind_for(2**16) is UINT16
    assert kind_for(2**16 + 1) is UINT32


GOOD = llm_c_bytes(20240520, 1, SENTENCE, "H")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_000000.bin", b"", "empty"),
        ("train_000000.bin", llm_c_bytes(20240520, 1, [], "H"), "no tokens"),
        ("train_000000.bin", GOOD[:500], "cut short inside its header: 500 bytes of 1,024"),
        ("train_000000.bin", GOOD[:-100], "promises 240 tokens .1,504 bytes. and the file holds 190 .1,404"),
        ("train_000000.bin", GOOD[:-1], "promises 240 tokens .1,504 bytes. and the file holds 239 .1,503"),
        ("train_000000.bin", GOOD + b"x", "damaged: .* the file holds 240 .1,505 bytes"),
        ("train_000000.bin", GOOD + b"xx", "promises 240 tokens .1,504 bytes. and the file holds 241"),
        ("train_000000.bin", llm_c_bytes(20240520, 1, SENTENCE, "H", count=-5), "promises -5 tokens"),
        ("train_000000.bin", llm_c_bytes(20240520, 2, SENTENCE, "H"), "shard version 2"),
        ("train_000000.bin", llm_c_bytes(20240521, 1, SENTENCE, "H"), "not a token shard: .* 20240521"),
        ("TinyStories_train.bin", llm_c_bytes(20240521, 1, SENTENCE, "H"), "header is damaged"),
        (
            "hellaswag_val.bin",
            llm_c_bytes(20240522, 1, SENTENCE, "H"),
            "multiple-choice evaluation set of llm.c",
        ),
        ("gpt2_124M.bin", llm_c_bytes(20240326, 3, SENTENCE, "H"), "model weights of llm.c"),
        ("owt.bin", nanogpt_bytes(SENTENCE), "end in train.bin or val.bin"),
        ("train.bin", nanogpt_bytes(SENTENCE)[:-1], "479 bytes are not a whole number"),
        ("train.bin", "It was the café’s first day. ".encode() * 60, "looks like text"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        open_shard(path)
    assert caught.value.where == str(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such token shard"):
        open_shard(tmp_path / "train.bin")
    with pytest.raises(UserError, match="this is a folder"):
        open_shard(tmp_path)


def test_character_level_nanogpt_data_is_not_taken_for_gpt2_tokens(tmp_path: Path) -> None:
    (tmp_path / "train.bin").write_bytes(nanogpt_bytes([18, 47, 56, 57, 58] * 100))
    (tmp_path / "meta.pkl").write_bytes(b"")
    with pytest.raises(UserError, match=r"meta\.pkl"):
        open_shard(tmp_path / "train.bin")
