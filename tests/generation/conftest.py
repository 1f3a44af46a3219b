"""Tiny random models and a small vocabulary whose tokens cut characters and words anywhere."""

import pytest
import torch

from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import WordLevelTokenizer, train_bpe
from gpt2lab.tokenizer.vocabulary import Vocabulary


@pytest.fixture(scope="session")
def tokenizer():
    """GPT-2's kind; of its longer tokens some are words, some parts of characters, some both."""
    text = "the END of the stop sign costs 1€ or 2€ at the café\n\nof Zoë 😀 and the thé 😃 END\n\n"
    return train_bpe([text] * 5, 300)


@pytest.fixture(scope="session")
def word_tokenizer():
    """GPT-1's kind: it has no end-of-text token, and a space is written only between words."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ("<unk>", *letters, *(letter + "</w>" for letter in letters))
    return WordLevelTokenizer(Vocabulary("gpt1", tokens, (), {"<unk>": 0}))


@pytest.fixture(scope="session")
def make_model(tokenizer):
    """A maker of random models whose choices depend on the whole text; no bias is zero."""

    def make(**changes):
        shape = {"vocab_size": tokenizer.vocab_size, "context_length": 64, "n_layer": 2, "n_head": 4}
        model = GPT(ModelConfig(**(shape | {"n_embd": 32} | changes)))
        generator = torch.Generator().manual_seed(7)
        for name, parameter in model.named_parameters():
            noise = torch.empty_like(parameter).normal_(std=0.25, generator=generator)
            parameter.data = noise + 1 if "ln_" in name and name.endswith("weight") else noise
        return model.eval()

    return make


@pytest.fixture
def model(make_model):
    return make_model().double()


@pytest.fixture
def short_model(make_model):
    """A context of 16 tokens, soon full."""
    return make_model(context_length=16).double()


@pytest.fixture(scope="session")
def visible():
    """What a model sees of a text that grew token by token: halved whenever it did not fit the context."""

    def window(tokens, n_prompt, context_length):
        start = 0
        for n in range(n_prompt, len(tokens) + 1):
            if n - start > context_length:
                start = n - max(1, context_length // 2)
        return tokens[start:]

    return window
