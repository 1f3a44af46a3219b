"""How fast does a CPU write GPT-2's tokens, beside the engines others use?

    python benchmarks/generation.py --peer-python gen=VENV/bin/python --peer-python ov=VENV/bin/python

Every engine in every precision is a process of its own, all with the same weights, threads and cores; those
not measured sleep (the share of a core that they used all the same is reported). The tasks, all greedy:

    batch 1     128 new tokens after a prompt of 32; time of the 127 steps after the first token
    batch 16    the same for 16 prompts at once; tokens of all of them
    prefill     a prompt of 512, up to its first new token

Rounds: each runs every engine once, in an order shuffled anew. Before and after each engine the speed of
reading memory is probed, over 500 MB and over as many bytes as the engine reads for a token. It drifts where
machines are shared, so engines are compared within a round only, and ratios are medians of the rounds'. Where
an engine has settings of which the best is a matter of the task, each is tried first. Loading, and the time
from starting a process to its first token, are measured in fresh processes, files in the page cache.

Environments of the peers (pip install): gen: llama-cpp-python gguf ctranslate2 transformers torch;
ov: optimum-intel[openvino] nncf. Further builds of llama.cpp may be given as llama-NAME=PYTHON; they replace
gen's. What cannot run is named with the reason and left out.
"""

import argparse
import json
import platform
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engines.resident import EngineError, Mode, Probe, Setting, Worker, modes

SIZES = {  # n_layer, n_head, n_embd
    "gpt2": (12, 12, 768),
    "gpt2-medium": (24, 16, 1024),
    "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600),
}
PROBE_BYTES = 500e6
SETTLE_SECONDS = 0.5  # threads that spin for a while after their work have gone to sleep by then
STREAM = "gpt2lab {} by stream()"


@dataclass(frozen=True)
class Task:
    """What is measured."""

    name: str
    n_rows: int
    n_prompt: int
    n_new: int
    times: int
    """how often within a round, of which the median is taken"""

    def order(self, vocab_size: int) -> dict[str, Any]:
        """What to tell an engine's process."""
        prompts = np.random.default_rng(0).integers(vocab_size - 1, size=(self.n_rows, self.n_prompt))
        return {"do": "decode", "prompts": prompts.tolist(), "new": self.n_new, "times": self.times}

    def speed(self, answer: dict[str, Any]) -> float:
        """Tokens a second."""
        if self.n_new == 1:
            return self.n_prompt * self.n_rows / float(answer["prompt_seconds"])
        return (self.n_new - 1) * self.n_rows / float(answer["decode_seconds"])


def tasks(n_new: int) -> list[Task]:
    return [
        Task("batch 1", 1, 32, n_new, 1),
        Task("batch 16", 16, 32, n_new, 1),
        Task("prefill", 1, 512, 1, 5),
    ]


class Contest:
    """The engines that run, what was chosen for them, and why others do not."""

    def __init__(self, setting: Setting, chosen: list[Mode], the_tasks: list[Task], vocab_size: int) -> None:
        self.setting = setting
        self.tasks = the_tasks
        self.vocab_size = vocab_size
        self.failures: dict[str, str] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self.choices: dict[tuple[str, str], str] = {}
        self.modes = [mode for mode in chosen if self._works(mode)]

    def _works(self, mode: Mode) -> bool:
        """Convert the model for an engine, find its best settings, and see how far its scores are off."""
        tell(f"preparing {mode.name}")
        speeds: dict[str, dict[str, float]] = {}
        untried, failures = [""], []
        try:
            self.setting.prepare(mode)
        except EngineError as error:
            failures.append(str(error))
            untried = []
        while untried:
            choice = untried.pop(0)
            try:
                with Worker(self.setting, mode) as worker:
                    if not choice:
                        choice, *untried = worker.facts["choices"]
                    speeds[choice] = self._speeds(worker, choice)
                    error_of_scores = self._error(worker, choice)
                    self.facts[mode.name] = worker.facts | {"score_error": error_of_scores}
            except EngineError as error:
                failures.append(f"{choice}: {error}" if choice else str(error))
                speeds.pop(choice, None)
        if failures:
            tell(f"{mode.name}: {'; '.join(failures)}")
            self.failures[mode.name] = "; ".join(failures)
        for task in self.tasks if speeds else []:
            self.choices[mode.name, task.name] = max(speeds, key=lambda c: speeds[c][task.name])
        return bool(speeds)

    def _speeds(self, worker: Worker, choice: str) -> dict[str, float]:
        """Of every task, in a setting; not measured where there is no other."""
        speeds = {}
        for task in self.tasks:
            order = task.order(self.vocab_size) | {"choice": choice, "times": 3}
            short = replace(task, n_new=min(task.n_new, 48))
            alone = len(worker.facts["choices"]) == 1
            speeds[task.name] = 0.0 if alone else short.speed(worker.ask(order | {"new": short.n_new}))
        return speeds

    def _error(self, worker: Worker, choice: str) -> float:
        """Of the scores of a random text, relative to the float32 model's."""
        scores_TV = scores(worker, self.text(), choice)
        if not hasattr(self, "reference"):
            self.reference = float32_scores(self.setting.model, self.text())
        return float(np.linalg.norm(scores_TV - self.reference) / np.linalg.norm(self.reference))

    def text(self) -> list[int]:
        """64 random tokens."""
        return list(np.random.default_rng(1).integers(self.vocab_size - 1, size=64).tolist())


def scores(worker: Worker, tokens: list[int], choice: str) -> Any:
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        order = {"do": "score", "tokens": tokens, "first": 1, "step": 16, "out": file.name}
        worker.ask(order | {"choice": choice})
        return np.load(file.name)


def float32_scores(model: Path, tokens: list[int]) -> Any:
    import torch

    import gpt2lab

    weights, _ = gpt2lab.load(model)
    with torch.inference_mode():
        return weights(torch.tensor([tokens]))[0].numpy()


def cold_starts(contest: Contest, n_times: int) -> dict[str, list[dict[str, float]]]:
    """Fresh processes, in shuffled rounds: seconds to load, and from the start to the first token."""
    found: dict[str, list[dict[str, float]]] = {mode.name: [] for mode in contest.modes}
    order = contest.tasks[0].order(contest.vocab_size) | {"new": 1}
    for n in range(n_times):
        for mode in shuffled(contest.modes, f"cold {n}"):
            tell(f"cold start {n + 1} of {n_times}: {mode.name}")
            choice = contest.choices[mode.name, contest.tasks[0].name]
            with Worker(contest.setting, mode, order | {"choice": choice}) as worker:
                found[mode.name].append(
                    {
                        "import": worker.facts["import_seconds"],
                        "load": worker.facts["load_seconds"],
                        "first token": worker.first_answer_seconds,
                    }
                )
    return found


def rounds(contest: Contest, n_rounds: int) -> list[dict[str, Any]]:
    """A row for each round, task and engine."""
    rows = []
    with ExitStack() as stack:
        probe = stack.enter_context(Probe(contest.setting.work, contest.setting.n_threads))
        workers = {}
        for mode in contest.modes:
            tell(f"starting {mode.name}")
            workers[mode.name] = stack.enter_context(Worker(contest.setting, mode))
        entries = [(mode.name, mode.name, None) for mode in contest.modes]
        entries += [(STREAM.format(m.mode), m.name, "stream") for m in contest.modes if m.ours]
        for task in contest.tasks:
            for n in range(-1, n_rounds):  # the first is to warm up
                for name, of, choice in shuffled(entries, f"{task.name} {n}"):
                    order = task.order(contest.vocab_size)
                    order["choice"] = choice or contest.choices[of, task.name]
                    row = measured(workers, of, order, probe)
                    row |= {"round": n, "task": task.name, "engine": name, "of": of}
                    row["tokens/s"] = task.speed(row)
                    tell(f"{task.name}, round {n + 1} of {n_rounds}: {name}: {row['tokens/s']:,.0f} tokens/s")
                    rows.append(row)
    return [row for row in rows if row["round"] >= 0]


def measured(workers: dict[str, Worker], of: str, order: dict[str, Any], probe: Probe) -> dict[str, Any]:
    """One engine once, the others asleep, memory's speed probed on both sides."""
    sizes = {"500 MB": PROBE_BYTES, "weights": workers[of].facts["weight_bytes"]}
    time.sleep(SETTLE_SECONDS)
    before = {name: probe.read(size) for name, size in sizes.items()}
    idle = [worker for name, worker in workers.items() if name != of]
    used, began = sum(worker.cpu_seconds() for worker in idle), time.perf_counter()
    answer = workers[of].ask(order)
    seconds = time.perf_counter() - began
    used = sum(worker.cpu_seconds() for worker in idle) - used
    after = {name: probe.read(size) for name, size in sizes.items()}
    answer |= {f"probe {name}": (before[name] + after[name]) / 2 for name in sizes}
    return answer | {"others' share of a core": used / seconds}


def shuffled(things: Iterable[Any], seed: str) -> list[Any]:
    order = list(things)
    random.Random(seed).shuffle(order)
    return order


def summary(contest: Contest, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each task and engine: medians over the rounds."""
    lines = []
    by_name = {mode.name: mode for mode in contest.modes}
    for task in contest.tasks:
        of_task = [row for row in rows if row["task"] == task.name]
        for name in dict.fromkeys(sorted(row["engine"] for row in of_task)):
            mine = [row for row in of_task if row["engine"] == name]
            facts = contest.facts[mine[0]["of"]]
            n_reads = task.n_new - 1 if task.n_new > 1 else 1
            key = "decode_seconds" if task.n_new > 1 else "prompt_seconds"
            share = [facts["weight_bytes"] * n_reads / row[key] / row["probe weights"] for row in mine]
            speeds = [row["tokens/s"] for row in mine]
            lines.append(
                {
                    "task": task.name, "engine": name, "group": by_name[mine[0]["of"]].group,
                    "bits a weight": bits(contest, mine[0]["of"]),
                    "tokens/s": statistics.median(speeds), "lowest": min(speeds), "highest": max(speeds),
                    "prompt ms": 1000 * statistics.median(row["prompt_seconds"] for row in mine),
                    "share of read speed": statistics.median(share),
                    "choice": contest.choices[mine[0]["of"], task.name],
                }
            )  # fmt: skip
    return lines


def ratios(contest: Contest, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours over each peer of the same precision, and over the best of each round, within rounds."""
    found = []
    for task in contest.tasks:
        for ours in (mode for mode in contest.modes if mode.ours):
            peers = [mode for mode in contest.modes if mode.group == ours.group and not mode.ours]
            speed = {
                (row["round"], row["engine"]): row["tokens/s"] for row in rows if row["task"] == task.name
            }
            numbers = sorted({number for number, _ in speed})
            if not peers or not numbers:
                continue
            against = {
                peer.name: [speed[n, ours.name] / speed[n, peer.name] for n in numbers] for peer in peers
            }
            best = [min(times[i] for times in against.values()) for i in range(len(numbers))]
            against["the best of each round"] = best
            for peer, times in against.items():
                line = {"task": task.name, "ours": ours.name, "our bits": bits(contest, ours.name)}
                line |= {"peer": peer, "its bits": bits(contest, peer)}
                line |= {"times": statistics.median(times), "lowest": min(times), "highest": max(times)}
                found.append(line | {"all": times})
    return found


def bits(contest: Contest, name: str) -> float | None:
    facts = contest.facts.get(name)
    return 8 * facts["stored_bytes"] / facts["n_weights"] if facts else None


def markdown(report: dict[str, Any]) -> str:
    parts = []
    for task in dict.fromkeys(line["task"] for line in report["summary"]):
        lines = [line for line in report["summary"] if line["task"] == task]
        lines.sort(key=lambda line: (line["group"], -line["tokens/s"]))
        parts.append(
            f"\n{task}\n\n| | engine | bits | tokens/s | lowest to highest | of read speed | setting |"
        )
        parts.append("|---|---|---|---|---|---|---|")
        for line in lines:
            parts.append(
                f"| {line['group'] or '32 bit'} | {line['engine']} | {line['bits a weight']:.2f} "
                f"| {line['tokens/s']:,.0f} | {line['lowest']:,.0f} to {line['highest']:,.0f} "
                f"| {line['share of read speed']:.0%} | {line['choice']} |"
            )
    parts.append("\n| task | ours | bits | peer | bits | times | lowest to highest |")
    parts.append("|---|---|---|---|---|---|---|")
    for line in report["ratios"]:
        spread = f"{line['lowest']:.2f} to {line['highest']:.2f}"
        theirs = f"{line['its bits']:.2f}" if line["its bits"] else ""
        parts.append(
            f"| {line['task']} | {line['ours']} | {line['our bits']:.2f} | {line['peer']} | {theirs} "
            f"| {line['times']:.2f} | {spread} |"
        )
    parts.append("\n| engine | load s | start to first token s | peak GB | scores off by |")
    parts.append("|---|---|---|---|---|")
    for name, facts in report["engines"].items():
        starts = report["cold starts"].get(name, [])
        seconds = [
            f"{statistics.median(start[key] for start in starts):.2f}" if starts else "-"
            for key in ("load", "first token")
        ]
        peak, error = f"{facts['peak_bytes'] / 1e9:.2f}", f"{facts['score_error']:.1e}"
        parts.append(f"| {name} | {' | '.join(seconds)} | {peak} | {error} |")
    parts += [f"\nFailed: {name}: {reason}" for name, reason in report["failures"].items()]
    probes, others = report["read speed, GB/s"], report["others' share of a core"]
    parts.append(
        f"\nMemory was read at {probes['median']:.0f} GB/s (500 MB; {probes['lowest']:.0f} to "
        f"{probes['highest']:.0f}). Engines at rest used {others:.1%} of a core at most."
    )
    return "\n".join(parts)


def random_model(size: str, folder: Path) -> Path:
    """A Hugging Face directory of that shape with random weights and a vocabulary that means nothing."""
    import torch

    import gpt2lab
    from gpt2lab.model.config import ModelConfig
    from gpt2lab.model.gpt import GPT
    from gpt2lab.tokenizer import load_tokenizer
    from gpt2lab.tokenizer.byte_alphabet import CHARACTERS

    if (folder / "config.json").exists():
        return folder
    n_layer, n_head, n_embd = SIZES[size]
    config = ModelConfig(n_layer=n_layer, n_head=n_head, n_embd=n_embd)
    merges = [(a, b) for a in CHARACTERS for b in CHARACTERS][: config.vocab_size - len(CHARACTERS) - 1]
    words = [*CHARACTERS, *("".join(pair) for pair in merges), "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as vocabulary:
        path = Path(vocabulary)
        (path / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
        (path / "merges.txt").write_text(
            "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""])
        )
        tell(f"writing a {size} of random weights")
        model = GPT(config).initialise(torch.Generator().manual_seed(0))
        gpt2lab.save(model, load_tokenizer(path), folder)
    return folder


def report_of(contest: Contest, starts: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    from gpt2lab.base.device import cpu_label

    speeds = [row["probe 500 MB"] / 1e9 for row in rows]
    versions: dict[str, str] = {}
    for facts in contest.facts.values():
        versions |= facts["versions"]
    return {
        "machine": {"cpu": cpu_label(), "system": platform.platform(), "python": platform.python_version()},
        "versions": versions,
        "threads": contest.setting.n_threads,
        "failures": contest.failures,
        "engines": contest.facts,
        "summary": summary(contest, rows),
        "ratios": ratios(contest, rows),
        "cold starts": starts,
        "read speed, GB/s": {
            "median": statistics.median(speeds), "lowest": min(speeds), "highest": max(speeds)
        },
        "others' share of a core": max(row["others' share of a core"] for row in rows),
        "rows": rows,
    }  # fmt: skip


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default="gpt2", help=f"a Hugging Face directory, or random weights: {', '.join(SIZES)}"
    )
    parser.add_argument("--peer-python", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--only", default="", help="a regular expression: engines to run (default: all)")
    parser.add_argument("--work", type=Path, help="keep converted models here (default: thrown away)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cold", type=int, default=3, help="fresh processes an engine")
    parser.add_argument("--new", type=int, default=128, help="tokens decoded")
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    environments = dict(pair.split("=", 1) for pair in options.peer_python)
    with tempfile.TemporaryDirectory() as thrown_away:
        work = options.work or Path(thrown_away)
        model = Path(options.model)
        if options.model in SIZES:
            model = random_model(options.model, work / f"{options.model}-random")
        vocab_size = json.loads((model / "config.json").read_text())["vocab_size"]
        chosen = [mode for mode in modes(environments) if re.search(options.only, mode.name)]
        contest = Contest(
            Setting(model, work, environments, options.threads), chosen, tasks(options.new), vocab_size
        )
        starts = cold_starts(contest, options.cold)
        report = report_of(contest, starts, rounds(contest, options.rounds))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report["machine"] | report["versions"]))
    print(markdown(report))


if __name__ == "__main__":
    main()
