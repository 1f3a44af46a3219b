"""A process that holds one trainer and takes steps as it is told: a line of JSON in, a line of JSON out.

    python training_worker.py TRAINER MODE SHAPE OUR_FOLDER_OR_PEER'S

SHAPE is JSON: n_layer, n_head, n_embd, vocab_size, context_length, batch, positions (rows of `wpe`), device.
Every trainer reads the same random tokens, in its own way, and does a whole step: forward, backward,
clipping, AdamW. Peers' sources are imported from the folder given, never copied.
"""

import gc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

N_TOKENS = 1_000_000
RATE, DECAY, BETAS, CLIP = 6e-4, 0.1, (0.9, 0.95), 1.0
SETTINGS = ExitStack()  # held for as long as the process lives
Step = Callable[[], float]  # takes one step, returns its loss


def tokens(shape: dict[str, Any]) -> Any:
    return np.random.default_rng(0).integers(0, shape["vocab_size"], N_TOKENS).astype(np.uint16)


def gpt2lab(mode: str, shape: dict[str, Any], folder: str) -> Step:
    """Modes: default, fast; and for the sake of a look: eager, float32, float32-eager."""
    from gpt2lab.data.dataset import TokenDataset
    from gpt2lab.data.loader import BatchLoader
    from gpt2lab.data.shards import UINT16, Shard
    from gpt2lab.model.config import ModelConfig
    from gpt2lab.model.gpt import GPT
    from gpt2lab.training.optimizer import Optimizers
    from gpt2lab.training.parallel import Placement
    from gpt2lab.training.recipe import OptimizerConfig
    from gpt2lab.training.step import TrainingStep, compiled_loss, determinism, keep_freed_memory

    sizes = {name: shape[name] for name in ("vocab_size", "n_layer", "n_head", "n_embd")}
    model = GPT(ModelConfig(context_length=shape["positions"], **sizes))
    model = model.initialise(torch.Generator().manual_seed(0)).to(shape["device"]).train()
    shard = Shard(Path("random.bin"), UINT16, tokens(shape))
    dataset = TokenDataset(Path(), "train", [shard], None, shape["vocab_size"])
    loader = BatchLoader(dataset, shape["context_length"], shape["batch"], seed=1)
    placement = Placement(model)
    keep_freed_memory(torch.device(shape["device"]))
    dtype = torch.float32 if "float32" in mode else torch.bfloat16
    optimizers = Optimizers(placement, OptimizerConfig(learning_rate=RATE, weight_decay=DECAY))
    step = TrainingStep(
        placement, optimizers, loader, micro_batch=shape["batch"], seed=1, clip_norm=CLIP, dtype=dtype
    )
    SETTINGS.enter_context(determinism("fast" not in mode))
    if "eager" not in mode:
        step.loss = compiled_loss()
    numbers = iter(range(10**9))
    return lambda: step.take(next(numbers), 0.01).loss


def nanogpt(mode: str, shape: dict[str, Any], folder: str) -> Step:
    """Its model.py in a loop as its train.py's. Modes: {eager,compiled}-{float32,bfloat16}."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", Path(folder) / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    sizes = {name: shape[name] for name in ("vocab_size", "n_layer", "n_head", "n_embd")}
    torch.manual_seed(1337)
    torch.backends.cuda.matmul.allow_tf32 = True
    model = module.GPT(module.GPTConfig(block_size=shape["positions"], dropout=0.0, bias=True, **sizes))
    model.to(shape["device"])
    kind, dtype = shape["device"].partition(":")[0], getattr(torch, mode.rpartition("-")[2])
    optimizer = model.configure_optimizers(DECAY, RATE, BETAS, kind)
    compiled = torch.compile(model) if "compiled" in mode else model
    # Its train.py casts nothing on a CPU; there it is told to, or bfloat16 could not be compared.
    casting = nullcontext() if dtype == torch.float32 else torch.amp.autocast(kind, dtype)
    data, length, device = tokens(shape), shape["context_length"], shape["device"]

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        starts = torch.randint(len(data) - length, (shape["batch"],))
        x = torch.stack([torch.from_numpy(data[i : i + length].astype(np.int64)) for i in starts])
        y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + length].astype(np.int64)) for i in starts])
        return x.to(device), y.to(device)

    following = [batch()]

    def step() -> float:
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.01
        with casting:
            _, loss = compiled(*following[0])
        following[0] = batch()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(compiled.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.item())

    return step


def huggingface(mode: str, shape: dict[str, Any], folder: str) -> Step:
    """GPT2LMHeadModel in the plainest loop. Modes: float32, bfloat16 (autocast)."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {name: shape[name] for name in ("vocab_size", "n_layer", "n_head", "n_embd")}
    rates = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(n_positions=shape["positions"], **sizes, **rates))
    model.to(shape["device"]).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE * 0.01, betas=BETAS, weight_decay=DECAY)
    kind, dtype = shape["device"].partition(":")[0], getattr(torch, mode)
    data, length, random = tokens(shape), shape["context_length"], np.random.default_rng(1)

    def step() -> float:
        starts = random.integers(len(data) - length, size=shape["batch"])
        rows = np.stack([data[i : i + length] for i in starts]).astype(np.int64)
        x = torch.from_numpy(rows).to(shape["device"])
        with torch.autocast(kind, dtype, enabled=dtype != torch.float32):
            loss = model(x, labels=x).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.item())

    return step


TRAINERS = {trainer.__name__: trainer for trainer in (gpt2lab, nanogpt, huggingface)}


def gemm_peak(shape: dict[str, Any], seconds: float) -> dict[str, float]:
    """Flops a second of bfloat16 products, square ones and the model's, the fastest repetition of each."""
    rows, width, device = shape["batch"] * shape["context_length"], shape["n_embd"], shape["device"]
    sizes = [(2048, 2048, 2048), (4096, 4096, 4096), (512, width, width)]
    sizes += [(rows, width, n * width) for n in (1, 3, 4)] + [(rows, 4 * width, width)]
    found = {}
    for m, k, n in sizes:
        a, b = (torch.randn(size, dtype=torch.bfloat16, device=device) for size in ((m, k), (k, n)))
        best, end = float("inf"), time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            torch.mm(a, b)
            finish(device)
            best = min(best, time.perf_counter() - began)
        found[f"{m}x{k}x{n}"] = 2 * m * k * n / best
    return found


def profile(step: Step, device: str) -> list[tuple[str, float]]:
    """Names of the costliest kernels, and their share of a step's time."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    on_gpu = device.startswith("cuda")
    with profiler(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as found:
        for _ in range(3):
            step()
        finish(device)
    own = {e.key: e.self_device_time_total if on_gpu else e.self_cpu_time_total for e in found.key_averages()}
    whole = sum(own.values())
    return [(name, own[name] / whole) for name in sorted(own, key=lambda name: -own[name])[:10]]


def finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak_bytes(device: str) -> int:
    """The most memory this process has held: on the GPU, or resident."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def main() -> None:
    trainer, mode, shape, folder = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
    replies = os.dup(1)
    os.dup2(2, 1)  # libraries may print; only replies go to the driver
    began = time.perf_counter()
    step = TRAINERS[trainer](mode, shape, folder)
    first_loss = step()
    finish(shape["device"])
    answer: dict[str, Any] = {"first_step_seconds": time.perf_counter() - began, "loss": first_loss}
    step()
    os.write(replies, json.dumps(answer).encode() + b"\n")
    for line in sys.stdin:
        order = json.loads(line)
        answer = {}
        if order["do"] == "steps":
            seconds = []
            gc.collect()
            for _ in range(order["times"]):
                began = time.perf_counter()
                step()
                finish(shape["device"])
                seconds.append(time.perf_counter() - began)
            answer = {"seconds": seconds, "peak_bytes": peak_bytes(shape["device"])}
        elif order["do"] == "gemm":
            answer = gemm_peak(shape, order["seconds"])
        elif order["do"] == "profile":
            answer = {"kernels": profile(step, shape["device"])}
        os.write(replies, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
