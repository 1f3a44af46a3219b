import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2lab.base.errors import UserError
from gpt2lab.corpus.build import TOKENIZER_FOLDER, build_shards, cut_into_pieces, prepare
from gpt2lab.corpus.documents import Document
from gpt2lab.data.dataset import TokenDataset
from gpt2lab.data.split import SPLITS, split_of
from gpt2lab.tokenizer import load_tokenizer, train_bpe


@pytest.fixture(scope="module")
def book():
    return "\n\n".join(f"Paragraph {number}: the dog sees the café number {number}." for number in range(600))


@pytest.fixture(scope="module")
def tokenizer(book):
    return train_bpe([book], 300)


def documents_in(folder, split, tokenizer):
    """The texts of a split, from its tokens."""
    tokens = np.concatenate([shard.tokens for shard in TokenDataset.open(folder, split).shards])
    starts = np.flatnonzero(tokens == tokenizer.end_of_text)
    assert starts[0] == 0
    return [tokenizer.decode(part[1:]) for part in np.split(tokens, starts[1:])]


def test_one_book_is_cut_to_hold_some_of_it_out(tmp_path, book, tokenizer):
    (tmp_path / "book.txt").write_text(book, encoding="utf-8")
    manifest = prepare([tmp_path / "book.txt"], tokenizer, tmp_path / "shards", 0.1)
    parts = {split: documents_in(tmp_path / "shards", split, tokenizer) for split in SPLITS}
    assert 0.03 < len("".join(parts["val"])) / len(book) < 0.2
    # Every part of the book is on one side, and only there.
    assert sum(len(text) for part in parts.values() for text in part) == len(book)
    assert all(text in book for part in parts.values() for text in part)
    assert sum(facts.documents for facts in manifest.splits.values()) > 50
    assert manifest.sources == (str(tmp_path / "book.txt"),)
    assert sum(facts.text_bytes for facts in manifest.splits.values()) == len(book.encode())


def test_documents_stay_whole_where_there_are_enough(tmp_path, tokenizer):
    texts = {f"{number:02}.txt": f"Page {number}.\n\nIt has\n\nthree parts." for number in range(25)}
    (tmp_path / "pages").mkdir()
    for name, text in texts.items():
        (tmp_path / "pages" / name).write_text(text, encoding="utf-8")
    prepare([tmp_path / "pages"], tokenizer, tmp_path / "shards", 0.5)
    for split in SPLITS:
        expected = [text for name, text in texts.items() if split_of(name, 0.5) == split]
        assert documents_in(tmp_path / "shards", split, tokenizer) == expected


def test_shards_carry_the_vocabulary_they_are_written_in(tmp_path, book, tokenizer):
    documents = [Document(f"{i}", text, "here") for i, text in enumerate(book.split("\n\n"))]
    manifest = build_shards(
        documents, tokenizer, tmp_path / "shards", validation_fraction=0.1, sources=["here"], shard_tokens=500
    )
    saved = load_tokenizer(tmp_path / "shards" / TOKENIZER_FOLDER)
    assert saved == tokenizer
    assert manifest.tokenizer_fingerprint == saved.fingerprint
    assert manifest.vocab_size == saved.vocab_size
    assert len(manifest.shards) > 4
    held_out = documents_in(tmp_path / "shards", "val", tokenizer)
    assert held_out == [d.text for d in documents if split_of(d.id, 0.1) == "val"]


@pytest.mark.parametrize(("fraction", "split"), [(0.0, "val"), (1.0, "train")])
def test_an_empty_split_is_an_error_and_leaves_nothing(tmp_path, book, tokenizer, fraction, split):
    (tmp_path / "book.txt").write_text(book, encoding="utf-8")
    message = rf"book.txt: none of the .* documents fell into the '{split}' split\. Give more text, or change"
    with pytest.raises(UserError, match=message):
        prepare([tmp_path / "book.txt"], tokenizer, tmp_path / "shards", fraction)
    assert [path.name for path in tmp_path.iterdir()] == ["book.txt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no text here"), (b" \n\n ", "no text here"), (b"caf\xe9", "not UTF-8 text")],
)
def test_bad_text_leaves_nothing(tmp_path, tokenizer, content, message):
    (tmp_path / "book.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        prepare([tmp_path / "book.txt"], tokenizer, tmp_path / "shards", 0.1)
    assert [path.name for path in tmp_path.iterdir()] == ["book.txt"]


@settings(max_examples=200, deadline=None)
@given(st.text("ab \n", max_size=80), st.integers(1, 20))
def test_pieces_joined_are_the_document(text, min_chars):
    pieces = list(cut_into_pieces(Document("book", text, "here"), min_chars))
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.id for piece in pieces] == [f"book#{number}" for number in range(len(pieces))]
    assert all(piece.source == "here" for piece in pieces)
    assert all(min_chars <= len(piece.text) < 4 * min_chars + 2 for piece in pieces[:-1])
    assert all(piece.text for piece in pieces)


def test_a_cut_is_made_at_the_largest_gap_in_reach():
    def cuts(text):
        return [piece.text for piece in cut_into_pieces(Document("book", text, "here"), 4)]

    assert cuts("aaaaa a\na\n\nb") == ["aaaaa a\na\n\n", "b"]
    assert cuts("aaaaa a\na\nb") == ["aaaaa a\n", "a\nb"]
    assert cuts("aaaaa a a b") == ["aaaaa ", "a a ", "b"]
    assert cuts("aaaaaaaaab") == ["aaaa", "aaaa", "ab"]


def test_a_short_text_still_gets_a_held_out_part(tmp_path, book, tokenizer):
    """A share of half a percent of a few pieces would usually be none of them."""
    (tmp_path / "short.txt").write_text(book[:1500], encoding="utf-8")
    manifest = prepare([tmp_path / "short.txt"], tokenizer, tmp_path / "shards", 0.005)
    assert manifest.splits["val"].documents == 1
    assert manifest.splits["train"].documents >= 1
