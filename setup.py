"""Builds the native code with the package; everything else about it stands in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent / "csrc"))
from build import build_all


class BuildNativeFirst(build_py):
    """The libraries are package data, so they must be there before the package is collected."""

    def run(self) -> None:
        build_all()
        super().run()


class PlatformDistribution(Distribution):
    """A wheel of this package holds libraries, so it belongs to one platform."""

    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"build_py": BuildNativeFirst}, distclass=PlatformDistribution)
