"""How fast does a GPU write GPT-2's tokens, beside Hugging Face compiled with a static cache?

    python benchmarks/generation_gpu.py            # one NVIDIA GPU; pip install transformers

Both engines run in this process with the same random weights in bfloat16, greedy: 128 new tokens after a
prompt of 32, for one text and for 64 at once. Rounds alternate between the engines; a figure is the time of a
generation less that of its first token, so neither reading the prompt nor compiling is in it. What compiling
(Hugging Face) and capturing (ours) took at the start is printed beside.

``--device cpu --model tiny`` tries the script where there is no GPU; its figures mean nothing.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2LMHeadModel

from gpt2lab.app.bench_generate import random_gpt
from gpt2lab.checkpoint import huggingface
from gpt2lab.generation.captured import CapturedBackend
from gpt2lab.generation.decoder import Backend, TorchBackend
from gpt2lab.model.config import ModelConfig

SHAPES = {
    "tiny": {"n_layer": 2, "n_head": 2, "n_embd": 64, "vocab_size": 500},
    "gpt2": {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "gpt2-medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
    "gpt2-large": {"n_layer": 36, "n_head": 20, "n_embd": 1280},
    "gpt2-xl": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
}
Generate = Callable[[int, int], list[list[int]]]
"""(texts, new tokens) -> the tokens"""


def prompts(n_rows: int, length: int, vocab_size: int) -> list[list[int]]:
    """Another one for each text, or equal ones would be read once."""
    return [[(7 * row + token) % vocab_size for token in range(length)] for row in range(n_rows)]


def ours(backend: Backend, n_prompt: int, most_new: int) -> Generate:
    decoders: dict[int, Any] = {}

    def generate(n_rows: int, n_new: int) -> list[list[int]]:
        if n_rows not in decoders:
            decoders[n_rows] = backend.decoder(n_rows, n_prompt + most_new)
        decoder = decoders[n_rows]
        texts = prompts(n_rows, n_prompt, backend.config.vocab_size)
        hidden_BC = decoder.feed(0, texts, [0] * n_rows, [1] * n_rows)
        written = [decoder.logits(hidden_BC).argmax(dim=1).tolist()]
        for position in range(n_prompt, n_prompt + n_new - 1):
            hidden_BC = decoder.feed(0, [[token] for token in written[-1]], [position] * n_rows, [1] * n_rows)
            written.append(decoder.logits(hidden_BC).argmax(dim=1).tolist())
        return [list(row) for row in zip(*written, strict=True)]

    return generate


def hugging_face(model: GPT2LMHeadModel, n_prompt: int) -> Generate:
    def generate(n_rows: int, n_new: int) -> list[list[int]]:
        texts_BT = torch.tensor(prompts(n_rows, n_prompt, model.config.vocab_size), device=model.device)
        with torch.inference_mode():
            all_BT = model.generate(
                texts_BT, attention_mask=torch.ones_like(texts_BT), cache_implementation="static",
                do_sample=False, min_new_tokens=n_new, max_new_tokens=n_new, pad_token_id=0,
            )  # fmt: skip
        tokens: list[list[int]] = all_BT[:, n_prompt:].tolist()
        return tokens

    return generate


def seconds(generate: Generate, n_rows: int, n_new: int) -> float:
    began = time.perf_counter()
    generate(n_rows, n_new)  # ends with the tokens in main memory, so the GPU has done all of it
    return time.perf_counter() - began


def measure(
    engines: dict[str, Generate], batches: list[int], n_new: int, rounds: int
) -> list[dict[str, Any]]:
    report = []
    for n_rows in batches:
        first_run = {name: seconds(generate, n_rows, n_new) for name, generate in engines.items()}
        speeds: dict[str, list[float]] = {name: [] for name in engines}
        for number in range(rounds):
            order = list(engines.items())
            for name, generate in order if number % 2 else reversed(order):
                spent = seconds(generate, n_rows, n_new) - seconds(generate, n_rows, 1)
                speeds[name].append(n_rows * (n_new - 1) / spent)
        for name, all_speeds in speeds.items():
            line = {"texts": n_rows, "engine": name, "tokens/s": statistics.median(all_speeds)}
            ratios = [us / them for us, them in zip(speeds["gpt2lab"], all_speeds, strict=True)]
            report.append(
                line | {"gpt2lab is faster by": statistics.median(ratios), "first run s": first_run[name]}
            )
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=SHAPES, default="gpt2")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no NVIDIA GPU here: nothing to measure (--device cpu --model tiny tries the script)")
        return
    model = random_gpt(ModelConfig(**SHAPES[options.model]))
    with tempfile.TemporaryDirectory() as folder:
        huggingface.save(model, None, Path(folder) / "model")
        theirs = (
            GPT2LMHeadModel.from_pretrained(Path(folder) / "model", dtype=torch.bfloat16).to(device).eval()
        )
    model = model.to(device, torch.bfloat16)
    backend = CapturedBackend(model) if device.type == "cuda" else TorchBackend(model)
    engines = {
        "gpt2lab": ours(backend, options.prompt, options.new),
        "Hugging Face, static cache": hugging_face(theirs, options.prompt),
    }
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{options.model} on {name}, torch {torch.__version__}")
    report = measure(engines, options.batches, options.new, options.rounds)
    for line in report:
        print(
            f"{line['texts']:3} texts  {line['engine']:28} {line['tokens/s']:10,.0f} tokens/s   "
            f"gpt2lab / it {line['gpt2lab is faster by']:5.2f}   first run {line['first run s']:6.1f} s"
        )
    if options.out:
        options.out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
