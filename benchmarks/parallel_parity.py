"""One run on 1, 2 and 4 processes, whole or in shares, in large and small micro-batches: the same losses?

A tiny model is trained for 50 steps in float32 on one process, on 2 with DDP, on 2 and 4 with FSDP2, each
with micro-batches of 8 and of 1. With AdamW every loss (training and validation) must agree with one
process's to 1e-5. Muon orthogonalises in bfloat16, so that a difference in a gradient's last bit grows: its
differences are set beside the spread of the last loss over seeds, and must stay below it.

Then a run that was saved half-way on 2 processes goes on, on 1 and on 4, and must follow the same curve.

    python benchmarks/parallel_parity.py

One line a run on standard error, a table as JSON on standard output. Exit code 1 if any differ.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from resume_kills import recipe_for, write_sources

STEPS, TOLERANCE, SEEDS = 50, 1e-5, range(1, 6)
WAYS = [(1, "ddp"), (2, "ddp"), (2, "fsdp"), (4, "fsdp")]  # processes, and how they share the model
Losses = dict[tuple[str, int], float]  # by kind and step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizers", nargs="+", choices=("adamw", "muon"), default=["adamw", "muon"])
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_sources(Path(folder))
        for optimizer in options.optimizers:
            recipe = recipe_without_dropout(Path(folder), optimizer, options.steps)
            rows += compare(recipe, optimizer, options.steps)
    print(json.dumps(rows, indent=2))
    return 0 if all(row["same"] for row in rows) else 1


def recipe_without_dropout(folder: Path, optimizer: str, steps: int) -> Path:
    """Masks follow the process that draws them; every other number is that of the whole batch."""
    text = recipe_for(folder, "eager-float32", steps).read_text().replace("pdrop = 0.1", "pdrop = 0.0")
    text = text.replace("log_every = 3", "log_every = 1").replace(
        "save_every = 20", f"save_every = {steps // 2}"
    )
    path = folder / f"{optimizer}.toml"
    path.write_text(text.replace('name = "muon"', f'name = "{optimizer}"'))
    return path


def compare(recipe: Path, optimizer: str, steps: int) -> list[dict[str, object]]:
    """All ways of running one recipe, and all resumptions, against one process."""
    expected = train(recipe, recipe.with_name(f"{optimizer}-one"))
    tolerance, spread = TOLERANCE, None
    if optimizer == "muon":
        ends = [
            train(recipe, recipe.with_name(f"seed-{seed}"), options=["--seed", str(seed)])[
                "validation", steps
            ]
            for seed in SEEDS
        ]
        tolerance = spread = statistics.stdev(ends)
    rows = []

    def note(way: str, losses: Losses) -> None:
        same_rows = losses.keys() == expected.keys()
        difference = max(abs(losses[key] - expected[key]) for key in expected) if same_rows else None
        row: dict[str, object] = {"optimizer": optimizer, "way": way, "largest_difference": difference}
        if spread is not None:
            row["spread_over_seeds"] = spread
        rows.append(row | {"same": difference is not None and difference < tolerance})
        print(rows[-1], file=sys.stderr, flush=True)

    for processes, parallel in WAYS:
        for micro_batch in (8, 1):
            if (processes, micro_batch) == (1, 8):
                continue  # that is `expected`
            out = recipe.with_name(f"{optimizer}-{processes}-{parallel}-{micro_batch}")
            options = ["--parallel", parallel, "--micro-batch", str(micro_batch)]
            note(f"{processes} {parallel}, micro-batch {micro_batch}", train(recipe, out, processes, options))
    for parallel in ("ddp", "fsdp"):
        for processes in (1, 4):
            half = recipe.with_name(f"{optimizer}-half-{parallel}-{processes}")
            shutil.copytree(recipe.with_name(f"{optimizer}-2-{parallel}-8"), half)
            shutil.rmtree(half / "checkpoints" / f"step-{steps:08d}")
            note(f"saved on 2 {parallel}, resumed on {processes}", train(half, half, processes))
    return rows


def train(what: Path, out: Path, processes: int = 1, options: list[str] | None = None) -> Losses:
    """Run a recipe, or go on with a run's folder (then `out` is the same); its losses."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launch if processes > 1 else []), "-m", "gpt2lab", "train", str(what)]
    if what != out:
        command += ["--out", str(out), *(options or [])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode} of {' '.join(command)}\n{done.stderr}")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {(row["kind"], row["step"]): row["loss"] for row in rows if "loss" in row}


if __name__ == "__main__":
    sys.exit(main())
