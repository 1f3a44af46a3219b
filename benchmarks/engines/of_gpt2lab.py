"""Ours: the CPU engine by its decoder, and by the public `stream` with all that it does for a text."""

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from contract import Decoded, Engine, Scores, Tokens

import gpt2lab
from gpt2lab.generation.cpu_engine import CpuDecoder, CpuEngine
from gpt2lab.generation.engine import stream
from gpt2lab.generation.options import SamplingOptions
from gpt2lab.tokenizer import Tokenizer

# Bits a weight of the blocks, and of the output matrix as it is read and as it is stored.
BITS = {
    "bf16": (16.0, 16.0, 16.0),
    "int8": (8.5, 8.5, 8.5),
    "int4": (4.5, 8.5, 8.5),
    "int4-fast": (4.5, 4.5, 4.5 + 8.5),
}


class Gpt2lab(Engine):
    """`CpuEngine`. A mode is its precision; the choice "stream" stands for the public function."""

    packages = ("gpt2lab", "torch", "numpy")

    def __init__(self, model: Path, work: Path, mode: str, n_threads: int) -> None:
        super().__init__(model, work, mode, n_threads)
        self.by_stream = False
        torch.set_num_threads(n_threads)
        weights, tokenizer = gpt2lab.load(model)
        self.tokenizer = GivenTokens(tokenizer)
        self.engine = CpuEngine(weights, mode, n_threads)  # type: ignore[arg-type]
        block_bits, head_bits, stored_bits = BITS[mode]
        self.weight_bytes = self._count(block_bits, head_bits)
        self.stored_bytes = self._count(block_bits, stored_bits)
        # Matrices are padded to whole panels.
        assert self.weight_bytes <= self.engine.token_bytes < 1.1 * self.weight_bytes + 4e6, (
            "the engine packs weights in another way"
        )
        self.decoders: dict[tuple[int, int], CpuDecoder] = {}

    def _count(self, block_bits: float, head_bits: float) -> int:
        head = self.shape["vocab_size"] * self.shape["n_embd"]
        return int((block_bits * (self.n_weights() - head) + head_bits * head) / 8)

    def choose(self, choice: str) -> None:
        """See `Engine.choose`."""
        self.by_stream = choice == "stream"

    def start(self, n_rows: int, n_slots: int) -> None:
        """See `Engine.start`."""
        if (n_rows, n_slots) not in self.decoders:
            self.decoders[n_rows, n_slots] = self.engine.decoder(n_rows, n_slots)
        self.decoder = self.decoders[n_rows, n_slots]
        self.n_fed = 0

    def feed(self, tokens_BT: Tokens, every: bool = False) -> Scores:
        """See `Engine.feed`."""
        B, T = tokens_BT.shape
        hidden_NC = self.decoder.feed(0, tokens_BT.tolist(), [self.n_fed] * B, [T if every else 1] * B)
        self.n_fed += T
        scores_NV: Scores = self.decoder.logits(hidden_NC).numpy()
        return scores_NV.reshape(B, T, -1) if every else scores_NV

    def decode(self, prompts_BT: Tokens, n_new: int) -> Decoded:
        """See `Engine.decode`."""
        if not self.by_stream:
            return super().decode(prompts_BT, n_new)
        prompts = [json.dumps(prompt) for prompt in prompts_BT.tolist()]
        options = SamplingOptions(temperature=0, max_new_tokens=n_new, min_new_tokens=n_new, seed=0)
        arrived: dict[int, list[float]] = defaultdict(list)
        tokens: dict[int, list[int]] = {}
        began = time.perf_counter()
        for piece in stream(self.engine, self.tokenizer, prompts, options):  # type: ignore[arg-type]
            arrived[piece.index].append(time.perf_counter())
            if piece.completion is not None:
                tokens[piece.index] = piece.completion.tokens
        first = max(times[0] for times in arrived.values())
        last = max(times[-1] for times in arrived.values())
        return Decoded(first - began, last - first, [tokens[i] for i in range(len(prompts))])


class GivenTokens:
    """A tokenizer that takes a prompt's tokens as they are, so that every engine gets the same."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        assert tokenizer is not None, "the model's folder has no vocabulary"
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        """Tokens written as JSON; other words as always."""
        return list(json.loads(text)) if text.startswith("[") else self._tokenizer.encode(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


ENGINE = Gpt2lab
