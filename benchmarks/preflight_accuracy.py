"""How well `--dry-run` foretells memory and speed on this machine.

    python benchmarks/preflight_accuracy.py             the four configurations below
    python benchmarks/preflight_accuracy.py --fit       others, to which the estimator's constants are fitted

Each configuration trains in a process of its own, three times; medians are taken, as the memory of one run
varies by a tenth. Memory is the peak of the resident set (VmHWM, reset after the imports) less what was
resident after the imports. Speed is the median over steps of tokens a second; the probe of matrix products
and of memory, from which the estimate is made, runs in the same process just before.

The four were written down before anything was fitted, and nothing is fitted to them.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMED = {
    "10M, vocabulary 8,192, 16 x 256, bfloat16, Muon, two micro-batches": {
        "model": {"vocab_size": 8192, "context_length": 256, "n_layer": 6, "n_head": 5, "n_embd": 320},
        "micro_batch": 16,
        "micro_batches": 2,
        "optimizer": "muon",
        "precision": "bfloat16",
    },
    "6 x 384, vocabulary 50,257, 8 x 256, bfloat16, AdamW": {
        "model": {"context_length": 256, "n_layer": 6, "n_head": 6, "n_embd": 384},
        "micro_batch": 8,
        "micro_batches": 1,
        "optimizer": "adamw",
        "precision": "bfloat16",
    },
    "124M, 4 x 256, bfloat16, AdamW": {
        "model": {"context_length": 256},
        "micro_batch": 4,
        "micro_batches": 1,
        "optimizer": "adamw",
        "precision": "bfloat16",
    },
    "30M, 4 x 512, float32, AdamW": {
        "model": {"context_length": 512, "n_layer": 6, "n_head": 6, "n_embd": 384},
        "micro_batch": 4,
        "micro_batches": 1,
        "optimizer": "adamw",
        "precision": "float32",
    },
}

FITTED = {
    "small, 32 x 256, bfloat16": {
        "model": {"vocab_size": 2048, "context_length": 256, "n_layer": 4, "n_head": 4, "n_embd": 256},
        "micro_batch": 32,
        "micro_batches": 1,
        "optimizer": "adamw",
        "precision": "bfloat16",
    },
    "wide, 4 x 512, bfloat16": {
        "model": {"vocab_size": 16384, "context_length": 512, "n_layer": 8, "n_head": 8, "n_embd": 512},
        "micro_batch": 4,
        "micro_batches": 1,
        "optimizer": "adamw",
        "precision": "bfloat16",
    },
    "wide, 8 x 128, bfloat16, two micro-batches": {
        "model": {"vocab_size": 32768, "context_length": 128, "n_layer": 4, "n_head": 8, "n_embd": 640},
        "micro_batch": 8,
        "micro_batches": 2,
        "optimizer": "adamw",
        "precision": "bfloat16",
    },
    "deep, 12 x 256, bfloat16, three micro-batches": {
        "model": {"vocab_size": 4096, "context_length": 256, "n_layer": 8, "n_head": 4, "n_embd": 256},
        "micro_batch": 12,
        "micro_batches": 3,
        "optimizer": "adamw",
        "precision": "bfloat16",
    },
    "small, 16 x 256, float32": {
        "model": {"vocab_size": 4096, "context_length": 256, "n_layer": 4, "n_head": 4, "n_embd": 256},
        "micro_batch": 16,
        "micro_batches": 1,
        "optimizer": "adamw",
        "precision": "float32",
    },
}


def recipe_of(case: dict, folder: Path):
    from gpt2lab.model.config import ModelConfig
    from gpt2lab.training.recipe import DataConfig, OptimizerConfig, Recipe, ScheduleConfig

    model = ModelConfig(**case["model"])
    return Recipe(
        model=model,
        data=DataConfig(path=str(folder)),
        optimizer=OptimizerConfig(name=case["optimizer"]),
        schedule=ScheduleConfig(steps=1000, warmup_steps=1),
        batch_tokens=case["micro_batch"] * case["micro_batches"] * model.context_length,
        micro_batch=case["micro_batch"],
        precision=case["precision"],
        device="cpu",
    )


def write_tokens(folder: Path, vocab_size: int) -> None:
    """Random tokens in two shards of llm.c's kind: their values bear on neither memory nor speed."""
    import numpy as np

    from gpt2lab.data.shards import UINT16, write_shard

    rng = np.random.default_rng(0)
    for split, n_tokens in (("train", 2_000_000), ("val", 100_000)):
        write_shard(folder / f"{split}_000000.bin", rng.integers(0, vocab_size, n_tokens, np.uint16), UINT16)


def resident(field: str) -> int:
    """A figure of this process in /proc, in bytes: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def run_case(case: dict, seconds: float, folder: Path) -> dict:
    """Predict, then train on tokens written to `folder`; in a fresh process."""
    from gpt2lab.training import trainer  # noqa: F401  (all that a run imports at its start)
    from gpt2lab.training.flops import flops_per_token
    from gpt2lab.training.forecast import forecast_here
    from gpt2lab.training.setup import build_session
    from gpt2lab.training.step import determinism

    write_tokens(folder, case["model"].get("vocab_size", 50_257))
    recipe = recipe_of(case, folder)
    # A child's own counter: the peak that importing made is forgotten.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    with determinism(True):
        forecast = forecast_here(recipe)
        session = build_session(recipe, folder, None)
        rates, tokens, end = [], recipe.batch_tokens, time.monotonic() + seconds
        number = 0
        while number < 4 or time.monotonic() < end:
            started = time.perf_counter()
            session.step.take(number, 0.1)
            rates.append(tokens / (time.perf_counter() - started))
            number += 1
        again = forecast_here(recipe)
    peak = resident("VmHWM") - before
    rate = statistics.median(rates[2:])
    predicted_rate = statistics.fmean([forecast.tokens_per_s, again.tokens_per_s])
    plan = forecast.memory
    return {
        "memory": {"measured": peak, "predicted": plan.total, "error": plan.total / peak - 1},
        "speed": {"measured": rate, "predicted": predicted_rate, "error": predicted_rate / rate - 1},
        "parts": dataclasses.asdict(plan),
        "flops_per_token": flops_per_token(recipe.model).total,
        "probe": dataclasses.asdict(forecast.probe) | {"after": dataclasses.asdict(again.probe)},
        "compiled": session.facts.compiled,
        "plain_attention": forecast.placing.plain_attention,
        "steps": len(rates),
    }


def fit(results: dict) -> None:
    """Print the constants of `training.memory` and `training.forecast` that these measurements give.

    Least squares (none below 0) over the relative errors of the bfloat16 measurements; the last measurement
    gives what is different in float32. What a token leaves behind in bfloat16 and what the libraries take
    cannot be told apart by so few: the former stays, as fitted while every case kept its attention weights.
    """
    import numpy as np
    from scipy.optimize import nnls

    from gpt2lab.training.memory import _ACTIVATIONS, _SCORES

    runtimes, steps, last = [], [], {}
    for name, case in FITTED.items():
        model, found = case["model"], results[name]
        parts, probe, many = found["parts"], found["probe"], case["micro_batches"]
        tokens = case["micro_batch"] * model["context_length"]
        channels = tokens * model["n_layer"] * model["n_embd"]
        scores = (
            tokens * model["n_layer"] * model["n_head"] * model["context_length"] * found["plain_attention"]
        )
        gradients = parts["weights"] if many > 1 else 0
        known = gradients + sum(parts[part] for part in ("weights", "optimizer", "loss"))
        peak = found["memory"]["measured"]
        flops = (probe["flops"] + probe["after"]["flops"]) / 2
        read = (probe["read"] + probe["after"]["read"]) / 2
        seconds = many * tokens / found["speed"]["measured"]
        step = seconds - 10 * parts["weights"] / read
        products = found["flops_per_token"] * many * tokens / flops
        if case["precision"] == "float32":
            last = {"peak": peak - known, "channels": channels, "scores": scores, "step": step}
            last |= {"products": products, "passes": channels / read}
            continue
        runtimes.append((peak - known - _ACTIVATIONS["bfloat16"] * channels - 2 * _SCORES * scores, 1 / peak))
        steps.append(np.array([products, many * channels / read, step]) / seconds)

    table = np.stack(steps)
    slowness, passes = nnls(table[:, :-1], table[:, -1])[0].tolist()
    values, weights = np.transpose(runtimes)
    runtime = np.average(values, weights=weights)
    kept_32 = (last["peak"] - runtime - 4 * _SCORES * last["scores"]) / last["channels"]
    shapes_32 = last["products"] / (last["step"] - passes * last["passes"])
    print(f"_ACTIVATIONS float32 {kept_32:.1f}; _RUNTIME {runtime / 1e6:.0f}e6")
    shapes = "_SHAPES_BY_TILES" if any(found["probe"]["tiles"] for found in results.values()) else "_SHAPES"
    print(f"{shapes} {1 / slowness:.2f}, float32 {shapes_32:.2f}; _PASSES {passes:.0f}")


def result_of(command: list[str]) -> dict:
    """What a child process found; the end of what it said if it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        sys.exit(f"{' '.join(command)}: failed\n{done.stderr[-2000:]}")
    return json.loads(line.removeprefix("RESULT "))


def middle(runs: list[dict]) -> dict:
    """The run of median speed, with the memory of that of median memory."""
    by_speed, by_memory = (
        sorted(runs, key=lambda run: run[what]["measured"])[len(runs) // 2] for what in ("speed", "memory")
    )
    return by_speed | {"memory": by_memory["memory"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--seconds", type=float, default=8.0, help="of training a configuration")
    parser.add_argument("--times", type=int, default=3, help="processes a configuration; medians are taken")
    parser.add_argument("--only", default="", help="configurations with this in their name")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--case", default="", help="(for the child processes)")
    args = parser.parse_args()
    cases = FITTED if args.fit else NAMED
    if args.case:
        with tempfile.TemporaryDirectory(prefix="preflight-") as folder:
            print("RESULT " + json.dumps(run_case(cases[args.case], args.seconds, Path(folder))))
        return
    results = {}
    for name in (name for name in cases if args.only in name):
        command = [sys.executable, __file__, "--case", name, "--seconds", str(args.seconds)]
        runs = [result_of(command + ["--fit"] * args.fit) for _ in range(args.times)]
        results[name] = found = middle(runs)
        memory, speed = found["memory"], found["speed"]
        print(
            f"{name}\n  memory {memory['predicted'] / 1e6:,.0f} MB predicted, "
            f"{memory['measured'] / 1e6:,.0f} MB measured ({memory['error']:+.1%})\n"
            f"  speed  {speed['predicted']:,.0f} tokens/s predicted, {speed['measured']:,.0f} measured "
            f"({speed['error']:+.1%}), {'compiled' if found['compiled'] else 'eager'}",
            flush=True,
        )
    if args.fit and len(results) == len(FITTED):
        fit(results)
    if args.out:
        args.out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
