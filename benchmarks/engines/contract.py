"""What every engine of the generation benchmarks can do, however different they are inside.

A subclass loads one model in one precision and answers `feed`; decoding and scoring follow from it. An
engine that cannot be fed token by token overrides those instead. Only numpy is needed here, because every
engine runs in a Python environment of its own.

Axes: B sequences, T tokens of each, V vocabulary.
"""

import itertools
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]
Scores = NDArray[np.float32]


class Decoded(NamedTuple):
    """One greedy decoding: the first new token comes with the prompt, the others one a step."""

    prompt_seconds: float
    decode_seconds: float
    tokens: list[list[int]]


class Engine:
    """One model in one precision; all sequences of a call have the same length."""

    packages: tuple[str, ...] = ()
    """whose versions the report names"""
    weight_bytes: int = 0
    """of the matrices that every new token is multiplied with, scales included; no matrix counted twice"""
    stored_bytes: int = 0
    """the same with what is kept besides and not read for every token; `weight_bytes` where it is all"""

    def __init__(self, model: Path, work: Path, mode: str, n_threads: int) -> None:
        self.shape: dict[str, Any] = json.loads((model / "config.json").read_text())
        self.n_threads = n_threads

    @staticmethod
    def prepare(model: Path, work: Path, mode: str) -> None:
        """Write, once, the files that the engine reads instead of the Hugging Face directory."""

    def choices(self) -> list[str]:
        """Settings of which the fastest is a matter of the task; the benchmark tries each."""
        return [""]

    def choose(self, choice: str) -> None:
        """Use one of `choices` from the next `start` on; "" stands for the first."""

    def start(self, n_rows: int, n_slots: int) -> None:
        """Empty the cache and make room for n_rows sequences of n_slots tokens."""
        raise NotImplementedError

    def feed(self, tokens_BT: Tokens, every: bool = False) -> Scores:
        """Add tokens to all sequences.

        Returns:
            Scores (B, V) after the last token, or (B, T, V) after every one.
        """
        raise NotImplementedError

    def decode(self, prompts_BT: Tokens, n_new: int) -> Decoded:
        """Greedy."""
        n_rows, n_prompt = prompts_BT.shape
        self.start(n_rows, n_prompt + n_new)
        tokens_NB = np.empty((n_new, n_rows), np.int64)
        began = time.perf_counter()
        tokens_NB[0] = self.feed(prompts_BT).argmax(-1)
        answered = time.perf_counter()
        for n in range(1, n_new):
            tokens_NB[n] = self.feed(tokens_NB[n - 1, :, None]).argmax(-1)
        ended = time.perf_counter()
        return Decoded(answered - began, ended - answered, tokens_NB.T.tolist())

    def score(self, tokens_T: Tokens, first: int, step: int) -> Scores:
        """(T, V) scores after every token of a text: the first tokens fed at once, then `step` at a time."""
        self.start(1, len(tokens_T))
        cuts = [0, *range(first, len(tokens_T), step), len(tokens_T)]
        parts = [self.feed(tokens_T[None, a:b], every=True)[0] for a, b in itertools.pairwise(cuts)]
        return np.concatenate(parts)

    def n_weights(self) -> int:
        """How many weights `weight_bytes` are for: all of the blocks' matrices and of the output matrix."""
        shape = self.shape
        width = shape["n_embd"]
        inner = shape.get("n_inner") or 4 * width
        blocks: int = shape["n_layer"] * width * (4 * width + 2 * inner)
        return blocks + shape["vocab_size"] * width
