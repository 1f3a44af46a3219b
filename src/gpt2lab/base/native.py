"""C++ libraries of ours: which instructions a processor has, and one library compiled for each set of them.

Standard library only, because `setup.py` uses it too, where nothing else is installed yet. A wheel carries
the libraries of its architecture; a checkout compiles those for its machine when they are first used.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

FLAGS = ("-O3", "-std=c++20", "-shared", "-fPIC", "-pthread", "-fno-math-errno", "-Wno-psabi", "-g0")


@dataclass(frozen=True)
class Variant:
    """One set of instructions: what a processor must have, and how a compiler is told to use it."""

    name: str
    needs: frozenset[str]
    """as /proc/cpuinfo names them"""
    flags: tuple[str, ...]


def _variant(name: str, needs: str, flags: str) -> Variant:
    return Variant(name, frozenset(needs.split()), tuple(flags.split()))


_AVX512 = "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma"
_HAS_AVX512 = "avx512f avx512bw avx512vl avx512dq avx512_vnni fma"

VARIANTS = {  # by architecture, the best first
    "x86_64": (
        _variant(
            "amx",
            f"{_HAS_AVX512} avx512_bf16 amx_tile amx_bf16 amx_int8",
            f"{_AVX512} -mavx512bf16 -mamx-tile -mamx-bf16 -mamx-int8",
        ),
        _variant("avx512-bf16", f"{_HAS_AVX512} avx512_bf16", f"{_AVX512} -mavx512bf16"),
        _variant("avx512", _HAS_AVX512, _AVX512),
        _variant("avx2", "avx2 fma", "-mavx2 -mfma"),
        _variant("portable", "", ""),
    ),
    "aarch64": (
        _variant("neon", "asimddp", "-march=armv8.2-a+dotprod"),
        _variant("portable", "", ""),
    ),
}


_AMX = frozenset(("amx_tile", "amx_bf16", "amx_int8"))


class BuildError(Exception):
    """A library cannot be compiled or loaded here; the message says why in one line."""


def variants() -> tuple[Variant, ...]:
    """The variants of this machine's architecture, the best first."""
    machine = platform.machine().lower()
    return VARIANTS.get({"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine), ())


def processor_flags() -> frozenset[str]:
    """What this process may do with its processor, in /proc/cpuinfo's words."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():  # macOS: every arm64 Mac has the dot products
        return frozenset({"asimddp"} if platform.machine() == "arm64" else ())
    for line in cpuinfo.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            flags = frozenset(value.split())
            return flags if "amx_tile" in flags and _allow_tiles() else flags - _AMX
    return frozenset()


def _allow_tiles() -> bool:
    """Ask the system for AMX's registers, which no process has from the start; its threads get them too."""
    arch_prctl, ask_for_state, tile_data = map(ctypes.c_long, (158, 0x1023, 18))
    return bool(ctypes.CDLL(None).syscall(arch_prctl, ask_for_state, tile_data) == 0)


def best_variant(flags: frozenset[str]) -> Variant:
    """The best variant that a processor with these `flags` can run.

    Raises:
        BuildError: there is none for its architecture.
    """
    for variant in variants():
        if variant.needs <= flags:
            return variant
    raise BuildError(f"there are no kernels for {platform.machine()} processors")


@dataclass(frozen=True)
class Library:
    """One C++ library: a source that includes the headers beside it."""

    title: str
    """what it is to a user: "the CPU engine" """
    folder: Path
    source: str
    """its file's name, whose stem the library's name begins with"""
    flags: tuple[str, ...] = FLAGS

    def file_name(self, variant: Variant) -> str:
        """What the compiled file is called."""
        return f"{Path(self.source).stem}-{variant.name}.so"

    def compiled(self, variant: Variant) -> Path:
        """The compiled library: the wheel's, else the one in the cache, compiled now if it is not there yet.

        Raises:
            BuildError: it must be compiled and cannot be.
        """
        shipped = self.folder / self.file_name(variant)
        if shipped.exists():
            return shipped
        cached = cache_folder() / self.digest(variant) / self.file_name(variant)
        if not cached.exists():
            print(
                f"compiling {self.title} for {variant.name}, once (about 15 s)", file=sys.stderr, flush=True
            )
            self.compile(variant, cached)
        return cached

    def compile(self, variant: Variant, target: Path, compiler: str | None = None) -> None:
        """Compile to `target`, which appears whole or not at all.

        Raises:
            BuildError: there is no compiler, or it failed, or `target` cannot be written.
        """
        compiler = compiler or _compiler()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                made = Path(folder) / target.name
                source = str(self.folder / self.source)
                command = [compiler, *self.flags, *variant.flags, source, "-o", str(made)]
                result = subprocess.run(command, capture_output=True, text=True, check=False)
                if result.returncode:
                    errors = (line for line in result.stderr.splitlines() if "error:" in line)
                    reason = next(errors, "it failed").strip()
                    raise BuildError(f"{compiler} cannot compile {self.title}: {reason}")
                made.replace(target)
        except OSError as error:
            raise BuildError(f"{self.title} cannot be written to {target.parent}: {error}") from error

    def digest(self, variant: Variant) -> str:
        """Changes with the sources and the flags, so that a library is never older than they are."""
        digest = hashlib.sha256(repr((list(self.flags), variant.flags)).encode())
        for source in sorted([*self.folder.glob("*.h"), *self.folder.glob("*.cpp")]):
            digest.update(source.read_bytes())
        return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Where libraries compiled on this machine are kept."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "gpt2lab" / "kernels"


def _compiler() -> str:
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    found = next(filter(None, map(shutil.which, wanted)), None)
    if found is None:
        raise BuildError(f"there is no C++ compiler ({' or '.join(wanted)})")
    return found


_PACKAGE = Path(__file__).parents[1]
CPU_ENGINE = Library("the CPU engine", _PACKAGE / "generation" / "kernels", "engine.cpp")
TRAINING = Library(
    "training's kernels", _PACKAGE / "training" / "kernels", "training.cpp", (*FLAGS, "-fopenmp")
)
LIBRARIES = (CPU_ENGINE, TRAINING)
