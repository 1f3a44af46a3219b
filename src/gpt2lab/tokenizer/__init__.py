"""Text to tokens and back: GPT-2's byte-level BPE, GPT-1's word-level BPE, and training new vocabularies.

Two references do the work where being slow is no matter: tiktoken encodes (and is what other encoders are
checked against), Hugging Face tokenizers trains and cuts GPT-1's words. Two fast libraries take over after
proving on the spot that they give the same: fastokens for bulk encoding (ten times tiktoken's speed, exact on
every code point, no dependencies), gigatoken for training if it is installed (five times faster, the same
merges; not for encoding, where it takes code points newer than Unicode 16 for letters).
"""

from pathlib import Path

from gpt2lab.tokenizer.base import StreamDecoder, TokenArray, Tokenizer
from gpt2lab.tokenizer.byte_level import ByteLevelTokenizer
from gpt2lab.tokenizer.training import train_bpe
from gpt2lab.tokenizer.vocabulary_files import read_vocabulary
from gpt2lab.tokenizer.word_level import WordLevelTokenizer

__all__ = [
    "ByteLevelTokenizer",
    "StreamDecoder",
    "TokenArray",
    "Tokenizer",
    "WordLevelTokenizer",
    "load_tokenizer",
    "train_bpe",
]


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer that a folder holds, or one of its files (with the sibling it needs).

    Args:
        path: a folder with tokenizer.json, vocab.json and merges.txt, encoder.json and vocab.bpe, or GPT-1's
            encoder_bpe_40000.json and vocab_40000.bpe; or one of these files. Which family it is, GPT-1's or
            GPT-2's, the vocabulary itself tells.

    Raises:
        UserError: no such files, malformed ones, a tokenizer of another kind, or an unsound vocabulary.
    """
    vocabulary = read_vocabulary(Path(path))
    return WordLevelTokenizer(vocabulary) if vocabulary.family == "gpt1" else ByteLevelTokenizer(vocabulary)
