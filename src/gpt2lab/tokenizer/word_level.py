"""GPT-1's tokenizer: byte-pair encoding of lower-case words over characters.

OpenAI's own code (openai/finetune-transformer-lm, text_utils.py) mends the text with ftfy and cuts it into
words with spaCy's English model. This is what transformers does instead, with neither, and gives its ids:

1. control characters go, every kind of white space becomes a space, accents go, letters become lower-case;
2. words are cut at spaces, every punctuation mark and every Chinese character is a word of its own;
3. a word is its characters, the last with ``</w>`` attached; then the merges, most urgent first;
4. a character the vocabulary lacks is ``<unk>``, id 0.

It differs from OpenAI's code where spaCy cuts otherwise (``don't`` is ``do n't`` there and ``don ' t`` here,
``u.s.`` one word there), in accents (kept there), in line ends (the token ``\\n</w>`` there, a space here),
in dashes and curly quotes (made ASCII there, kept here) and in text that ftfy would mend.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np
import tokenizers

from gpt2lab.tokenizer.base import StreamDecoder, TokenArray, Tokenizer, without_lone_surrogates
from gpt2lab.tokenizer.bulk import in_groups
from gpt2lab.tokenizer.streaming import WordStreamDecoder
from gpt2lab.tokenizer.vocabulary import END_OF_WORD
from gpt2lab.tokenizer.vocabulary_files import tokenizer_json


class WordLevelTokenizer(Tokenizer):
    """The byte-pair encoding of GPT-1 (Radford et al. 2018, section 4.1): lower-case words, ``</w>`` at ends.

    What it takes away (capitals, accents, spacing) does not come back: `decode` gives words with one space
    after each.
    """

    def encode_batch(self, texts: Sequence[str]) -> list[TokenArray]:
        """See `Tokenizer.encode_batch`."""
        return self._bulk_encoder(texts)

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """See `Tokenizer.decode_bytes`: the words in UTF-8, a space between them."""
        decoder = self.stream_decoder()
        return "".join([decoder.push(token) for token in self._known(tokens)]).encode()

    def token_bytes(self) -> list[bytes]:
        """See `Tokenizer.token_bytes`: a word's last token has the space after the word."""
        special = self.vocabulary.special
        return [
            b"" if token in special else token.replace(END_OF_WORD, " ").encode()
            for token in self.vocabulary.tokens
        ]

    def stream_decoder(self) -> StreamDecoder:
        """See `Tokenizer.stream_decoder`."""
        return WordStreamDecoder(lambda token: self.vocabulary.tokens[self._known([token])[0]])

    def _encode_text(self, text: str) -> list[int]:
        tokens: list[int] = self._encode_group([text])[0].tolist()
        return tokens

    def _encode_group(self, texts: Sequence[str]) -> list[TokenArray]:
        clean = [text if text.isascii() else without_lone_surrogates(text) for text in texts]
        encodings = self._engine.encode_batch_fast(clean, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=self._dtype) for encoding in encodings]

    @cached_property
    def _engine(self) -> tokenizers.Tokenizer:
        return tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(self.vocabulary, with_special=False)))

    @cached_property
    def _bulk_encoder(self) -> Callable[[Sequence[str]], list[TokenArray]]:
        return in_groups(self._encode_group)
