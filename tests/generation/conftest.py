"""Tiny random models and a small vocabulary whose tokens cut characters and words anywhere."""

import codecs

import pytest
import torch

from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT


class _StreamDecoder:
    def __init__(self, vocabulary):
        self.vocabulary = vocabulary
        self.utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token):
        return self.utf8.decode(self.vocabulary[token])

    def flush(self):
        return self.utf8.decode(b"", True)


class SmallTokenizer:
    """Single bytes, some longer pieces (a few of them parts of characters), and <|endoftext|> as the last."""

    PIECES = (b"th", b"the", b" th", b"\n\n", b"END", b"\xc3", b"\x82\xac", b"\xf0\x9f", b"a\xe2", b"stop sig")

    def __init__(self):
        self.vocabulary = [*(bytes([byte]) for byte in range(256)), *self.PIECES, b""]
        self.vocab_size = len(self.vocabulary)
        self.end_of_text = self.vocab_size - 1

    def encode(self, text, allow_special=False):
        data, tokens = text.encode(), []
        while data:
            token = max(
                (t for t, piece in enumerate(self.vocabulary) if piece and data.startswith(piece)),
                key=lambda t: len(self.vocabulary[t]),
            )
            tokens.append(token)
            data = data[len(self.vocabulary[token]) :]
        return tokens

    def decode(self, tokens):
        return b"".join(self.vocabulary[token] for token in tokens).decode("utf-8", "replace")

    def stream_decoder(self):
        return _StreamDecoder(self.vocabulary)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny matrices: a second thread only waits, above all on a busy machine."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="session")
def tokenizer():
    return SmallTokenizer()


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
