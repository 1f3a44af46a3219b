"""GPT-2's tokenizer: byte-pair encoding over bytes, so every text has an encoding and nothing is lost."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np
import tiktoken

from gpt2lab.tokenizer import byte_alphabet
from gpt2lab.tokenizer.base import StreamDecoder, TokenArray, Tokenizer
from gpt2lab.tokenizer.bulk import bulk_encoder
from gpt2lab.tokenizer.streaming import Utf8StreamDecoder
from gpt2lab.tokenizer.vocabulary import Vocabulary

PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
"""How text is cut before merging; no merge crosses a cut. OpenAI's later spelling of the pattern in
openai/gpt-2, src/encoder.py: it cuts at the same places and backtracks less."""

# A cut before the last of many spaces is one that the pattern makes too. It must be made for it, because its
# regex engine gives up (a panic, not an exception) when a million spaces are followed by something else.
# Spaces are spelled out because Python's \s holds four control characters that Unicode's does not.
_SPACES = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_MANY = 100_000
_MANY_SPACES = re.compile(f"(?<![{_SPACES}])[{_SPACES}]{{{_MANY},}}+(?=[^{_SPACES}])")


class ByteLevelTokenizer(Tokenizer):
    """Byte-level BPE exactly as GPT-2's (Radford et al. 2019, section 2.2), with any vocabulary of that kind.

    ``decode(encode(text)) == text`` for every text, and ``decode_bytes(encode_bytes(data)) == data`` for
    whatever bytes.
    """

    def encode_batch(self, texts: Sequence[str]) -> list[TokenArray]:
        """See `Tokenizer.encode_batch`."""
        return self._bulk_encoder(texts)

    def encode_bytes(self, data: bytes) -> list[int]:
        """The ids of any bytes: stretches of valid UTF-8 as `encode` has them, every other byte a token.

        So it equals `encode` on text, and `decode_bytes` gives `data` back.
        """
        tokens: list[int] = []
        # Decoding so turns each byte that is not UTF-8 into its own lone surrogate, U+DC80 to U+DCFF.
        for part in re.split("([\udc80-\udcff]+)", data.decode("utf-8", "surrogateescape")):
            if part and "\udc80" <= part[0] <= "\udcff":
                tokens += [self._id_of_byte[byte] for byte in part.encode("utf-8", "surrogateescape")]
            elif part:
                tokens += self._encode_text(part)
        return tokens

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """See `Tokenizer.decode_bytes`."""
        return b"".join([self._shown[token] for token in self._known(tokens)])

    def token_bytes(self) -> list[bytes]:
        """See `Tokenizer.token_bytes`."""
        special = self.vocabulary.special
        return [b"" if t in special else byte_alphabet.to_bytes(t) for t in self.vocabulary.tokens]

    def stream_decoder(self) -> StreamDecoder:
        """See `Tokenizer.stream_decoder`."""
        return Utf8StreamDecoder(self.decode_bytes)

    def _encode_text(self, text: str) -> list[int]:
        ranks: list[int] = []
        for part in _without_many_spaces(text):
            ranks += self._encoding.encode_ordinary(part)
        return ranks if self._ids_are_ranks else [self._id_of_rank[rank] for rank in ranks]

    @cached_property
    def _encoding(self) -> tiktoken.Encoding:
        """It joins the neighbours whose union has the lowest rank, so the ranks are the order of merging."""
        ranks = {byte_alphabet.to_bytes(token): rank for rank, token in enumerate(self._by_rank)}
        return tiktoken.Encoding("gpt2lab", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})

    @cached_property
    def _by_rank(self) -> list[str]:
        """The ordinary tokens in the order in which they come to be: bytes first, then one a merge."""
        return byte_alphabet.CHARACTERS + [left + right for left, right in self.vocabulary.merges]

    @cached_property
    def _id_of_rank(self) -> list[int]:
        """The same number in GPT-2; but other trainers put special tokens first, for example."""
        ids = self.vocabulary.ordinary_ids
        return [ids[token] for token in self._by_rank]

    @cached_property
    def _ids_are_ranks(self) -> bool:
        return self._id_of_rank == list(range(len(self._id_of_rank)))

    @cached_property
    def _id_of_byte(self) -> list[int]:
        ids = self.vocabulary.ordinary_ids
        return [ids[byte_alphabet.from_bytes(bytes([byte]))] for byte in range(256)]

    @cached_property
    def _shown(self) -> list[bytes]:
        """For every id what `decode` shows."""
        special = self.vocabulary.special
        return [t.encode() if t in special else byte_alphabet.to_bytes(t) for t in self.vocabulary.tokens]

    @cached_property
    def _bulk_encoder(self) -> Callable[[Sequence[str]], list[TokenArray]]:
        id_of_rank = np.array(self._id_of_rank, dtype=self._dtype)
        by_rank = Vocabulary("gpt2", tuple(self._by_rank), self.vocabulary.merges, {})
        return bulk_encoder(by_rank, id_of_rank, self._encode_text)


def _without_many_spaces(text: str) -> list[str]:
    """`text` in parts that the pattern cuts as it cuts the whole, none with very many spaces inside."""
    if len(text) < _MANY:
        return [text]
    cuts = [match.end() - 1 for match in _MANY_SPACES.finditer(text)]
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
