"""GPT-1's tokenizer: the ids of transformers', which needs neither ftfy nor spaCy either."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from transformers import OpenAIGPTTokenizer

from gpt2lab.base.errors import UserError
from gpt2lab.tokenizer import WordLevelTokenizer, load_tokenizer

from .strings import hard_text, random_strings


@pytest.fixture(scope="module")
def reference(test_data: Path) -> OpenAIGPTTokenizer:
    """transformers' class, from OpenAI's files."""
    folder = test_data / "tokenizer" / "gpt1" / "model"
    vocab = json.loads((folder / "encoder_bpe_40000.json").read_text(encoding="utf-8"))
    lines = (folder / "vocab_40000.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    return OpenAIGPTTokenizer(vocab=vocab, merges=[tuple(line.split(" ")) for line in lines])


def test_published_sizes(gpt1: WordLevelTokenizer) -> None:
    assert gpt1.vocab_size == 40478
    assert gpt1.end_of_text is None
    assert gpt1.vocabulary.special == {"<unk>": 0}


def test_known_words(gpt1: WordLevelTokenizer) -> None:
    tokens = gpt1.encode("Hello, WORLD! Tokenizers don't stop.")
    pieces = [gpt1.vocabulary.tokens[token] for token in tokens]
    assert pieces[:4] == ["hello</w>", ",</w>", "world</w>", "!</w>"]
    assert gpt1.decode(tokens) == "hello , world ! tokenizers don ' t stop ."
    assert gpt1.decode(gpt1.encode("Ärger im CAFÉ\n\nheute")) == "arger im cafe heute"
    assert gpt1.encode("a ☃ b")[1] == 0


@given(text=hard_text())
def test_equals_transformers(gpt1: WordLevelTokenizer, reference: OpenAIGPTTokenizer, text: str) -> None:
    text = text.replace("<unk>", "")  # which transformers reads as its special token, and we as text
    tokens = gpt1.encode(text)
    assert tokens == reference.encode(text)
    assert tokens == gpt1.encode_batch([text])[0].tolist()
    assert gpt1.decode(tokens) == reference.decode(tokens)


def test_equals_transformers_on_books(
    gpt1: WordLevelTokenizer, reference: OpenAIGPTTokenizer, books: list[str]
) -> None:
    texts = [book[10_000:60_000] for book in books] + list(random_strings(2000, seed=3))
    batch = gpt1.encode_batch(texts)
    assert all(tokens.dtype == np.uint16 for tokens in batch)
    assert [tokens.tolist() for tokens in batch] == [reference.encode(text) for text in texts]


def test_token_bytes_make_up_the_text(gpt1: WordLevelTokenizer) -> None:
    tokens = gpt1.encode("some ordinary words")
    assert b"".join(gpt1.token_bytes()[token] for token in tokens) == b"some ordinary words "
    assert gpt1.token_bytes()[0] == b""


def test_unknown_is_text_unless_allowed(gpt1: WordLevelTokenizer) -> None:
    assert gpt1.decode(gpt1.encode("an <unk> word")) == "an < unk > word"
    assert gpt1.encode("an <unk> word", allow_special=True) == [*gpt1.encode("an"), 0, *gpt1.encode("word")]


def test_lone_surrogates(gpt1: WordLevelTokenizer) -> None:
    assert gpt1.encode("a\ud800b") == gpt1.encode("a\ufffdb")


def test_ids_out_of_range(gpt1: WordLevelTokenizer) -> None:
    with pytest.raises(UserError, match="there is no token 40,478"):
        gpt1.decode([1, 40478])


def test_found_in_a_clone_of_the_repository(gpt1: WordLevelTokenizer, test_data: Path) -> None:
    assert load_tokenizer(test_data / "tokenizer" / "gpt1") == gpt1
