"""The engines as processes of their own, and the probe beside them: what both generation benchmarks drive."""

import hashlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PATIENCE = 1800  # seconds; an engine that has not answered by then is given up


class EngineError(Exception):
    """An engine cannot do what it was asked for; the message is its own."""


@dataclass(frozen=True)
class Mode:
    """One engine in one precision."""

    name: str
    group: str
    """which modes are compared: 16, 8 or 4 bit, or "" for one that is only shown"""
    kind: str
    """its file in this folder"""
    mode: str
    """the engine's word for the precision"""
    environment: str
    """whose Python runs it; "" for this one"""
    ours: bool = False


def modes(environments: Mapping[str, str]) -> list[Mode]:
    """All that can be compared; llama.cpp once for every environment "llama..." (builds differ in speed)."""
    found = [Mode(f"gpt2lab {p}", g, "of_gpt2lab", p, "", True) for p, g in OURS.items()]
    builds = [name for name in environments if name.startswith("llama")] or ["gen"]
    for build in builds:
        suffix = f" ({build.removeprefix('llama-')})" if len(builds) > 1 else ""
        for file_type, group in LLAMA.items():
            found.append(Mode(f"llama.cpp {file_type}{suffix}", group, "of_llama_cpp", file_type, build))
    found += [Mode(f"OpenVINO {m}", g, "of_openvino", m, "ov") for m, g in OPENVINO.items()]
    found += [Mode(f"CTranslate2 {m}", g, "of_ctranslate2", m, "gen") for m, g in CTRANSLATE2.items()]
    found += [Mode(f"{name}", g, "of_torch", m, "gen") for name, (g, m) in TORCH.items()]
    return found


OURS = {"bf16": "16 bit", "int8": "8 bit", "int4": "4 bit", "int4-fast": "4 bit"}
LLAMA = {"F16": "16 bit", "BF16": "16 bit", "Q8_0": "8 bit", "Q4_0": "4 bit", "Q4_K_M": "4 bit"}
OPENVINO = {"bf16": "16 bit", "int8": "8 bit", "int4": "4 bit"}
CTRANSLATE2 = {"float32": "", "bfloat16": "16 bit", "int8": "8 bit", "int8_bfloat16": "8 bit"}
TORCH = {
    "Hugging Face float32": ("", "float32"),
    "Hugging Face bfloat16": ("16 bit", "bfloat16"),
    "torch dynamic int8, per row": ("8 bit", "per-row"),
    "torch dynamic int8, per matrix": ("8 bit", "per-matrix"),
}


class Setting:
    """A model, a folder for converted files, and the Python of every environment."""

    def __init__(self, model: Path, work: Path, environments: Mapping[str, str], n_threads: int) -> None:
        self.model = model.resolve()
        with (model / "model.safetensors").open("rb") as weights:
            digest = hashlib.file_digest(weights, "sha256").hexdigest()
        self.work = (
            work.resolve() / digest[:16]
        )  # what was converted from other weights is never taken for these
        self.work.mkdir(parents=True, exist_ok=True)
        self.environments = {"": sys.executable, **environments}
        self.n_threads = n_threads

    def _command(self, task: str, mode: Mode) -> list[str]:
        if mode.environment not in self.environments:
            raise EngineError(f"no --peer-python {mode.environment}=... was given")
        words = [task, mode.kind, mode.mode, str(self.model), str(self.work), str(self.n_threads)]
        return [self.environments[mode.environment], str(HERE / "worker.py"), *words]

    def process(self, task: str, mode: Mode, errors: Any) -> "subprocess.Popen[bytes]":
        """A process of an engine, on the first `n_threads` cores."""
        environment = os.environ | {
            "OMP_NUM_THREADS": str(self.n_threads), "MKL_NUM_THREADS": str(self.n_threads),
            "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        return subprocess.Popen(
            self._command(task, mode),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            preexec_fn=lambda: pin(self.n_threads),
        )

    def prepare(self, mode: Mode) -> None:
        """Let an engine convert the model, if it has not yet.

        Raises:
            EngineError: it cannot.
        """
        with tempfile.TemporaryFile() as errors:
            process = self.process("prepare", mode, errors)
            process.communicate()
            if process.returncode:
                raise EngineError(last_words(errors))


class Worker:
    """An engine's process. A context manager: its end is the process's end.

    Raises:
        EngineError: the engine does not start.
    """

    def __init__(self, setting: Setting, mode: Mode, first_order: dict[str, Any] | None = None) -> None:
        self.mode = mode
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        began = time.perf_counter()
        self.process = setting.process("serve", mode, self.errors)
        if first_order is not None:
            self._send(first_order)
        self.facts = self._answer()
        self.ready_seconds = time.perf_counter() - began
        if first_order is not None:
            self._answer()
            self.first_answer_seconds = time.perf_counter() - began

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """One order, one answer.

        Raises:
            EngineError: the engine could not do it, or has died.
        """
        self._send(order)
        return self._answer()

    def _send(self, order: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise EngineError(self._death()) from error

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            raise EngineError(f"no answer in {PATIENCE} s")
        line = self.process.stdout.readline()
        if not line:
            raise EngineError(self._death())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer

    def _death(self) -> str:
        return f"exit code {self.process.wait()}: {last_words(self.errors)}"

    def cpu_seconds(self) -> float:
        """What the process has used of all cores so far (Linux; 0 elsewhere)."""
        statistics = Path(f"/proc/{self.process.pid}/stat")
        if not statistics.exists():
            return 0.0
        user, system = statistics.read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


class Probe:
    """How fast memory can be read at this moment, by probe.cpp.

    Raises:
        subprocess.CalledProcessError: there is no compiler, or it fails.
    """

    def __init__(self, work: Path, n_threads: int) -> None:
        program = work / "probe"
        compiler = os.environ.get("CXX", "g++")
        source = str(HERE / "probe.cpp")
        subprocess.run([compiler, "-O3", "-march=native", "-pthread", source, "-o", str(program)], check=True)
        self.process = subprocess.Popen(
            [str(program), str(n_threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: pin(n_threads),
        )

    def read(self, n_bytes: float) -> float:
        """Bytes a second, reading the same so many bytes again and again."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{n_bytes:.0f}\n".encode())
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()


def pin(n_cores: int) -> None:
    """Keep this process on its first cores."""
    if sys.platform == "linux":  # elsewhere the engines' own settings must do
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n_cores])


def last_words(errors: Any) -> str:
    """The last line of a process's standard error."""
    errors.seek(0)
    lines = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "it said nothing"
