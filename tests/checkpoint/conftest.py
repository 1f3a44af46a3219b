"""Random `transformers` models to be compared with, and small models of ours to be saved."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn

from gpt2lab.model.config import Architecture, ModelConfig
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import Tokenizer, train_bpe

MakeReference = Callable[..., Any]


def randomise(parameters: Iterable[tuple[str, nn.Parameter]], seed: int) -> None:
    """Weights far from their initial values: biases not 0, gains not 1, logits of a few units."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in parameters:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.dim() == 2:
                parameter.copy_(
                    noise * (0.3 if "wte" in name or "embed" in name else parameter.shape[0] ** -0.5)
                )
            else:
                parameter.copy_(0.3 * noise + (1.0 if "ln_" in name and name.endswith("weight") else 0.0))


def _make_reference(
    architecture: Architecture, seed: int = 0, dtype: torch.dtype = torch.float32, **options: Any
) -> Any:
    import transformers

    sizes = {"vocab_size": 61, "n_positions": 16, "n_layer": 2, "n_head": 2, "n_embd": 16}
    ids = {"bos_token_id": 3, "eos_token_id": 3}
    if architecture == "gpt2":
        config: Any = transformers.GPT2Config(**{**sizes, **ids, **options})
        model: Any = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.OpenAIGPTConfig(**{**sizes, **ids, **options})
        model = transformers.OpenAIGPTLMHeadModel(config)
    model = model.to(dtype).eval()
    randomise(model.named_parameters(), seed)
    return model


@pytest.fixture(scope="session")
def make_reference() -> MakeReference:
    """A function that builds a `transformers` model with random weights."""
    return _make_reference


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A vocabulary of 270 tokens."""
    return train_bpe(["the cat sat on the mat, and the other cat sat on that cat. "] * 50, vocab_size=270)


@pytest.fixture
def model() -> GPT:
    """A small GPT-2 of ours, its vocabulary rounded up from that of `tokenizer`."""
    config = ModelConfig(vocab_size=300, context_length=24, n_layer=2, n_head=4, n_embd=32)
    model = GPT(config)
    randomise(model.named_parameters(), seed=1)
    return model.eval()
