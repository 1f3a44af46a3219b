"""Training a vocabulary: the Hugging Face trainer's merges, GPT-2's order of ids, clear errors."""

import json
import re
import subprocess
import warnings
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from gpt2lab.base.errors import UserError
from gpt2lab.tokenizer import ByteLevelTokenizer, fast_training, train_bpe, training
from gpt2lab.tokenizer.training import reference_merges

from .conftest import read_books
from .strings import hard_text


def train_with_hugging_face(texts: list[str], vocab_size: int) -> Tokenizer:
    """As the library's own documentation trains a GPT-2 kind of vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def assert_same_vocabulary(ours: ByteLevelTokenizer, theirs: Tokenizer) -> None:
    model = json.loads(theirs.to_str())["model"]
    assert [list(pair) for pair in ours.vocabulary.merges] == model["merges"]
    assert set(ours.vocabulary.tokens) == set(model["vocab"])
    # theirs puts <|endoftext|> first, ours last; the rest is in the same order
    rest = sorted(model["vocab"], key=model["vocab"].__getitem__)[1:]
    assert [*rest, "<|endoftext|>"] == list(ours.vocabulary.tokens)


@pytest.fixture
def no_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast trainer's work, or none."""
    pytest.importorskip("gigatoken")

    def fail(texts: object, n_merges: int) -> None:
        raise AssertionError("the reference was asked")

    monkeypatch.setattr(training, "reference_merges", fail)


@pytest.mark.usefixtures("no_fallback")
def test_equals_hugging_face(books: list[str]) -> None:
    assert_same_vocabulary(train_bpe(books, 4096), train_with_hugging_face(books, 4096))


@pytest.mark.slow
@pytest.mark.usefixtures("no_fallback")
def test_equals_hugging_face_at_gpt2s_size(test_data: Path) -> None:
    books = read_books(test_data, 100_000_000)
    assert_same_vocabulary(train_bpe(books, 50257), train_with_hugging_face(books, 50257))


@settings(max_examples=20)
@given(texts=st.lists(hard_text(), min_size=1, max_size=5), vocab_size=st.integers(257, 300))
def test_equals_hugging_face_on_anything(texts: list[str], vocab_size: int) -> None:
    theirs = train_with_hugging_face(texts, vocab_size)
    try:
        ours = train_bpe(texts, vocab_size)
    except UserError:
        assert theirs.get_vocab_size() < vocab_size or not "".join(texts)
    else:
        assert_same_vocabulary(ours, theirs)


def test_order_of_ids(small: ByteLevelTokenizer) -> None:
    assert small.vocab_size == 1000
    assert small.end_of_text == 999
    pieces = small.token_bytes()
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    assert pieces[:256] == [bytes([b]) for b in printable + [b for b in range(256) if b not in printable]]
    assert pieces[256] == b"  "  # Python sources are mostly indentation


def test_bytes_alone(small: ByteLevelTokenizer) -> None:
    tokenizer = train_bpe(["whatever"], 257)
    assert tokenizer.vocab_size == 257
    assert tokenizer.end_of_text == 256
    assert tokenizer.decode(tokenizer.encode("héllo")) == "héllo"
    assert len(tokenizer.encode("héllo")) == 6


def test_no_merge_reaches_across_texts() -> None:
    with pytest.raises(UserError, match="after 0 merges"):
        train_bpe(["a", "b"] * 1000, 258)
    assert train_bpe(["ab"] * 1000, 258).vocabulary.merges == (("a", "b"),)


def test_texts_are_read_once_as_a_stream() -> None:
    def stream() -> Iterator[str]:
        yield from ("low lower lowest", "new newer newest", "half a pair: \ud800")

    assert train_bpe(stream(), 260).vocab_size == 260


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_no_text(texts: list[str]) -> None:
    with pytest.raises(UserError, match="no text to learn"):
        train_bpe(texts, 300)


@pytest.mark.parametrize("vocab_size", [-1, 0, 256])
def test_too_few_tokens(vocab_size: int) -> None:
    with pytest.raises(UserError, match="cannot hold the 256 bytes"):
        train_bpe(["text"], vocab_size)


def test_too_little_text() -> None:
    with pytest.raises(UserError, match=r"after 5 merges .*Ask for at most 262") as caught:
        train_bpe(["hello hello"], 263)
    assert caught.value.where == "vocab_size"
    assert train_bpe(["hello hello"], 262).encode("hello hello") == [259, 260]


@pytest.mark.parametrize("broken", ["failing", "disagreeing"])
def test_falls_back_to_the_reference_and_says_why(
    prose: list[str], small: ByteLevelTokenizer, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        if broken == "disagreeing":
            Path(command[-1]).write_text('{"enough_words": true, "agrees": false, "merges": []}')
        return subprocess.CompletedProcess(command, broken == "failing", stderr=b"trace\nthe reason\n")

    monkeypatch.setattr(fast_training, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setattr(fast_training.subprocess, "run", run)
    reason = {"failing": "the reason", "disagreeing": "gives other merges"}
    with pytest.warns(RuntimeWarning, match=reason[broken]):
        assert train_bpe(prose, 1000) == small


def test_does_without_the_fast_trainer_where_it_is_not_installed(
    prose: list[str], small: ByteLevelTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_training, "find_spec", lambda name: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train_bpe(prose, 1000) == small


def test_a_module_in_the_current_folder_does_no_harm(
    prose: list[str], small: ByteLevelTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('not the json you look for')")
    monkeypatch.chdir(tmp_path)
    assert train_bpe(prose, 1000) == small


def test_prints_nothing(prose: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    train_bpe(prose, 300)
    assert capfd.readouterr() == ("", "")


def test_the_fast_trainer_is_compared_with_the_reference(
    prose: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gigatoken")
    from gpt2lab.tokenizer import fast_training_worker as worker

    corpus, result = tmp_path / "corpus", tmp_path / "merges.json"
    corpus.write_bytes(b"".join(text.encode() + b"\xff" for text in prose))
    n_words = len(set(re.findall(r" ?\w+|[^\w\s]+", " ".join(prose))))
    worker.main(corpus, n_words, result)
    assert json.loads(result.read_text()) == {"enough_words": False}
    worker.main(corpus, n_words // 3, result)
    answer = json.loads(result.read_text())
    assert answer["enough_words"] is True
    assert answer["agrees"] is True
    assert answer["merges"] == [list(pair) for pair in reference_merges(prose, n_words // 3)]
    monkeypatch.setattr(worker, "reference_merges", lambda texts, n: reference_merges(texts, n)[::-1])
    worker.main(corpus, n_words // 3, result)
    assert json.loads(result.read_text())["agrees"] is False
