"""Kill training with `kill -9` at random moments, resume it each time, and compare with a run left alone.

For each of eager/compiled x float32/bfloat16 a tiny model is trained twice: once without disturbance, and
once with kills at random moments of a process's life, some of them aimed inside the writing of a checkpoint.
At the end the weights, the optimizer's state and the metrics (timings and memory apart) must be the same,
bit for bit.

    python benchmarks/resume_kills.py --kills 20

One line of progress a mode on standard error, a table as JSON on standard output. Exit code 1 if any differ.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS, SAVE_EVERY = 600, 20
MODES = ("eager-float32", "eager-bfloat16", "compiled-float32", "compiled-bfloat16")
TIMING_FIELDS = ("tokens_per_s", "mfu", "seconds", "memory_bytes")
COMPARED_FILES = ("model.safetensors", "training_state/state.safetensors", "config.json", "tokenizer.json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="kills a mode")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps of a run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which to kill")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_sources(Path(folder))
        for mode in options.modes:
            rows.append(
                torture(Path(folder), mode, options.kills, options.steps, random.Random(options.seed))
            )
            print(rows[-1], file=sys.stderr, flush=True)
    print(json.dumps(rows, indent=2))
    return 0 if all(row["identical"] for row in rows) else 1


def write_sources(folder: Path) -> None:
    """A text, a vocabulary and a recipe: small, but with dropout and both optimizers."""
    from gpt2lab.tokenizer import train_bpe

    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghij", k=rng.randint(2, 7))) for _ in range(300)]
    text = "\n\n".join(" ".join(rng.choices(words, k=40)) for _ in range(600))
    (folder / "text.txt").write_text(text)
    train_bpe([text], 400).save(folder / "vocabulary")


def recipe_for(folder: Path, mode: str, steps: int) -> Path:
    """The recipe of one mode, as a TOML file."""
    kind, precision = mode.split("-")
    recipe: dict[str, object] = {
        "batch_tokens": 512,
        "micro_batch": 8,
        "device": "cpu",
        "precision": precision,
        "compile": "on" if kind == "compiled" else "off",
        "log_every": 3,
        "validate_every": 30,
        "validate_tokens": 2048,
        "save_every": SAVE_EVERY,
    }
    model: dict[str, object] = {
        "vocab_size": 400,
        "context_length": 32,
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 32,
    }
    model |= {"embd_pdrop": 0.1, "attn_pdrop": 0.1, "resid_pdrop": 0.1}
    tables: dict[str, dict[str, object]] = {
        "model": model,
        "data": {"path": str(folder / "text.txt"), "tokenizer": str(folder / "vocabulary")},
        "optimizer": {"name": "muon", "learning_rate": 3e-3},
        "schedule": {"steps": steps, "warmup_steps": 10},
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in recipe.items()]
    for table, fields in tables.items():
        lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in fields.items())]
    path = folder / f"{mode}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def torture(folder: Path, mode: str, kills: int, steps: int, rng: random.Random) -> dict[str, object]:
    """One mode: the run left alone, the run that is killed, and how they compare."""
    recipe = recipe_for(folder, mode, steps)
    alone, again, killed = (folder / f"{mode}-{name}" for name in ("alone", "again", "killed"))
    finish(start(recipe, alone))  # fills the compiler's cache, so that the next shows a restart's usual time
    startup, seconds = timed(recipe, again)
    counts = dict.fromkeys(("startup", "steps", "save"), 0)
    runs = [killed]
    while sum(counts.values()) < kills:
        aim = rng.choices(tuple(counts), weights=(2, 4, 4))[0]
        delay = rng.uniform(0, {"startup": startup, "steps": 0.05, "save": 0.01}[aim])
        hit = kill_one(recipe, runs[-1], aim, rng.randrange(2 * SAVE_EVERY), delay)
        if hit == "finished":  # it came to its end before the kill: the rest of the kills go to another run
            runs.append(folder / f"{mode}-killed-{len(runs)}")
        else:
            counts[hit] += 1
    finish(start(recipe, runs[-1]))
    return {
        "mode": mode,
        "kills": sum(counts.values()),
        "in_startup": counts["startup"],
        "between_saves": counts["steps"],
        "inside_a_save": counts["save"],
        "runs": len(runs),
        "uninterrupted_seconds": round(seconds, 1),
        "repeatable": same(alone, again, steps),
        "identical": all(same(alone, run, steps) for run in runs),
    }


def start(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    """Begin the run, or go on with it."""
    command = [sys.executable, "-m", "gpt2lab", "train", str(recipe), "--out", str(out), "--resume"]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(recipe.parent / "inductor"),
    }
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    """Let a run come to its end; anything but success is an error here."""
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}\n{errors.decode()}")


def timed(recipe: Path, out: Path) -> tuple[float, float]:
    """Seconds until a run's first row of metrics, and until its end."""
    started = time.monotonic()
    process = start(recipe, out)
    await_steps(process, out / "metrics.jsonl", before=0, n_steps=0)
    startup = time.monotonic() - started
    finish(process)
    return startup, time.monotonic() - started


def await_steps(process: subprocess.Popen[bytes], metrics: Path, before: int, n_steps: int) -> None:
    """Wait until this process has taken about so many steps (or is dead).

    `before` is the file's number under the process before: cutting the metrics back makes a new file.
    """
    first = None
    while process.poll() is None:
        if metrics.exists() and metrics.stat().st_ino != before and (rows := _rows(metrics)):
            step = rows[-1]["step"]
            assert isinstance(step, int)
            first = step if first is None else first
            if step >= first + n_steps:
                return
        time.sleep(0.005)


def kill_one(recipe: Path, out: Path, aim: str, n_steps: int, delay: float) -> str:
    """Go on with the run and kill it; returns what it was doing: startup, steps, save; or "finished".

    Args:
        recipe: of the run.
        out: its folder.
        aim: "startup" kills `delay` seconds after the start of the process; "steps" so long after `n_steps`
            steps; "save" so long after the next checkpoint was begun.
        n_steps: see `aim`.
        delay: seconds.
    """
    metrics = out / "metrics.jsonl"
    before = metrics.stat().st_ino if metrics.exists() else 0
    process = start(recipe, out)
    if aim != "startup":
        await_steps(process, metrics, before, n_steps)
    while aim == "save" and process.poll() is None and not being_saved(out):
        time.sleep(0.0002)
    time.sleep(delay)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # the group: a compiler's workers must not outlive it
    _, errors = process.communicate()
    if process.returncode == 0:
        return "finished"
    if process.returncode != -signal.SIGKILL:
        raise RuntimeError(f"exit code {process.returncode}\n{errors.decode()}")
    if aim == "startup":
        return "startup"  # what lies half-written there may be of the process before
    return "save" if being_saved(out) else "steps"


def being_saved(run: Path) -> bool:
    """Whether a checkpoint is half written; a killed process leaves it so."""
    return any((run / "checkpoints").glob(".tmp-*"))


def same(alone: Path, other: Path, steps: int) -> bool:
    """Whether two runs ended with the same weights, optimizer state and metrics."""
    return _final_bytes(alone, steps) == _final_bytes(other, steps) and _metrics(alone) == _metrics(other)


def _final_bytes(run: Path, steps: int) -> list[bytes]:
    folder = run / "checkpoints" / f"step-{steps:08d}"
    return [(folder / name).read_bytes() for name in COMPARED_FILES]


def _metrics(run: Path) -> list[dict[str, object]]:
    rows = _rows(run / "metrics.jsonl")
    return [{key: value for key, value in row.items() if key not in TIMING_FIELDS} for row in rows]


def _rows(metrics: Path) -> list[dict[str, object]]:
    """The complete rows."""
    return [json.loads(line) for line in metrics.read_bytes().split(b"\n")[:-1]]


if __name__ == "__main__":
    sys.exit(main())
