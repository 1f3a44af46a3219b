"""How fast does this machine train GPT-2, beside the trainers others use?

    python benchmarks/training_speed.py --nanogpt FOLDER --llm-c FOLDER

Every trainer in every mode is a process of its own: whole steps (data, forward, backward, clipping, AdamW) of
the same shape on random tokens, with as many threads. First each is tried alone: the time of its first step,
which compiles, its speed, and the most memory it ever held. Then the rounds: ours, nanoGPT's two best
modes, Hugging Face's best and llm.c, all at rest but one, in an order shuffled anew each round; speeds are
medians of a round's steps, ratios are taken within a round, and medians of the rounds' reported. In each
round the machine's bfloat16 products are timed too: the peak is the fastest of any shape in any round.

A token takes 6 (N - wpe) + 12 L D T floating-point operations (Chowdhery et al. 2022, appendix B). On a GPU
(`--device cuda`) llm.c, which has another program for it, is left out, and profiles are of GPU kernels.

nanoGPT and llm.c are folders with their sources, as cloned. llm.c reads a checkpoint: one of random weights
is written for it.
"""

import argparse
import json
import os
import platform
import random
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent / "engines"
PATIENCE = 900  # seconds
SHAPES: dict[str, dict[str, int]] = {
    "124M": {"n_layer": 12, "n_head": 12, "n_embd": 768, "vocab_size": 50257, "batch": 4}
    | {"context_length": 256, "positions": 1024},
    "6x384, V=50257": {"n_layer": 6, "n_head": 6, "n_embd": 384, "vocab_size": 50257, "batch": 8}
    | {"context_length": 256, "positions": 256},
    "6x384, V=4096": {"n_layer": 6, "n_head": 6, "n_embd": 384, "vocab_size": 4096, "batch": 8}
    | {"context_length": 256, "positions": 256},
    "tiny": {"n_layer": 2, "n_head": 2, "n_embd": 64, "vocab_size": 512, "batch": 2}
    | {"context_length": 64, "positions": 64},
}
for _name, _layers, _heads, _width, _batch in (
    ("gpt2", 12, 12, 768, 32),
    ("gpt2-medium", 24, 16, 1024, 16),
    ("gpt2-large", 36, 20, 1280, 8),
):  # for GPUs
    SHAPES[_name] = {"n_layer": _layers, "n_head": _heads, "n_embd": _width, "vocab_size": 50257}
    SHAPES[_name] |= {"batch": _batch, "context_length": 1024, "positions": 1024}
OURS = ("default", "fast")
NANOGPT = ("eager-float32", "compiled-float32", "eager-bfloat16", "compiled-bfloat16")
HUGGINGFACE = ("float32", "bfloat16")
GROUPS = {"gpt2lab": 2, "nanogpt": 2, "huggingface": 1, "llm.c": 1}  # how many of each are in the rounds


class TrainerError(Exception):
    """A trainer cannot do what it was asked for; the message is its own."""


@dataclass(frozen=True)
class Trainer:
    """One trainer in one mode."""

    group: str
    mode: str
    folder: str = ""

    @property
    def name(self) -> str:
        """As the tables call it."""
        return f"{self.group} {self.mode}".strip()


class Worker:
    """A trainer's process. A context manager: its end is the process's end."""

    def __init__(self, trainer: Trainer, shape: dict[str, Any], n_threads: int) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        words = [trainer.group, trainer.mode, json.dumps(shape), trainer.folder]
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "training_worker.py"), *words],
            env=os.environ | {"OMP_NUM_THREADS": str(n_threads), "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        try:
            self.facts = self._answer()
        except TrainerError:
            self.__exit__()
            raise

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, **order: Any) -> dict[str, Any]:
        """One order, one answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        return self._answer()

    def steps(self, times: int) -> dict[str, Any]:
        """Take steps; their seconds, and the most memory held so far."""
        return self.ask(do="steps", times=times)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            raise TrainerError(f"no answer in {PATIENCE} s")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            said = [text for text in self.errors.read().decode(errors="replace").splitlines() if text.strip()]
            raise TrainerError(said[-1][:300] if said else f"exit code {self.process.returncode}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class LlmC:
    """llm.c's C trainer, compiled with its own flags and OpenMP; answers as a `Worker` does."""

    def __init__(self, folder: Path, shape: dict[str, Any], n_threads: int, work: Path) -> None:
        program, checkpoint = work / "llm_c", work / "llm_c.bin"
        command = [os.environ.get("CC", "gcc"), "-Ofast", "-march=native", "-fopenmp", "-DOMP", "-w"]
        command += ["-DSOURCE=" + json.dumps(str((folder / "train_gpt2.c").resolve())), f"-I{folder}"]
        subprocess.run([*command, str(HERE / "llm_c_driver.c"), "-lm", "-o", str(program)], check=True)
        write_llm_c_checkpoint(checkpoint, shape)
        words = [str(program), str(checkpoint), str(shape["batch"]), str(shape["context_length"])]
        environment = os.environ | {"OMP_NUM_THREADS": str(n_threads)}
        self.process = subprocess.Popen(
            words, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> "LlmC":
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()

    def steps(self, times: int) -> dict[str, Any]:
        """Take steps; their seconds, and the most memory held so far."""
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        self.process.stdin.write(f"{times}\n")
        self.process.stdin.flush()
        answers = [self.process.stderr.readline().split() for _ in range(times)]
        if not all(len(answer) == 2 for answer in answers):
            raise TrainerError("it has died")
        seconds = [float(answer[0]) for answer in answers]
        return {"seconds": seconds, "peak_bytes": 1024 * int(answers[-1][1])}


def write_llm_c_checkpoint(path: Path, shape: dict[str, Any]) -> None:
    """Random weights in version 3 of llm.c's format: 256 int32, float32 tensors, the vocabulary padded."""
    padded = -(-shape["vocab_size"] // 128) * 128
    sizes = [
        shape["positions"],
        shape["vocab_size"],
        shape["n_layer"],
        shape["n_head"],
        shape["n_embd"],
        padded,
    ]
    header = np.zeros(256, np.int32)
    header[: 2 + len(sizes)] = [20240326, 3, *sizes]
    c = shape["n_embd"]
    count = (padded + shape["positions"]) * c + shape["n_layer"] * (12 * c * c + 13 * c) + 2 * c
    with path.open("wb") as file:
        file.write(header.tobytes())
        file.write((0.02 * np.random.default_rng(0).standard_normal(count, np.float32)).tobytes())


def trainers(options: argparse.Namespace) -> Iterator[Trainer]:
    yield from (Trainer("gpt2lab", mode) for mode in OURS)
    if options.nanogpt:
        yield from (Trainer("nanogpt", mode, str(options.nanogpt)) for mode in NANOGPT)
    yield from (Trainer("huggingface", mode) for mode in HUGGINGFACE)
    if options.llm_c and options.device == "cpu":
        yield Trainer("llm.c", "", str(options.llm_c))


class Contest:
    """All trainers on one shape."""

    def __init__(self, options: argparse.Namespace, name: str, work: Path) -> None:
        self.name, self.options, self.work = name, options, work
        self.shape: dict[str, Any] = SHAPES[name] | {"device": options.device}
        if options.batch:
            self.shape["batch"] = options.batch
        self.tokens = self.shape["batch"] * self.shape["context_length"]
        self.failures: dict[str, str] = {}
        self.alone: dict[str, dict[str, Any]] = {}
        self.rounds: list[dict[str, Any]] = []
        self.profile: list[tuple[str, float]] = []

    def worker(self, trainer: Trainer) -> Worker | LlmC:
        """Its process."""
        if trainer.group == "llm.c":
            return LlmC(Path(trainer.folder), self.shape, self.options.threads, self.work)
        return Worker(trainer, self.shape, self.options.threads)

    def run(self) -> None:
        """Each alone, then the rounds."""
        chosen = list(trainers(self.options))
        for trainer in chosen:
            tell(f"{self.name}: {trainer.name} alone")
            try:
                with self.worker(trainer) as worker:
                    answer = worker.steps(1 if trainer.group == "llm.c" else 4)
                    speed = self.tokens / statistics.median(answer["seconds"])
                    self.alone[trainer.name] = worker.facts | answer | {"tokens/s": speed}
                    if trainer.name == "gpt2lab default" and isinstance(worker, Worker):
                        self.profile = worker.ask(do="profile")["kernels"]
            except (TrainerError, OSError, subprocess.CalledProcessError) as error:
                tell(f"{trainer.name}: {error}")
                self.failures[trainer.name] = str(error)
        working = [trainer for trainer in chosen if trainer.name in self.alone]
        working.sort(key=lambda trainer: -self.alone[trainer.name]["tokens/s"])
        for group, count in GROUPS.items():
            for loser in [trainer for trainer in working if trainer.group == group][count:]:
                working.remove(loser)
        self._rounds(working)

    def _rounds(self, working: list[Trainer]) -> None:
        with ExitStack() as held:
            workers = {trainer.name: held.enter_context(self.worker(trainer)) for trainer in working}
            for number in range(self.options.rounds):
                row: dict[str, Any] = {}
                for name in shuffled(list(workers), f"{self.name} {number}"):
                    tell(f"{self.name}: round {number + 1} of {self.options.rounds}: {name}")
                    pace = self.alone[name]["tokens/s"] / self.tokens  # steps a second
                    times = min(20, max(1, round(self.options.seconds * pace)))
                    row[name] = self.tokens / statistics.median(workers[name].steps(times)["seconds"])
                timed = next(worker for worker in workers.values() if isinstance(worker, Worker))
                row["gemm"] = timed.ask(do="gemm", seconds=0.15)
                self.rounds.append(row)

    def flops_a_token(self) -> float:
        """See the module's docstring."""
        c, layers, length = self.shape["n_embd"], self.shape["n_layer"], self.shape["context_length"]
        weights = self.shape["vocab_size"] * c + layers * (12 * c * c + 13 * c) + 2 * c
        return 6.0 * weights + 12 * layers * c * length

    def report(self) -> dict[str, Any]:
        """All figures."""
        peak = max(max(row["gemm"].values()) for row in self.rounds)
        names = [name for name in self.rounds[0] if name != "gemm"]
        speeds = {name: [row[name] for row in self.rounds] for name in names}
        ratios: dict[str, dict[str, Any]] = {}
        for ours in (name for name in names if name.startswith("gpt2lab")):
            for group in GROUPS:
                theirs = [name for name in names if name.startswith(group) and not name.startswith("gpt2lab")]
                if theirs:
                    times = [row[ours] / max(row[name] for name in theirs) for row in self.rounds]
                    ratios[f"{ours} / best of {group}"] = spread(times)
        return {
            "shape": self.shape,
            "alone": self.alone,
            "failures": self.failures,
            "tokens/s": {name: spread(found) for name, found in speeds.items()},
            "ratios": ratios,
            "gemm peak": peak,
            "share of gemm peak": {
                name: statistics.median(found) * self.flops_a_token() / peak for name, found in speeds.items()
            },
            "profile of gpt2lab default": self.profile,
            "rounds": self.rounds,
        }


def spread(values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values), "all": values}


def shuffled(names: list[str], seed: str) -> list[str]:
    order = sorted(names)
    random.Random(seed).shuffle(order)
    return order


def markdown(name: str, report: dict[str, Any]) -> str:
    lines = [f"\n{name}: products reach {report['gemm peak'] / 1e9:,.0f} GFLOP/s\n"]
    lines += ["| trainer | tokens/s | lowest to highest | of peak | alone | first step s | peak GB |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for trainer, alone in sorted(report["alone"].items(), key=lambda item: -item[1]["tokens/s"]):
        speed = report["tokens/s"].get(trainer)
        cells = [trainer, "-", "-", "-"]
        if speed:
            cells = [trainer, f"{speed['median']:,.0f}", f"{speed['lowest']:,.0f} to {speed['highest']:,.0f}"]
            cells += [f"{report['share of gemm peak'][trainer]:.0%}"]
        first = alone.get("first_step_seconds")  # of llm.c it is not timed
        cells += [f"{alone['tokens/s']:,.0f}", "-" if first is None else f"{first:.1f}"]
        cells.append(f"{alone['peak_bytes'] / 1e9:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["\n| ratio | median | lowest to highest |", "|---|---|---|"]
    for what, times in report["ratios"].items():
        lines.append(f"| {what} | {times['median']:.2f} | {times['lowest']:.2f} to {times['highest']:.2f} |")
    lines += ["", "Profile of gpt2lab default, share of a step: "]
    lines += [f"- {share:.1%} {kernel[:90]}" for kernel, share in report["profile of gpt2lab default"]]
    lines += [f"Failed: {trainer}: {reason}" for trainer, reason in report["failures"].items()]
    return "\n".join(lines)


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nanogpt", type=Path, help="folder with its model.py")
    parser.add_argument("--llm-c", type=Path, help="folder with its train_gpt2.c")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="default: the three for a CPU")
    parser.add_argument("--batch", type=int, default=0, help="sequences a step, in place of the shape's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="about so long a trainer steps in a round")
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    on_cpu = options.device == "cpu"
    names = options.shape or (list(SHAPES)[:3] if on_cpu else ["gpt2", "gpt2-medium", "gpt2-large"])
    packages = {name: version(name) for name in ("torch", "transformers", "numpy")}
    report: dict[str, Any] = {"machine": platform.platform(), "versions": packages, "shapes": {}}
    with tempfile.TemporaryDirectory() as work:
        for name in names:
            contest = Contest(options, name, Path(work))
            contest.run()
            report["shapes"][name] = contest.report()
            print(markdown(name, report["shapes"][name]), flush=True)
            if options.out:
                options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
