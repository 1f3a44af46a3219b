"""Builds the CPU engine into wheels; everything else is in pyproject.toml.

Without a compiler the wheel is plain Python: the engine is then compiled when it is first used, or done
without.
"""

import runpy
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

KERNELS = Path("src/gpt2lab/generation/kernels")
sys.dont_write_bytecode = True
build = runpy.run_path(str(KERNELS / "build.py"))


class BuildWithEngine(build_py):
    """Copy the package, then compile one library for each set of instructions into the copy."""

    def run(self) -> None:
        """Copy, then compile."""
        super().run()
        if self.editable_mode:
            return  # compiled when it is first used, so that it is never older than its source
        folder = Path(self.build_lib, *KERNELS.parts[1:])
        for variant in build["variants"]():
            try:
                build["compile_library"](variant, folder / f"engine-{variant.name}.so")
            except build["BuildError"] as error:
                print(f"the CPU engine is left out: {error}", file=sys.stderr)
                return


class WheelWithEngine(bdist_wheel):
    """A wheel for this platform, and any Python: the engine is no extension module."""

    def get_tag(self) -> tuple[str, str, str]:
        """Python, its binary interface, the platform."""
        return "py3", "none", super().get_tag()[2]


class PlatformDistribution(Distribution):
    """Holds something compiled, though nothing that setuptools knows of."""

    def has_ext_modules(self) -> bool:
        """So that the wheel is one for this platform."""
        return True


setup(
    distclass=PlatformDistribution,
    cmdclass={"build_py": BuildWithEngine, "bdist_wheel": WheelWithEngine},
)
