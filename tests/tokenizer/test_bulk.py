"""Bulk encoding: the fast library is exact, and what is not is not used."""

import sys
import warnings
from types import SimpleNamespace

import fastokens
import numpy as np
import pytest
import tiktoken

from gpt2lab.tokenizer import ByteLevelTokenizer

from .strings import random_strings


def fresh(tokenizer: ByteLevelTokenizer) -> ByteLevelTokenizer:
    return ByteLevelTokenizer(tokenizer.vocabulary)


TEXTS = ["It's a text.", "", "and another\n\n  \ud800 one ", "x" * 3_000_000]


def test_the_fast_encoder_is_taken_silently(small: ByteLevelTokenizer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh(small).encode_batch(TEXTS)


@pytest.mark.parametrize("broken", ["missing", "refusing", "wrong", "wrong on one character"])
def test_falls_back_to_tiktoken_and_says_why_once(
    small: ByteLevelTokenizer, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    real = fastokens.Tokenizer

    class Fake:
        @staticmethod
        def from_json_str(json: str) -> object:
            if broken == "refusing":
                raise ValueError("no")
            engine = real.from_json_str(json)

            def encode(texts: list[str]) -> tuple[bytes, bytes]:
                blank = "e" if broken == "wrong" else "\u0345\U00010940"  # the second stands for a new letter
                return engine.encode_batch_flat(
                    [t.translate(dict.fromkeys(map(ord, blank), "a")) for t in texts]
                )

            return SimpleNamespace(encode_batch_flat=encode)

    module = None if broken == "missing" else SimpleNamespace(Tokenizer=Fake)
    monkeypatch.setitem(sys.modules, "fastokens", module)
    tokenizer = fresh(small)
    with pytest.warns(RuntimeWarning, match="encoding with tiktoken") as said:
        batches = [tokenizer.encode_batch(TEXTS) for _ in range(2)]
    assert len(said) == 1
    for batch in batches:
        assert [tokens.tolist() for tokens in batch] == [small.encode(text) for text in TEXTS]
        assert batch[0].dtype == np.uint16


def test_thousands_of_random_strings(gpt2: ByteLevelTokenizer, oracle: tiktoken.Encoding) -> None:
    assert differences(gpt2, oracle, list(random_strings(10_000, seed=1))) == []


@pytest.mark.slow
def test_a_million_random_strings(gpt2: ByteLevelTokenizer, oracle: tiktoken.Encoding) -> None:
    for seed in range(10):
        assert differences(gpt2, oracle, list(random_strings(100_000, seed=1000 + seed))) == []


@pytest.mark.slow
def test_every_code_point(gpt2: ByteLevelTokenizer, oracle: tiktoken.Encoding) -> None:
    """Unicode versions differ in what is a letter; here the encoders must agree, whatever theirs is."""
    characters = [chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000]
    texts = [f"a{c}1{c}.{c} {c}b {c}2 {c}{c}'s  {c}\n{c}'t" for c in characters]
    assert differences(gpt2, oracle, texts) == []


def differences(gpt2: ByteLevelTokenizer, oracle: tiktoken.Encoding, texts: list[str]) -> list[str]:
    """Those of `texts` that the fast encoder and tiktoken encode differently."""
    expected = oracle.encode_ordinary_batch(texts, num_threads=2)
    batch = gpt2.encode_batch(texts)
    return [t for t, fast, slow in zip(texts, batch, expected, strict=True) if fast.tolist() != slow]
