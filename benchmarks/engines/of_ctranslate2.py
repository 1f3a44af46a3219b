"""CTranslate2: its own generation loop, told to report every token as it comes."""

import json
import os
import time
from pathlib import Path

import numpy as np
from contract import Decoded, Engine, Scores, Tokens

CODE_BYTES = {"int8": 1, "int8_float32": 1, "int16": 2, "float32": 4, "bfloat16": 2, "int8_bfloat16": 1}


class CTranslate2(Engine):
    """A mode is one of CTranslate2's compute types."""

    packages = ("ctranslate2",)

    def __init__(self, model: Path, work: Path, mode: str, n_threads: int) -> None:
        import ctranslate2

        super().__init__(model, work, mode, n_threads)
        files = str(folder(work, mode))
        self.generator = ctranslate2.Generator(
            files, device="cpu", compute_type=mode, inter_threads=1, intra_threads=n_threads
        )
        self.words: list[str] = json.loads((folder(work, mode) / "vocabulary.json").read_text())
        width, inner = self.shape["n_embd"], self.shape.get("n_inner") or 4 * self.shape["n_embd"]
        n_rows = self.shape["vocab_size"] + self.shape["n_layer"] * (5 * width + inner)
        scales = 4 * n_rows if mode.startswith("int") else 0
        self.weight_bytes = self.n_weights() * CODE_BYTES[mode] + scales

    @staticmethod
    def prepare(model: Path, work: Path, mode: str) -> None:
        """See `Engine.prepare`."""
        import ctranslate2
        from ctranslate2.converters import TransformersConverter

        if mode not in ctranslate2.get_supported_compute_types("cpu"):
            raise ValueError(f"CTranslate2 has no {mode} on this processor")
        if folder(work, mode).exists():
            return

        part = folder(work, f"{mode}.part")
        TransformersConverter(str(model)).convert(str(part), quantization=mode, force=True)
        part.rename(folder(work, mode))

    def decode(self, prompts_BT: Tokens, n_new: int) -> Decoded:
        """See `Engine.decode`."""
        prompts = [[self.words[token] for token in row] for row in prompts_BT.tolist()]
        arrived: list[list[float]] = [[] for _ in range(n_new)]

        def note(step: object) -> bool:
            arrived[step.step].append(time.perf_counter())  # type: ignore[attr-defined]
            return False

        began = time.perf_counter()
        results = self.generator.generate_batch(
            prompts, max_length=n_new, min_length=n_new, include_prompt_in_result=False, callback=note
        )
        first = max(arrived[0])
        return Decoded(
            first - began, max(arrived[-1]) - first, [result.sequences_ids[0] for result in results]
        )

    def score(self, tokens_T: Tokens, first: int, step: int) -> Scores:
        """See `Engine.score`; always the whole text at once, because there is no way to feed a part."""
        words = [[self.words[token] for token in tokens_T.tolist()]]
        scores_BTV: Scores = np.array(self.generator.forward_batch(words))
        return scores_BTV[0]


def folder(work: Path, mode: str) -> Path:
    return work / f"ctranslate2-{mode}"


os.environ.setdefault("CT2_VERBOSE", "-1")
ENGINE = CTranslate2
