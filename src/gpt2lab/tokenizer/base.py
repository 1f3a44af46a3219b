"""What every tokenizer can do: text to token ids and back."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import UserError
from gpt2lab.tokenizer.vocabulary import END_OF_TEXT, Vocabulary
from gpt2lab.tokenizer.vocabulary_files import write_vocabulary

TokenArray = NDArray[np.unsignedinteger[Any]]


class StreamDecoder(Protocol):
    """Turns tokens into text as they come; all it returns, joined, is what `Tokenizer.decode` returns."""

    def push(self, token: int) -> str:
        """The text that is certain after one more token; never a part of a character.

        Raises:
            UserError: the vocabulary has no such id.
        """

    def flush(self) -> str:
        """What was held back, at the end of the stream; the decoder is then as new."""


class Tokenizer(ABC):
    """Text to token ids and back, by a byte-pair vocabulary.

    Tokenizers compare and travel (pickle) by their vocabulary alone.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    @property
    def vocab_size(self) -> int:
        """How many tokens there are; ids run from 0 to one less."""
        return len(self.vocabulary.tokens)

    @property
    def end_of_text(self) -> int | None:
        """The id of ``<|endoftext|>``, which stands between documents; None if there is none (GPT-1)."""
        return self.vocabulary.special.get(END_OF_TEXT)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of the vocabulary, whatever files it was read from."""
        return self.vocabulary.fingerprint

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`.

        Args:
            text: any string; halves of surrogate pairs standing alone, which are no text, count as U+FFFD.
            allow_special: read names of special tokens in `text`, such as ``<|endoftext|>``, as those tokens.
                By default they are text like any other, so that no document can forge one.
        """
        if not allow_special or not self.vocabulary.special:
            return self._encode_text(text)
        tokens: list[int] = []
        for index, part in enumerate(self._special_names.split(text)):
            if index % 2:  # what the pattern matched lies between what it did not
                tokens.append(self.vocabulary.special[part])
            elif part:
                tokens += self._encode_text(part)
        return tokens

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[TokenArray]:
        """The ids of each text, on all cores: what `encode` returns, as arrays.

        Returns:
            For each text an array of shape (tokens,): uint16 if the vocabulary fits (up to 65,536), else
            uint32.
        """

    @abstractmethod
    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """The bytes that `tokens` stand for; special tokens appear by name.

        Raises:
            UserError: the vocabulary has no such id.
        """

    @abstractmethod
    def token_bytes(self) -> list[bytes]:
        """For every id the bytes of text it stands for; nothing (``b""``) for special tokens."""

    @abstractmethod
    def stream_decoder(self) -> StreamDecoder:
        """A decoder for tokens that arrive one by one."""

    @abstractmethod
    def _encode_text(self, text: str) -> list[int]:
        """The ids of `text`, all of it plain text."""

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of `tokens`; bytes that are not UTF-8 become U+FFFD, special tokens appear by name.

        Raises:
            UserError: the vocabulary has no such id.
        """
        return self.decode_bytes(tokens).decode("utf-8", errors="replace")

    def save(self, directory: Path) -> None:
        """Write tokenizer.json, vocab.json, merges.txt and tokenizer_config.json into `directory`.

        `load_tokenizer` and transformers' ``AutoTokenizer.from_pretrained`` read it.

        Raises:
            UserError: the folder may not be written, or the disk is full.
        """
        write_vocabulary(self.vocabulary, directory)

    def _known(self, tokens: Iterable[int]) -> list[int]:
        """`tokens` as a list, each of them checked to be an id."""
        ids: list[int] = (
            tokens.tolist() if isinstance(tokens, np.ndarray) else [int(token) for token in tokens]
        )
        size = self.vocab_size
        wrong = next((token for token in ids if not 0 <= token < size), None)
        if wrong is not None:
            raise UserError(
                f"there is no token {wrong:,}: this vocabulary has {size:,}, numbered 0 to {size - 1:,}",
                fix="Use the tokenizer that the tokens were made with",
            )
        return ids

    @cached_property
    def _special_names(self) -> re.Pattern[str]:
        longest_first = sorted(self.vocabulary.special, key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, longest_first))})")

    @property
    def _dtype(self) -> type[np.unsignedinteger[Any]]:
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.vocabulary,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size:,})"


def without_lone_surrogates(text: str) -> str:
    """`text` as UTF-16 would read it: surrogate pairs are the character they spell, lone halves U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
