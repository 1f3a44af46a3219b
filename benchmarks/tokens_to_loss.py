"""How many tokens AdamW and Muon take to the same held-out loss.

    python benchmarks/tokens_to_loss.py --data BOOKS --work FOLDER

A model of 3 million parameters reads books, 10 tokens a parameter; the learning rate falls to 0 at the end
of each run, however long it is. Muon may read `--share` of AdamW's tokens. Both are tuned: learning rates in
runs of a tenth of the length, for AdamW also warm-up, beta2 and decay around the best one; at full length the
rates again, decay, which works by rate times steps and so needs that length, and for Muon the rate of what
AdamW does there. Then both train with three seeds, and `gpt2lab compare` judges and draws.

An interrupted call goes on where it was: all runs stay in --work. They take some hours; `--workers` of them
go side by side, with a thread each.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpt2lab.training.run import RunFolder

VOCABULARY, CONTEXT, BATCH_TOKENS = 2432, 128, 8192
MODEL = {"vocab_size": VOCABULARY, "context_length": CONTEXT, "n_layer": 3, "n_head": 2, "n_embd": 256}
TOKENS_A_PARAMETER, SEEDS, A_TENTH = 10, (1, 2, 3), 1 / 10


@dataclass(frozen=True)
class Setting:
    """One run."""

    optimizer: str
    steps: int
    learning_rate: float
    muon_learning_rate: float = 0.04
    factor: float = 1.0  # of both rates
    beta2: float = 0.95
    weight_decay: float = 0.1
    warmup: float = 0.025  # share of the steps
    seed: int = 1

    @property
    def name(self) -> str:
        """Of its folder."""
        rates = f"{self.factor * self.learning_rate:g}"
        if self.optimizer == "muon":
            rates += f"-{self.factor * self.muon_learning_rate:g}"
        rest = f"b{self.beta2:g}-d{self.weight_decay:g}-w{self.warmup:g}-s{self.seed}"
        return f"{self.optimizer}-{self.steps}-lr{rates}-{rest}"

    def options(self) -> list[str]:
        """Of `gpt2lab train`."""
        given = {
            "optimizer.name": self.optimizer,
            "optimizer.learning-rate": self.factor * self.learning_rate,
            "optimizer.beta2": self.beta2,
            "optimizer.weight-decay": self.weight_decay,
            "schedule.steps": self.steps,
            "schedule.warmup-steps": round(self.warmup * self.steps),
            "seed": self.seed,
        }
        if self.optimizer == "muon":
            given["optimizer.muon-learning-rate"] = self.factor * self.muon_learning_rate
        return [word for name, value in given.items() for word in (f"--{name}", str(value))]


class Contest:
    """All runs, each made once."""

    def __init__(self, work: Path, workers: int) -> None:
        self.work = work
        self.pool = ThreadPoolExecutor(workers)

    def final_losses(self, settings: Iterable[Setting]) -> dict[Setting, float]:
        """Make those runs that are not there yet; the held-out loss at the end of each, nats a token."""
        chosen = list(dict.fromkeys(settings))
        return dict(zip(chosen, self.pool.map(self._final_loss, chosen), strict=True))

    def seeds(self, setting: Setting) -> list[Setting]:
        """It with each seed, trained."""
        return list(self.final_losses(replace(setting, seed=seed) for seed in SEEDS))

    def folder(self, setting: Setting) -> Path:
        """Where a run lies."""
        return self.work / "runs" / setting.name

    def _final_loss(self, setting: Setting) -> float:
        folder = self.folder(setting)
        last = self._last_validation(setting)
        if last is None:
            folder.parent.mkdir(exist_ok=True)
            arguments = [str(folder)] if (folder / "recipe.toml").exists() else self._first(setting)
            command = [sys.executable, "-m", "gpt2lab", "train", *arguments]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            with (self.work / f"{setting.name}.log").open("a") as log:
                subprocess.run(command, env=environment, stdout=log, stderr=log, check=True)
            last = self._last_validation(setting)
            assert last is not None
            print(f"{setting.name}: {last:.4f}", file=sys.stderr, flush=True)
        return last

    def _first(self, setting: Setting) -> list[str]:
        return [str(self.work / "base.toml"), "--out", str(self.folder(setting)), *setting.options()]

    def _last_validation(self, setting: Setting) -> float | None:
        validations = validations_of(self.folder(setting))
        return validations[-1]["loss"] if validations and validations[-1]["step"] == setting.steps else None

    def tokens_per_s(self, setting: Setting) -> float:
        """Median over a run."""
        rows = RunFolder(self.folder(setting)).metrics()
        return statistics.median(row["tokens_per_s"] for row in rows if row["kind"] == "train")


def validations_of(run: Path) -> list[dict[str, Any]]:
    """What a run, begun or not, has measured on held-out text."""
    return [row for row in RunFolder(run).metrics() if row["kind"] == "validation"]


def prepare(books: Path, work: Path) -> None:
    """Vocabulary, shards and the recipe that all runs begin with."""
    import tomli_w

    from gpt2lab.corpus.build import build_shards
    from gpt2lab.corpus.documents import read_documents
    from gpt2lab.tokenizer import load_tokenizer, train_bpe

    work.mkdir(parents=True, exist_ok=True)
    vocabulary, shards = work / "vocabulary", work / "shards"
    if not vocabulary.exists():
        texts = (document.text for n, document in enumerate(read_documents([books])) if n % 4 == 0)
        train_bpe(texts, VOCABULARY).save(vocabulary)
    if not shards.exists():
        tokenizer = load_tokenizer(vocabulary)
        documents = read_documents([books])
        build_shards(documents, tokenizer, shards, validation_fraction=0.03, sources=["books"])
    recipe = {
        "batch_tokens": BATCH_TOKENS,
        "micro_batch": 32,
        "log_every": 20,
        "validate_every": 250,
        "validate_tokens": 131_072,
        "save_every": 500,
        "model": MODEL,
        "data": {"path": str(shards.absolute()), "tokenizer": str(vocabulary.absolute())},
        "schedule": {"decay": "linear", "final_fraction": 0.0},
    }
    (work / "base.toml").write_text(tomli_w.dumps(recipe))


def best(losses: dict[Setting, float]) -> Setting:
    return min(losses, key=lambda setting: losses[setting])


Axes = dict[str, tuple[float, ...]]


def tune(contest: Contest, start: Setting, axes: Axes) -> Setting:
    """One axis after another, each from where the one before led; the first goes on while its end is best."""
    found = start
    for number, (axis, values) in enumerate(axes.items()):
        tried = {getattr(found, axis), *values}
        while True:
            losses = contest.final_losses(replace(found, **{axis: value}) for value in sorted(tried))
            winner = getattr(best(losses), axis)
            if number or min(tried) < winner < max(tried):
                break
            tried.add(2 * winner if winner == max(tried) else winner / 2)
        found = best(losses)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder of books")
    parser.add_argument("--work", type=Path, required=True, help="keeps everything")
    parser.add_argument("--share", type=float, default=0.6, help="of AdamW's tokens that Muon may read")
    parser.add_argument("--workers", type=int, default=2, help="runs side by side")
    args = parser.parse_args()
    from gpt2lab.cli.compare import main as compare
    from gpt2lab.model.config import ModelConfig, count_parameters

    prepare(args.data, args.work)
    contest = Contest(args.work, args.workers)
    parameters = count_parameters(ModelConfig(**MODEL))
    steps = -(-TOKENS_A_PARAMETER * parameters // BATCH_TOKENS)
    fewer = int(args.share * steps)

    rates = {"learning_rate": (0.001, 0.002, 0.004, 0.008)}
    around = {"warmup": (0.025, 0.1, 0.3, 0.5), "beta2": (0.9, 0.95, 0.99), "weight_decay": (0.03, 0.1, 0.3)}
    of_muon = {"muon_learning_rate": (0.02, 0.04, 0.08), "learning_rate": (0.005, 0.01, 0.02)}
    at_length = {"factor": (0.5, 1.0), "weight_decay": (0.01, 0.03, 0.1)}
    muon_at_length = at_length | {"learning_rate": (0.01, 0.02, 0.04)}

    def tuned(start: Setting, axes: Axes, axes_at_length: Axes, steps: int) -> list[Setting]:
        short = tune(contest, replace(start, steps=round(A_TENTH * steps)), axes)
        return contest.seeds(tune(contest, replace(short, steps=steps), axes_at_length))

    with ThreadPoolExecutor(1) as beside:  # the workers take what either asks for
        muon = beside.submit(tuned, Setting("muon", 0, 0.01), of_muon, muon_at_length, fewer)
        adamw = tuned(Setting("adamw", 0, 0.002, warmup=0.1), rates | around, at_length, steps)
        of_each = [adamw, muon.result()]

    print(f"{parameters:,} parameters, {steps * BATCH_TOKENS:,} tokens\n\n| run | held-out loss |\n|---|---|")
    for folder in sorted((args.work / "runs").iterdir()):
        if validations := validations_of(folder):
            print(f"| {folder.name} | {validations[-1]['loss']:.4f} at step {validations[-1]['step']:,} |")
    for setting, *_ in of_each:
        seconds = setting.steps * BATCH_TOKENS / contest.tokens_per_s(setting)
        print(f"\n{setting.name}: {seconds / 60:.1f} minutes at its median speed", end="")
    print("\n", flush=True)
    folders = [str(contest.folder(setting)) for settings in of_each for setting in settings]
    compare([*folders, "--out", str(args.work / "tokens_to_loss.png")])


if __name__ == "__main__":
    main()
