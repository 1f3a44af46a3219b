"""Text from tokens that arrive one by one, never half a character."""

import codecs
from collections.abc import Callable, Iterable

from gpt2lab.tokenizer.vocabulary import END_OF_WORD


class Utf8StreamDecoder:
    """Holds back the bytes of an unfinished character.

    A token of GPT-2 may end in the middle of a character, and the next begin there.
    """

    def __init__(self, decode_bytes: Callable[[Iterable[int]], bytes]) -> None:
        self._decode_bytes = decode_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """See `StreamDecoder.push`."""
        return self._decoder.decode(self._decode_bytes([token]))

    def flush(self) -> str:
        """See `StreamDecoder.flush`: U+FFFD for a character that never ended."""
        return self._decoder.decode(b"", final=True)


class WordStreamDecoder:
    """Writes the space after a word only when another token follows, for GPT-1."""

    def __init__(self, token_text: Callable[[int], str]) -> None:
        self._token_text = token_text
        self._space = ""

    def push(self, token: int) -> str:
        """See `StreamDecoder.push`."""
        text = self._token_text(token)
        space, self._space = self._space, " " if text.endswith(END_OF_WORD) else ""
        return space + text.removesuffix(END_OF_WORD)

    def flush(self) -> str:
        """See `StreamDecoder.flush`: never anything, the space after the last word is not written."""
        self._space = ""
        return ""
