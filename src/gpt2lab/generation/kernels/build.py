"""The CPU engine as a library: one for each set of instructions, from the same sources (`base.native`)."""

import platform
from dataclasses import replace
from pathlib import Path

from gpt2lab.base import native
from gpt2lab.base.native import VARIANTS, BuildError, Variant, processor_flags, variants

__all__ = ["VARIANTS", "BuildError", "Variant", "best_variant", "compile_library", "library", "platform"]
__all__ += ["processor_flags", "variants"]

SOURCES = Path(__file__).parent
_FLAGS = list(native.FLAGS)


def _engine() -> native.Library:
    return replace(native.CPU_ENGINE, folder=SOURCES)


def best_variant() -> Variant:
    """The best variant that this processor can run.

    Raises:
        BuildError: there is none for its architecture.
    """
    return native.best_variant(processor_flags())


def library(variant: Variant) -> Path:
    """See `native.Library.compiled`."""
    return _engine().compiled(variant)


def compile_library(variant: Variant, target: Path, compiler: str | None = None) -> None:
    """See `native.Library.compile`."""
    _engine().compile(variant, target, compiler)


def _digest(variant: Variant) -> str:
    return _engine().digest(variant)
