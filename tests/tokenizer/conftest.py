"""Tokenizers to test, and what they are tested against."""

import argparse
import inspect
import json
import lzma
import pydoc
import subprocess
import tarfile
import typing
from pathlib import Path

import pytest
import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks

from gpt2lab.tokenizer import ByteLevelTokenizer, WordLevelTokenizer, load_tokenizer, train_bpe

# As in openai/gpt-2, src/encoder.py, word for word.
OPENAI_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


@pytest.fixture(scope="session")
def prose() -> list[str]:
    """Half a megabyte of English and code that every Python has."""
    return [inspect.getsource(module) for module in (argparse, inspect, pydoc, typing, tarfile, subprocess)]


@pytest.fixture(scope="session")
def small(prose: list[str]) -> ByteLevelTokenizer:
    """A vocabulary of 1,000 tokens, trained on `prose`."""
    return train_bpe(prose, 1000)


@pytest.fixture(scope="session")
def gpt2(test_data: Path) -> ByteLevelTokenizer:
    tokenizer = load_tokenizer(test_data / "tokenizer" / "gpt2")
    assert isinstance(tokenizer, ByteLevelTokenizer)
    return tokenizer


@pytest.fixture(scope="session")
def gpt1(test_data: Path) -> WordLevelTokenizer:
    tokenizer = load_tokenizer(test_data / "tokenizer" / "gpt1" / "model")
    assert isinstance(tokenizer, WordLevelTokenizer)
    return tokenizer


@pytest.fixture(scope="session")
def oracle(test_data: Path) -> tiktoken.Encoding:
    """tiktoken, built from OpenAI's files by its own reader, with OpenAI's first spelling of the pattern."""
    folder = test_data / "tokenizer" / "gpt2"
    ranks = data_gym_to_mergeable_bpe_ranks(str(folder / "vocab.bpe"), str(folder / "encoder.json"))
    return tiktoken.Encoding(
        "oracle", pat_str=OPENAI_PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256}
    )


def read_books(test_data: Path, n_bytes: int) -> list[str]:
    """Whole books, until they have `n_bytes` together."""
    books: list[str] = []
    for file in sorted((test_data / "text" / "books").glob("*.jsonl.xz")):
        with lzma.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                books.append(json.loads(line)["text"])
                n_bytes -= len(books[-1].encode())
                if n_bytes <= 0:
                    return books
    return books


@pytest.fixture(scope="session")
def books(test_data: Path) -> list[str]:
    """Five megabytes of English."""
    return read_books(test_data, 5_000_000)
