"""What do fewer bits a weight cost? Perplexity and divergence of every mode, ours and others', on one text.

    python benchmarks/quantisation_quality.py MODEL --shards DIR --peer-python gen=VENV/bin/python ...

MODEL is a trained model's directory (or a run's folder), the text the held-out split of shards or a file. It
is cut into windows of the model's context, taken evenly from all of it; every engine sees the same ones. Each
window's first token is fed as a prompt and the rest --step at a time, so that an engine computes as it does
when it decodes. Ours computes otherwise for prompts: in the lines "as a prompt" the whole window is fed at
once. CTranslate2 can only be fed so.

For each mode, beside float32 in plain PyTorch:

    bits a weight   of the blocks' matrices and the output matrix, scales included, as the engine holds them
    perplexity      and by how much it is above float32's
    KL              mean over tokens of the divergence of its distribution from float32's, in nats
    same token      how often its likeliest token is float32's

Standard errors (+-) are from the windows. The environments are those of `generation.py`.
"""

import argparse
import json
import math
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import gpt2lab
from engines.resident import EngineError, Mode, Setting, Worker, modes
from gpt2lab.base.device import cpu_label
from gpt2lab.checkpoint.runs import model_folder
from gpt2lab.data.dataset import TokenDataset
from gpt2lab.model.gpt import GPT

Tokens = NDArray[np.int64]


@dataclass
class Line:
    """One mode fed in one way, and what it gave for each window so far."""

    name: str
    mode: Mode
    first: int
    """tokens fed as a prompt"""
    losses: list[float] = field(default_factory=list)
    """mean negative log-likelihood a token, of each window"""
    divergences: list[float] = field(default_factory=list)
    agreements: list[float] = field(default_factory=list)


def windows_of(text: Tokens, context_length: int, n_tokens: int) -> list[Tokens]:
    """Windows of context_length + 1 tokens, evenly from the whole text, with n_tokens targets or more."""
    n_there = (len(text) - 1) // context_length
    n_wanted = min(math.ceil(n_tokens / context_length), n_there)
    starts = [i * n_there // n_wanted * context_length for i in range(n_wanted)]
    return [text[start : start + context_length + 1] for start in starts]


def reference(model: GPT, window: Tokens) -> tuple[Tensor, float]:
    """float32's log-probabilities (T, V) of each token of a window after the first, and its mean loss."""
    with torch.inference_mode():
        logits_TV = model(torch.from_numpy(window[None, :-1]))[0]
    return compare_with(logits_TV, window)


def compare_with(logits_TV: Tensor, window: Tokens) -> tuple[Tensor, float]:
    logs_TV = F.log_softmax(logits_TV.double(), -1)
    return logs_TV, F.nll_loss(logs_TV, torch.from_numpy(window[1:])).item()


def rate(line: Line, logits_TV: Tensor, exact_TV: Tensor, window: Tokens) -> None:
    """Add a window's figures to a line."""
    logs_TV, loss = compare_with(logits_TV, window)
    line.losses.append(loss)
    line.divergences.append((exact_TV.exp() * (exact_TV - logs_TV)).sum(-1).mean().item())
    line.agreements.append((logs_TV.argmax(-1) == exact_TV.argmax(-1)).double().mean().item())


def start(
    setting: Setting, chosen: Sequence[Mode], stack: ExitStack
) -> tuple[dict[str, Worker], dict[str, str]]:
    """The engines that run, and why others do not."""
    workers, failures = {}, {}
    for mode in chosen:
        tell(f"starting {mode.name}")
        try:
            setting.prepare(mode)
            workers[mode.name] = stack.enter_context(Worker(setting, mode))
        except EngineError as error:
            failures[mode.name] = str(error)
            tell(f"left out: {error}")
    return workers, failures


def lines_of(chosen: Sequence[Mode], context_length: int) -> list[Line]:
    lines = []
    for mode in chosen:
        if mode.kind == "of_ctranslate2":
            lines.append(Line(f"{mode.name}, as a prompt", mode, context_length))
            continue
        lines.append(Line(mode.name, mode, 1))
        if mode.ours:
            lines.append(Line(f"{mode.name}, as a prompt", mode, context_length))
    return lines


def measure(
    model: GPT, workers: dict[str, Worker], lines: list[Line], windows: list[Tokens], step: int
) -> list[float]:
    """Fill the lines window by window; returns float32's mean loss of each."""
    exact_losses = []
    began = time.monotonic()
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        for n, window in enumerate(windows):
            exact_TV, loss = reference(model, window)
            exact_losses.append(loss)
            for line in lines:
                order = {"do": "score", "tokens": window[:-1].tolist(), "first": line.first, "step": step}
                workers[line.mode.name].ask(order | {"out": file.name})
                rate(line, torch.from_numpy(np.load(file.name)), exact_TV, window)
            left = (time.monotonic() - began) / (n + 1) * (len(windows) - n - 1)
            tell(f"window {n + 1} of {len(windows)}, {left / 60:.0f} minutes left")
    return exact_losses


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    spread = statistics.stdev(values) if len(values) > 1 else math.nan
    return statistics.fmean(values), spread / math.sqrt(len(values))


def figures(line: Line, facts: dict[str, Any], exact_losses: Sequence[float]) -> dict[str, Any]:
    loss, _ = mean_and_error(line.losses)
    above, above_error = mean_and_error([a - b for a, b in zip(line.losses, exact_losses, strict=True)])
    divergence, divergence_error = mean_and_error(line.divergences)
    return {
        "name": line.name,
        "group": line.mode.group,
        "bits a weight": 8 * facts["stored_bytes"] / facts["n_weights"],
        "perplexity": math.exp(loss),
        "above float32, %": 100 * math.expm1(above),
        "above float32, % (+-)": 100 * above_error,
        "KL": divergence,
        "KL (+-)": divergence_error,
        "same token": statistics.fmean(line.agreements),
        "losses": line.losses,
        "divergences": line.divergences,
    }


def markdown(report: dict[str, Any]) -> str:
    exact = report["float32"]
    parts = ["| mode | bits a weight | perplexity | above float32 | KL, nats a token | same token |"]
    parts.append("|---|---|---|---|---|---|")
    parts.append(f"| float32 | 32 | {exact['perplexity']:.3f} (+- {exact['+-']:.2f}) | | | |")
    for row in sorted(report["modes"], key=lambda row: (row["group"], row["KL"])):
        parts.append(
            f"| {row['name']} | {row['bits a weight']:.2f} | {row['perplexity']:.3f} "
            f"| {row['above float32, %']:+.3f} % (+- {row['above float32, % (+-)']:.3f}) "
            f"| {row['KL']:.2e} (+- {row['KL (+-)']:.0e}) | {row['same token']:.2%} |"
        )
    parts += [f"\nNot run: {name}: {reason}" for name, reason in report["failures"].items()]
    return "\n".join(parts)


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a Hugging Face directory or a training run's folder")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--shards", type=Path, help="a folder of token shards, of which the val split is read"
    )
    source.add_argument("--text", type=Path, help="a text file")
    parser.add_argument("--tokens", type=int, default=61_440, help="to score, at least (default: 61440)")
    parser.add_argument("--step", type=int, default=32, help="tokens fed at once (default: 32)")
    parser.add_argument("--peer-python", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--only", default="", help="a regular expression: modes to run (default: all)")
    parser.add_argument("--work", type=Path, help="keep converted models here (default: thrown away)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    environments = dict(pair.split("=", 1) for pair in options.peer_python)
    folder = model_folder(options.model)
    model, tokenizer = gpt2lab.load(folder)
    torch.set_num_threads(options.threads)
    if options.shards:
        dataset = TokenDataset.open(options.shards, "val")
        text = dataset.stream(0, dataset.n_tokens)
    else:
        assert tokenizer is not None, "a text needs the model's vocabulary"
        text = np.array(tokenizer.encode(options.text.read_text(encoding="utf-8")), np.int64)
    windows = windows_of(text, model.config.context_length, options.tokens)
    with tempfile.TemporaryDirectory() as thrown_away, ExitStack() as stack:
        setting = Setting(folder, options.work or Path(thrown_away), environments, options.threads)
        chosen = [mode for mode in modes(environments) if re.search(options.only, mode.name)]
        workers, failures = start(setting, chosen, stack)
        running = [mode for mode in chosen if mode.name in workers]
        lines = lines_of(running, model.config.context_length)
        exact_losses = measure(model, workers, lines, windows, options.step)
        facts = {name: worker.facts for name, worker in workers.items()}
    loss, error = mean_and_error(exact_losses)
    report = {
        "machine": cpu_label(),
        "versions": dict(pair for fact in facts.values() for pair in fact["versions"].items()),
        "tokens scored": sum(len(window) - 1 for window in windows),
        "windows": len(windows),
        "float32": {"perplexity": math.exp(loss), "+-": math.exp(loss) * error, "losses": exact_losses},
        "modes": [figures(line, facts[line.mode.name], exact_losses) for line in lines],
        "failures": failures,
    }
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{report['tokens scored']:,} tokens in {len(windows)} windows; {json.dumps(report['versions'])}\n")
    print(markdown(report))


if __name__ == "__main__":
    main()
