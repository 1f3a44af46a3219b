"""Builds the C++ libraries into wheels; everything else is in pyproject.toml.

Without a compiler the wheel is plain Python: a library is then compiled when it is first used, or done
without.
"""

import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

sys.dont_write_bytecode = True
sys.path.insert(0, "src")
from gpt2lab.base.native import LIBRARIES, BuildError, variants  # noqa: E402 (not installed yet)


class BuildWithEngine(build_py):
    """Copy the package, then compile one library for each set of instructions into the copy."""

    def run(self) -> None:
        """Copy, then compile."""
        super().run()
        if self.editable_mode:
            return  # compiled when it is first used, so that it is never older than its source
        for library in LIBRARIES:
            folder = Path(self.build_lib, "gpt2lab", *library.folder.parts[-2:])
            for variant in variants():
                try:
                    library.compile(variant, folder / library.file_name(variant))
                except BuildError as error:
                    print(f"left out: {library.title}: {error}", file=sys.stderr)
                    break


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
