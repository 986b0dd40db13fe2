"""``dyhead-lab doctor``: what works on this machine, and the command that mends what does not."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from . import machine, workbook
from .check import Check

#: In the order in which a reader would mend things.
CHECKS: tuple[Callable[[], Check], ...] = (
    machine.python,
    machine.torch_pair,
    machine.shares,
    machine.cuda_device,
    machine.nvcc,
    machine.compiler,
    machine.native_cpu,
    machine.native_cuda,
    workbook.numba,
    workbook.jupyterlab,
    workbook.widgets,
    workbook.chromium,
    workbook.sample_data,
    workbook.weights,
    workbook.coco,
)


def report() -> list[Check]:
    """Run every check, in the order in which a reader would mend things."""
    return [checked() for checked in CHECKS]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The doctor takes no arguments."""


def run(args: argparse.Namespace) -> int:
    """Print one line for each check. Returns 0 if the lab is usable, else 1."""
    found = report()
    for line in found:
        print(line)
    unusable = [line.name for line in found if line.needed and line.status != "ok"]
    print(f"The lab is not usable yet: {', '.join(unusable)}." if unusable else "The lab is usable.")
    return 1 if unusable else 0
