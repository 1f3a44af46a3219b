"""Learning a byte-level BPE vocabulary from text (Sennrich et al. 2016; over bytes, Radford et al. 2019).

The result is what the Hugging Face trainer gives: text cut by GPT-2's pattern, the 256 bytes first, then at
each step the pair of tokens that occurs most often; of several, the one whose tokens have the lowest ids.
"""

import json
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import disk_errors_explained
from gpt2lab.tokenizer import byte_alphabet
from gpt2lab.tokenizer.base import without_lone_surrogates
from gpt2lab.tokenizer.byte_level import ByteLevelTokenizer
from gpt2lab.tokenizer.fast_training import BOUNDARY, Merges, UnfitError, fast_merges
from gpt2lab.tokenizer.vocabulary import END_OF_TEXT, Vocabulary

SMALLEST = 256 + 1  # the bytes and <|endoftext|>
_READ_BYTES = 1 << 20


def train_bpe(texts: Iterable[str], vocab_size: int) -> ByteLevelTokenizer:
    """Train a vocabulary: 256 bytes, `vocab_size` - 257 merges, and ``<|endoftext|>`` as the last id.

    Args:
        texts: documents; no merge reaches across two of them. They are read once and kept on disk, not in
            memory.
        vocab_size: how many tokens, GPT-2's 50,257 for example.

    Raises:
        UserError: there is no text, it is too small for so many tokens, or `vocab_size` is below 257.
    """
    if vocab_size < SMALLEST:
        raise UserError(
            f"a vocabulary of {vocab_size:,} tokens cannot hold the 256 bytes and {END_OF_TEXT}",
            where="vocab_size",
            fix=f"Ask for at least {SMALLEST}",
        )
    n_merges = vocab_size - SMALLEST
    with tempfile.TemporaryDirectory(prefix="gpt2lab-") as folder:
        corpus = Path(folder) / "corpus"
        with disk_errors_explained(corpus):
            n_bytes = _write_corpus(texts, corpus)
        if n_bytes == 0:
            raise UserError(
                "there is no text to learn a vocabulary from", fix="Give texts that are not empty"
            )
        try:
            merges = fast_merges(corpus, n_merges)
        except UnfitError as reason:
            if reason.worth_saying:
                warnings.warn(f"{reason}: training more slowly", RuntimeWarning, stacklevel=2)
            merges = reference_merges(read_corpus(corpus), n_merges)
    if len(merges) < n_merges:
        raise UserError(
            f"the text is too small for {vocab_size:,} tokens: after {len(merges):,} merges nothing is left "
            "to join",
            where="vocab_size",
            fix=f"Ask for at most {len(merges) + SMALLEST:,}, or give more text",
        )
    tokens = (*byte_alphabet.CHARACTERS, *(left + right for left, right in merges), END_OF_TEXT)
    return ByteLevelTokenizer(Vocabulary("gpt2", tokens, tuple(merges), {END_OF_TEXT: vocab_size - 1}))


def reference_merges(texts: Iterable[str], n_merges: int) -> Merges:
    """The first merges of `texts` (fewer, if nothing is left to join) by the Hugging Face trainer."""
    learner = tokenizers.Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=256 + n_merges,
        special_tokens=[],
        initial_alphabet=byte_alphabet.CHARACTERS,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    pairs = json.loads(learner.to_str())["model"]["merges"]  # the library shows them nowhere else
    return [(left, right) for left, right in pairs]


def _write_corpus(texts: Iterable[str], corpus: Path) -> int:
    """Write all texts, a boundary after each; returns how many bytes of text there are."""
    n_bytes = 0
    with corpus.open("wb") as file:
        for text in texts:
            try:
                data = text.encode()
            except UnicodeEncodeError:
                data = without_lone_surrogates(text).encode()
            n_bytes += len(data)
            file.write(data + BOUNDARY)
    return n_bytes


def read_corpus(corpus: Path) -> Iterator[str]:
    """The texts of a corpus file, one after another."""
    parts: list[bytes] = []
    with corpus.open("rb") as file:
        while data := file.read(_READ_BYTES):
            first, *others = data.split(BOUNDARY)
            parts.append(first)
            for other in others:
                yield b"".join(parts).decode()
                parts = [other]
