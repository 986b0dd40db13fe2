"""Builds the native code with the package, and packs what the project ships; the rest stands in pyproject.toml."""

import shutil
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).resolve().parent / "csrc"))
from build import ROOT, build_all

#: What an installed package carries from outside of its own folder. ``dyhead_lab/paths.py`` finds it there.
SHIPPED = (
    "data/weights/*.pt",
    "data/weights/*.json",
    "data/weights/backbones/*",
    "data/sample/*",
    "csrc/**/*.*",
    "notebooks/*.ipynb",
    "notebooks/*/*.ipynb",
    "notebooks/*/*.svg",
)


class BuildWhole(build_py):
    """The libraries are package data, so they are built before the package is collected."""

    def run(self) -> None:
        build_all()
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)  # what an earlier version left would travel as well
        super().run()
        if not self.editable_mode:
            ship(Path(self.build_lib) / "dyhead_lab" / "shipped")


def ship(target: Path) -> None:
    """Copy what the project ships into ``target``, with the folders that it has in the repository."""
    for pattern in SHIPPED:
        files = [path for path in ROOT.glob(pattern) if path.is_file() and path.suffix != ".pyc"]
        if not files:
            raise SystemExit(f"nothing fits {pattern}: the sources are not whole")
        for path in files:
            copy = target / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)


class PlatformDistribution(Distribution):
    """A wheel of this package holds libraries, so it belongs to one platform."""

    def has_ext_modules(self) -> bool:
        return True


setup(
    cmdclass={"build_py": BuildWhole},
    distclass=PlatformDistribution,
    # The libraries use torch's stable ABI and no Python of a version: one wheel serves 3.11 and later.
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
