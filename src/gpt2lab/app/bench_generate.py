"""How fast this machine writes a model's tokens, beside how fast it reads the weights.

A token at batch 1 needs every weight once and hardly computes anything with it, so the speed of memory is
the limit: weights in bytes over bytes a second is the least time it can take.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from gpt2lab.generation.backends import PrecisionChoice, backend_for
from gpt2lab.generation.cpu_engine import CpuEngine
from gpt2lab.generation.decoder import Backend
from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT

PROMPT_TOKENS = 32
ROUNDS = 5


@dataclass(frozen=True)
class Speed:
    """One precision of one model on this machine; medians of some rounds."""

    precision: PrecisionChoice
    engine: str
    token_bytes: int
    """of weights, read for each token of one text"""
    first_token_seconds: float
    """from a prompt of 32 tokens to the first new one, the model being loaded"""
    tokens_per_second: float
    """of one text"""
    batched_tokens_per_second: float
    """of all texts of a batch together"""
    read_bytes_per_second: float | None
    """of weights, by the same threads, doing nothing else with them; None for PyTorch"""

    @property
    def bytes_per_second(self) -> float:
        """Bytes of weights that one text's tokens need each second."""
        return self.token_bytes * self.tokens_per_second


def random_gpt(config: ModelConfig) -> GPT:
    """A model of that shape for timing: speed does not depend on what the weights are."""
    return GPT(config).initialise(torch.Generator().manual_seed(0)).eval()


def measure(
    model: GPT,
    device: torch.device,
    precisions: Sequence[PrecisionChoice],
    new_tokens: int,
    batch: int,
) -> Iterator[Speed]:
    """The speed of each precision, one after another.

    Args:
        model: its context holds the prompt of 32 tokens and `new_tokens`.
        device: where to compute.
        precisions: see `backend_for`.
        new_tokens: greedy tokens a text.
        batch: texts written together for `batched_tokens_per_second`.

    Raises:
        UserError: a precision is not to be had on `device`.
    """
    for precision in precisions:
        backend = backend_for(model, device, precision)
        rounds = [_decode(backend, 1, new_tokens) for _ in range(ROUNDS)]
        batched = [_decode(backend, batch, new_tokens) for _ in range(ROUNDS)]
        engine = backend if isinstance(backend, CpuEngine) else None
        yield Speed(
            precision,
            "PyTorch" if engine is None else f"CPU engine ({engine.variant.name})",
            sum(p.nbytes for p in model.parameters()) if engine is None else engine.token_bytes,
            statistics.median(first for first, _ in rounds),
            statistics.median((new_tokens - 1) / rest for _, rest in rounds),
            statistics.median(batch * (new_tokens - 1) / rest for _, rest in batched),
            None if engine is None else statistics.median(_reading_speed(engine) for _ in range(ROUNDS)),
        )


def _decode(backend: Backend, n_rows: int, new_tokens: int) -> tuple[float, float]:
    """Seconds to the first token of `n_rows` greedy texts, and from there to the last."""
    decoder = backend.decoder(n_rows, PROMPT_TOKENS + new_tokens)
    prompt = [token % backend.config.vocab_size for token in range(PROMPT_TOKENS)]
    started = time.perf_counter()
    hidden_BC = decoder.feed(0, [prompt] * n_rows, [0] * n_rows, [1] * n_rows)
    tokens = decoder.logits(hidden_BC).argmax(dim=1).tolist()
    first = time.perf_counter()
    for position in range(PROMPT_TOKENS, PROMPT_TOKENS + new_tokens - 1):
        hidden_BC = decoder.feed(0, [[token] for token in tokens], [position] * n_rows, [1] * n_rows)
        tokens = decoder.logits(hidden_BC).argmax(dim=1).tolist()
    return first - started, time.perf_counter() - first


def _reading_speed(engine: CpuEngine) -> float:
    started = time.perf_counter()
    engine.read_weights()
    return engine.token_bytes / (time.perf_counter() - started)
