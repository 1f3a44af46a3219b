"""A process that holds one engine and does as it is told: a line of JSON in, a line of JSON out.

    python worker.py prepare|serve KIND MODE MODEL WORK THREADS

It runs under the Python environment of the engine's library, next to the other files of this folder.
"""

import importlib
import json
import os
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def run(engine: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Do one order."""
    engine.choose(order.get("choice", ""))
    if order["do"] == "score":
        scores_TV = engine.score(np.array(order["tokens"]), order["first"], order["step"])
        np.save(order["out"], scores_TV.astype(np.float32, copy=False))
        return {}
    prompts_BT = np.array(order["prompts"])
    done = [engine.decode(prompts_BT, order["new"]) for _ in range(order.get("times", 1))]
    return {
        "prompt_seconds": statistics.median(one.prompt_seconds for one in done),
        "decode_seconds": statistics.median(one.decode_seconds for one in done),
        "tokens": done[-1].tokens if order.get("tokens") else None,
    }


def peak_bytes() -> int:
    """The most memory this program has held (Linux; getrusage would count the driver's before the exec)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def serve(kind: str, mode: str, model: Path, work: Path, n_threads: int, replies: int) -> None:
    """Load, say so, then answer until standard input ends."""

    def reply(answer: dict[str, Any]) -> None:
        os.write(replies, json.dumps(answer).encode() + b"\n")

    began = time.perf_counter()
    module = importlib.import_module(kind)
    imported = time.perf_counter()
    engine = module.ENGINE(model, work, mode, n_threads)
    reply(
        {
            "import_seconds": imported - began,
            "load_seconds": time.perf_counter() - imported,
            "weight_bytes": engine.weight_bytes,
            "stored_bytes": engine.stored_bytes or engine.weight_bytes,
            "n_weights": engine.n_weights(),
            "choices": engine.choices(),
            "peak_bytes": peak_bytes(),
            "versions": {package: version(package) for package in engine.packages},
        }
    )
    for line in sys.stdin:
        try:
            reply(run(engine, json.loads(line)))
        except Exception as error:
            reply({"error": f"{type(error).__name__}: {error}"})


def main() -> None:
    task, kind, mode, model, work, n_threads = sys.argv[1:]
    replies = os.dup(1)
    os.dup2(2, 1)  # libraries may print; only replies go to the driver
    if task == "prepare":
        importlib.import_module(kind).ENGINE.prepare(Path(model), Path(work), mode)
    else:
        serve(kind, mode, Path(model), Path(work), int(n_threads), replies)


if __name__ == "__main__":
    main()
