"""Kill random workers of a run of several processes; torchrun restarts it, and it must end as if left alone.

A tiny model is trained by `torchrun --nproc-per-node 2 --max-restarts N`, once without disturbance and once
with `kill -9` to a random worker at random moments: while it starts, between steps, inside a save. torchrun
then ends the others and starts all of them again. At the end weights, optimizer state and metrics (timings
apart) must be the same, bit for bit.

With --lose-a-node one of two torchruns (`--nnodes 1:2`) is killed with its worker for good. The other goes on
alone with the same batches; over 400 steps its losses must agree with the undisturbed run's to 1e-3 (sums of
another order drift apart slowly).

    python benchmarks/worker_kills.py --kills 20 --parallel ddp fsdp

One line of progress a mode on standard error, a table as JSON on standard output. Exit code 1 if any differ.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from resume_kills import being_saved, recipe_for, same, write_sources

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
STEPS, STEPS_OF_NODES, TOLERANCE = 800, 400, 1e-3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="kills a mode")
    parser.add_argument("--parallel", nargs="+", choices=("ddp", "fsdp"), default=["ddp", "fsdp"])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps of a run")
    parser.add_argument("--seed", type=int, default=0, help="of moments and victims")
    parser.add_argument("--lose-a-node", action="store_true", help="also kill one of two nodes for good")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_sources(Path(folder))
        recipe = recipe_for(Path(folder), "eager-float32", options.steps)
        for parallel in options.parallel:
            rng = random.Random(options.seed)
            rows.append(torture(recipe, parallel, options.processes, options.kills, options.steps, rng))
            print(rows[-1], file=sys.stderr, flush=True)
        if options.lose_a_node:
            rows.append(lose_a_node(recipe_for(Path(folder), "eager-float32", STEPS_OF_NODES)))
            print(rows[-1], file=sys.stderr, flush=True)
    print(json.dumps(rows, indent=2))
    return 0 if all(row["same"] for row in rows) else 1


def torture(
    recipe: Path, parallel: str, processes: int, kills: int, steps: int, rng: random.Random
) -> dict[str, object]:
    """One mode: the run left alone, the run whose workers are killed, and how they compare."""
    alone = recipe.parent / f"{parallel}-alone"
    launch = ["--standalone", "--nproc-per-node", str(processes), "--max-restarts", str(2 * kills + 10)]
    started = time.monotonic()
    finish(start(recipe, alone, launch, parallel))
    seconds = time.monotonic() - started
    counts, runs = dict.fromkeys(("startup", "steps", "save"), 0), list[Path]()
    while sum(counts.values()) < kills:
        runs.append(recipe.parent / f"{parallel}-killed-{len(runs)}")
        job, dead = start(recipe, runs[-1], launch, parallel), set[int]()
        while sum(counts.values()) < kills and job.poll() is None:
            if doing := kill_one(job, runs[-1], processes, dead, rng):
                counts[doing] += 1
        finish(job)
    return {
        "mode": parallel,
        "processes": processes,
        "kills": sum(counts.values()),
        "in_startup": counts["startup"],
        "between_saves": counts["steps"],
        "inside_a_save": counts["save"],
        "runs": len(runs),
        "uninterrupted_seconds": round(seconds, 1),
        "same": all(same(alone, run, steps) for run in runs),
    }


def start(recipe: Path, out: Path, launch: list[str], parallel: str) -> subprocess.Popen[bytes]:
    """Begin a run of several processes."""
    train = ["-m", "gpt2lab", "train", str(recipe), "--out", str(out), "--resume", "--parallel", parallel]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    log = (out.parent / f"{out.name}.log").open("ab")
    return subprocess.Popen([*TORCHRUN, *launch, *train], env=environment, stdout=log, stderr=log)


def finish(job: subprocess.Popen[bytes]) -> None:
    """Let a run come to its end; anything but success is an error here."""
    if job.wait():
        raise RuntimeError(f"exit code {job.returncode} of {' '.join(map(str, job.args))}")


def workers_of(job: subprocess.Popen[bytes]) -> list[int]:
    """The processes that a torchrun has started and that are alive."""
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


def kill_one(
    job: subprocess.Popen[bytes], out: Path, processes: int, dead: set[int], rng: random.Random
) -> str | None:
    """Wait for fresh workers, then a random time, and kill a random one; returns what the run was doing."""
    while len(workers := [pid for pid in workers_of(job) if pid not in dead]) < processes:
        if job.poll() is not None:
            return None
        time.sleep(0.01)
    dead |= set(workers)  # all of them end when one does
    metrics = out / "metrics.jsonl"
    before = metrics.stat().st_ino if metrics.exists() else 0
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0, 3))
    else:  # cutting the metrics back makes a new file: from then on steps are taken
        while job.poll() is None and (not metrics.exists() or metrics.stat().st_ino == before):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 2))
        if rng.random() < 0.5:
            while job.poll() is None and not being_saved(out):
                time.sleep(0.0002)
            time.sleep(rng.uniform(0, 0.01))
    if job.poll() is not None:
        return None
    stepping = metrics.exists() and metrics.stat().st_ino != before
    saving = stepping and being_saved(out)
    try:
        os.kill(rng.choice(workers), signal.SIGKILL)
    except ProcessLookupError:
        return None
    return "save" if saving else "steps" if stepping else "startup"


def lose_a_node(recipe: Path) -> dict[str, object]:
    """Two nodes of one process each; the second is killed for good, and the first goes on alone."""
    text = recipe.read_text().replace(
        "pdrop = 0.1", "pdrop = 0.0"
    )  # masks follow the process that draws them
    recipe = recipe.with_name("two-nodes.toml")
    recipe.write_text(text.replace('name = "muon"', 'name = "adamw"'))
    alone, lost = (recipe.parent / f"nodes-{name}" for name in ("alone", "lost"))
    finish(start(recipe, alone, ["--standalone", "--nproc-per-node", "2"], "ddp"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = ["--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "5", "--rdzv-backend", "c10d"]
    launch += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "nodes"]
    launch += ["--rdzv-conf", "last_call_timeout=5,keep_alive_interval=1,keep_alive_max_attempt=3"]
    first = start(recipe, lost, launch, "ddp")
    time.sleep(2)  # so that it hosts the meeting place
    second = start(recipe, lost, launch, "ddp")
    while first.poll() is None and not any((lost / "checkpoints").glob("step-*")):
        time.sleep(0.01)
    for pid in [second.pid, *workers_of(second)]:
        os.kill(pid, signal.SIGKILL)
    second.wait()
    finish(first)
    events = [row for row in _rows(lost) if row["kind"] == "event"]
    ours, theirs = _losses(lost), _losses(alone)
    difference = max(abs(ours[key] - theirs[key]) for key in theirs) if ours.keys() == theirs.keys() else None
    return {
        "mode": "one of two nodes lost",
        "events": [row["what"] for row in events],
        "largest_difference_of_losses": difference,
        "same": difference is not None and difference < TOLERANCE and len(events) > 0,
    }


def _rows(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _losses(run: Path) -> dict[tuple[object, object], float]:
    return {(row["kind"], row["step"]): float(str(row["loss"])) for row in _rows(run) if "loss" in row}


if __name__ == "__main__":
    sys.exit(main())
