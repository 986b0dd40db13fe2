"""How kernels are compiled: told once, kept on disk, and compiled again when what they inline has changed."""

import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import pytest
from numba import njit

from dyhead_lab.ops import numba_compile


def test_functions_without_a_module_still_compile():
    scope = {}
    exec("def one_more(x): return x + 1", {"__builtins__": {}}, scope)
    assert njit(scope["one_more"])(1) == 2


def test_literal_loops_keep_their_rounding_when_fast_ones_call_them(monkeypatch, tmp_path):
    """Numba hands the flags of a caller down to what it calls first. In another order (1e8 + 1) - 1e8 would be 1."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    @numba_compile.literal
    def sum_in_order(a, b):
        return (b + a) - b

    @numba_compile.fast
    def caller(a, b):
        return sum_in_order(a, b)

    one, large = np.float32(1), np.float32(1e8)
    assert caller(one, large) == 0 == sum_in_order(one, large)


PROGRAM = """
import torch
from dyhead_lab.ops import ms_deform_attn
for _ in range(2):
    ms_deform_attn(torch.ones(1, 1, 1, 1), torch.tensor([[1, 1]]), torch.tensor([0]),
                   torch.ones(1, 1, 1, 1, 1, 2), torch.ones(1, 1, 1, 1, 1))
"""

HALF = "torch.full((1, 1, 1, 1, 1, 2), 0.5)"


@pytest.mark.slow
def test_kernels_run_where_nothing_can_be_kept_and_say_so():
    unwritable = "import numba.core.caching as c; c.CacheImpl._locator_classes = []\n"
    command = [sys.executable, "-c", unwritable + PROGRAM]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert told.count("compiling CPU kernels; they cannot be kept") == 1 and "NUMBA_CACHE_DIR" in told


@pytest.mark.slow
def test_compiling_is_told_once_and_only_when_it_happens(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    run = lambda: subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)  # noqa: E731
    assert run().stderr.count("compiling CPU kernels") == 1
    assert "compiling" not in run().stderr


@pytest.mark.slow
def test_kernels_are_compiled_again_when_a_file_changes_that_they_inline(tmp_path):
    """Weights of two pixels that add up to 2 instead of 1 on each axis make 4 of 1."""
    copy = tmp_path / "dyhead_lab"
    shutil.copytree(Path(numba_compile.__file__).parents[1], copy, ignore=shutil.ignore_patterns("__pycache__", "lib"))
    program = PROGRAM.replace("    ms_deform_attn", "    out = ms_deform_attn").replace(
        "torch.ones(1, 1, 1, 1, 1, 2)", HALF
    )
    command = [sys.executable, "-c", f"{program}\nprint(out.item())"]
    run = lambda: subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout  # noqa: E731
    assert [run(), run()] == ["1.0\n"] * 2
    pixels = copy / "ops" / "cpu" / "pixels.py"
    pixels.write_text(
        pixels.read_text(encoding="utf-8").replace("weights = one - part if", "weights = one + one - part if"),
        encoding="utf-8",
    )
    assert [run(), run()] == ["4.0\n"] * 2


class Gone(NamedTuple):
    """An argument's type, as files of an earlier version had it."""

    size: float


def test_what_an_earlier_version_kept_is_not_read(monkeypatch, tmp_path):
    """It may name types that are gone."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(numba_compile, "_STAMP", "earlier")

    def half(x):
        return x.size / 2

    assert numba_compile.fast(half)(Gone(3.0)) == 1.5
    assert list(tmp_path.rglob("*.nbi"))
    monkeypatch.setattr(numba_compile, "_STAMP", "now")
    monkeypatch.delitem(globals(), "Gone")
    now = namedtuple("Now", "size")
    assert numba_compile.fast(half)(now(3.0)) == 1.5
