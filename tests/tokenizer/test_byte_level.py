"""GPT-2's tokenizer: exactly its ids, and nothing lost."""

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from gpt2lab.base.errors import UserError
from gpt2lab.tokenizer import ByteLevelTokenizer, byte_level
from gpt2lab.tokenizer.byte_alphabet import to_bytes
from gpt2lab.tokenizer.vocabulary import Vocabulary, checked_vocabulary

from .conftest import read_books
from .strings import hard_text

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # a fallback must not go unseen

SEPARATOR = "\n__ggml_vocab_test__\n"


def test_published_vectors(gpt2: ByteLevelTokenizer, test_data: Path) -> None:
    folder = test_data / "tokenizer" / "encode_vectors" / "llamacpp" / "models"
    text = (folder / "ggml-vocab-gpt-2.gguf.inp").read_bytes().decode()
    *texts, after_the_last = text.split(SEPARATOR)
    assert after_the_last == ""
    expected = [
        [int(word) for word in line.split()]
        for line in (folder / "ggml-vocab-gpt-2.gguf.out").read_text().splitlines()
    ]
    assert len(texts) == len(expected) == 46
    for text, ids in zip(texts, expected, strict=True):
        assert gpt2.encode(text) == ids, repr(text)
        assert gpt2.decode(ids) == text


def test_the_pattern_is_openais_own() -> None:
    assert openai_public.r50k_pat_str == byte_level.PATTERN


def test_equals_tiktoken_on_books(
    gpt2: ByteLevelTokenizer, oracle: tiktoken.Encoding, books: list[str]
) -> None:
    for book, tokens in zip(books, gpt2.encode_batch(books), strict=True):
        assert tokens.tolist() == oracle.encode_ordinary(book)
    assert gpt2.encode(books[0]) == oracle.encode_ordinary(books[0])


@pytest.mark.slow
def test_equals_tiktoken_on_all_books(
    gpt2: ByteLevelTokenizer, oracle: tiktoken.Encoding, test_data: Path
) -> None:
    books = read_books(test_data, 1 << 40)
    assert sum(len(book) for book in books) > 300_000_000
    for book, tokens in zip(books, gpt2.encode_batch(books), strict=True):
        assert np.array_equal(tokens, oracle.encode_to_numpy(book, disallowed_special=()))


def test_published_tokens_and_sizes(gpt2: ByteLevelTokenizer) -> None:
    assert (gpt2.vocab_size, gpt2.end_of_text) == (50257, 50256)
    assert gpt2.encode("Hello world") == [15496, 995]
    pieces = gpt2.token_bytes()
    assert (pieces[995], pieces[0], pieces[220], pieces[50256]) == (b" world", b"!", b" ", b"")


@given(text=hard_text())
def test_equals_tiktoken_on_anything(gpt2: ByteLevelTokenizer, oracle: tiktoken.Encoding, text: str) -> None:
    assert gpt2.encode(text) == gpt2.encode_batch([text])[0].tolist() == oracle.encode_ordinary(text)


@given(text=hard_text())
def test_text_comes_back(small: ByteLevelTokenizer, text: str) -> None:
    tokens = small.encode(text)
    assert small.decode(tokens) == text
    assert small.decode_bytes(tokens) == text.encode()
    assert b"".join(small.token_bytes()[token] for token in tokens) == text.encode()
    assert small.encode_batch([text])[0].tolist() == tokens


@given(
    data=st.lists(st.one_of(st.binary(max_size=8), hard_text(3).map(str.encode)), max_size=8).map(b"".join)
)
def test_bytes_come_back(small: ByteLevelTokenizer, data: bytes) -> None:
    tokens = small.encode_bytes(data)
    assert small.decode_bytes(tokens) == data
    assert small.decode(tokens) == data.decode("utf-8", errors="replace")
    assert small.encode_bytes(data[::-1] + data)[-len(tokens) :] or not data


@given(text=hard_text())
def test_bytes_of_text_are_encoded_as_text(small: ByteLevelTokenizer, text: str) -> None:
    assert small.encode_bytes(text.encode()) == small.encode(text)


def test_bytes_that_are_no_text_are_one_token_each(small: ByteLevelTokenizer) -> None:
    tokens = small.encode_bytes(b"the \xff\xfe\xe6\x97 the")
    in_between = [small.token_bytes()[token] for token in tokens][-5:-1]
    assert in_between == [b"\xff", b"\xfe", b"\xe6", b"\x97"]


def test_lone_surrogates_count_as_the_replacement_character(small: ByteLevelTokenizer) -> None:
    odd = ["a\ud800b", "\udc00", "\ud83d\ude00 is one character", "fine"]
    meant = ["a\ufffdb", "\ufffd", "\U0001f600 is one character", "fine"]
    assert [small.encode(text) for text in odd] == [small.encode(text) for text in meant]
    assert [tokens.tolist() for tokens in small.encode_batch(odd)] == [small.encode(text) for text in meant]


def test_special_tokens_are_text_unless_allowed(small: ByteLevelTokenizer) -> None:
    text = "one<|endoftext|><|endoftext|> two <|endoftext|"
    end = small.end_of_text
    assert end not in small.encode(text)
    assert end not in small.encode_batch([text])[0]
    assert small.decode(small.encode(text)) == text
    allowed = small.encode(text, allow_special=True)
    assert allowed == [*small.encode("one"), end, end, *small.encode(" two <|endoftext|")]
    assert small.decode(allowed) == text
    assert small.encode("<|endoftext|>", allow_special=True) == [end]


def test_allowed_special_tokens_as_in_tiktoken(gpt2: ByteLevelTokenizer, oracle: tiktoken.Encoding) -> None:
    for text in ("  <|endoftext|>  x", "<|endoftext|>\n\n<|endoftext|> a", "no special", ""):
        assert gpt2.encode(text, allow_special=True) == oracle.encode(text, allowed_special="all")


@pytest.mark.parametrize("spaces", [" ", "\n", " \n", "\u3000", "\x1c "])
@pytest.mark.parametrize("follower", ["a", "'s", "\x1c", "\x1cy", "7", ".", ""])
def test_very_many_spaces(
    small: ByteLevelTokenizer, monkeypatch: pytest.MonkeyPatch, spaces: str, follower: str
) -> None:
    """Cutting the text before the engine sees it must not show; a million spaces must not end the process."""
    text = "x" + spaces * 120_000 + follower + spaces * 120_000
    cut = small.encode(text)
    monkeypatch.setattr(byte_level, "_MANY", 1 << 40)
    assert cut == small.encode(text)


def test_a_million_spaces(small: ByteLevelTokenizer) -> None:
    text = " " * 1_100_000 + "a" + "\n" * 1_100_000 + "b"
    tokens = small.encode(text)
    assert small.decode(tokens) == text
    assert small.encode_batch([text])[0].tolist() == tokens


@pytest.mark.parametrize("tokens", [[-1], [1000], [5, 2**40], np.array([3, 1000]), [np.int64(1000)]])
def test_ids_out_of_range(small: ByteLevelTokenizer, tokens: list[int]) -> None:
    with pytest.raises(UserError, match=r"there is no token .*: this vocabulary has 1,000"):
        small.decode(tokens)


def test_batches(small: ByteLevelTokenizer, prose: list[str]) -> None:
    draw = random.Random(0)
    text = "".join(prose)
    texts = ["", *(text[i : i + draw.randrange(2000)] for i in draw.sample(range(len(text)), 3000)), ""]
    batch = small.encode_batch(texts)
    assert all(tokens.dtype == np.uint16 and tokens.ndim == 1 for tokens in batch)
    assert [tokens.tolist() for tokens in batch] == [small.encode(text) for text in texts]
    assert small.encode_batch([]) == []
    assert small.encode_batch(("a", "b"))[1].tolist() == small.encode("b")


def test_large_vocabularies_need_four_bytes(small: ByteLevelTokenizer) -> None:
    ids = {token: i for i, token in enumerate(small.vocabulary.tokens)}
    for size, dtype in ((1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)):
        padding = {f"<pad-{i}>": i for i in range(len(ids), size)}
        large = ByteLevelTokenizer(checked_vocabulary(ids | padding, small.vocabulary.merges, [], Path()))
        assert large.encode_batch(["x"])[0].dtype == dtype


@given(text=hard_text())
def test_ids_in_another_order_than_the_merges(small: ByteLevelTokenizer, text: str) -> None:
    """Other trainers put special tokens first, or sort tokens some other way."""
    old = small.vocabulary
    order = ["<pad>", "<|endoftext|>", *sorted(token for token in old.tokens if token != "<|endoftext|>")]
    ids = {token: i for i, token in enumerate(order)}
    shuffled = ByteLevelTokenizer(checked_vocabulary(ids, old.merges, [], Path()))
    expected = [ids[old.tokens[token]] for token in small.encode(text)]
    assert shuffled.encode(text) == expected == shuffled.encode_batch([text])[0].tolist()
    assert shuffled.decode(expected) == text
    assert shuffled.end_of_text == 1
    assert shuffled.token_bytes()[2] == to_bytes(order[2])
    assert shuffled.fingerprint != small.fingerprint


def test_travels_and_compares_by_vocabulary(small: ByteLevelTokenizer) -> None:
    small.encode_batch(["engines are not pickled"])
    copy = pickle.loads(pickle.dumps(small))
    assert copy == small
    assert hash(copy) == hash(small)
    assert copy.encode("the same") == small.encode("the same")
    vocabulary = small.vocabulary
    other = Vocabulary("gpt2", vocabulary.tokens[:-2] + vocabulary.tokens[:-3:-1], vocabulary.merges, {})
    assert ByteLevelTokenizer(other) != small
