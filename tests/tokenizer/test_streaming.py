"""Streams of tokens: no half characters, and the same text as decoding all at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import UserError
from gpt2lab.tokenizer import ByteLevelTokenizer, WordLevelTokenizer

from .strings import hard_text


@given(tokens=st.lists(st.one_of(st.integers(0, 255), st.integers(0, 999)), max_size=60))
def test_any_tokens_join_to_their_text(small: ByteLevelTokenizer, tokens: list[int]) -> None:
    decoder = small.stream_decoder()
    pieces = [decoder.push(token) for token in tokens]
    assert "".join(pieces) + decoder.flush() == small.decode(tokens)
    assert decoder.flush() == ""


@given(text=hard_text())
def test_text_never_shows_half_a_character(small: ByteLevelTokenizer, text: str) -> None:
    decoder = small.stream_decoder()
    shown = ""
    for token in small.encode(text):
        shown += decoder.push(token)
        assert text.startswith(shown)
    assert decoder.flush() == ""
    assert shown == text


def test_a_character_appears_with_its_last_byte(small: ByteLevelTokenizer) -> None:
    decoder = small.stream_decoder()
    cat, fish = (small.encode_bytes(character.encode()) for character in "🐈🐟")
    assert [decoder.push(token) for token in cat] == ["", "", "", "🐈"]
    for token in fish[:2]:
        assert decoder.push(token) == ""
    assert decoder.flush() == "\ufffd"
    assert [decoder.push(token) for token in fish] == ["", "", "", "🐟"]
    with pytest.raises(UserError, match="there is no token 1,000"):
        decoder.push(1000)


@given(tokens=st.lists(st.integers(0, 40477), max_size=30))
def test_words_join_to_their_text(gpt1: WordLevelTokenizer, tokens: list[int]) -> None:
    decoder = gpt1.stream_decoder()
    pieces = [decoder.push(token) for token in tokens]
    assert "".join(pieces) + decoder.flush() == gpt1.decode(tokens)
    assert not gpt1.decode(tokens).endswith(" ") or tokens


def test_the_space_after_a_word_waits_for_the_next(gpt1: WordLevelTokenizer) -> None:
    decoder = gpt1.stream_decoder()
    assert [decoder.push(token) for token in gpt1.encode("Hello world")] == ["hello", " world"]
    assert decoder.flush() == ""
    assert decoder.push(gpt1.encode("again")[0]) == "again"
