"""A barrier that is missing is told, whatever the order of threads; and the kernels as they are run in any order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from dyhead_lab.ops import emulator, native

from .native_operators import NativeOperators
from .test_native_kernels import Convolution, assert_close, attention_by_formula, attention_case, attention_native

CSRC = Path(__file__).parents[2] / "csrc"
pytestmark = pytest.mark.skipif(
    not native.built("emulated"), reason=f"emulated kernels: {native.why_missing('emulated')}"
)


@pytest.fixture
def emulated() -> NativeOperators:
    return NativeOperators("emulated")


def barriers() -> list[tuple[str, int]]:
    """Every barrier and every wait for copies in the kernels: file and line."""
    files = [path.relative_to(CSRC).as_posix() for path in sorted(CSRC.glob("*/*.cuh"))]
    return [(file, line) for file in files for line in emulator.barriers(file)]


def run_all(emulated: NativeOperators, folder: str) -> None:
    """The fast kernels of a folder, with several steps, rounds and chunks each; of "common", whoever uses it."""
    if folder != "ms_deform_attn":
        for name in ("offset groups", "many channels"):
            Convolution(name, torch.float32).native(emulated, "fast")
    if folder != "deform_conv":
        attention_native(emulated, attention_case("more samples than a chunk", torch.float32), "fast")
        attention_native(emulated, attention_case("encoder", torch.bfloat16), "fast")  # more tiles than blocks


@pytest.mark.parametrize(("file", "line"), barriers(), ids=lambda part: str(part))
def test_a_missing_barrier_is_told(emulated: NativeOperators, file: str, line: int) -> None:
    """Each one in turn. One that is not missed would not be needed."""
    with emulator.left_out(file, line), pytest.raises(RuntimeError) as told:
        run_all(emulated, file.partition("/")[0])
    message = str(told.value)
    assert re.search(
        r"race in \w+<.*>, block \(\d+, \d+, \d+\): thread \d+ (reads|writes) bytes \d+ to \d+ of '(shared|memory)', "
        r"which (thread \d+ (wrote|read) since the last barrier|an asynchronous copy of thread \d+ is still writing)",
        message,
    )
    if "wait_for_copies" in (CSRC / file).read_text(encoding="utf-8").splitlines()[line - 1]:
        assert "is still writing" in message


def test_nothing_is_told_of_the_kernels_as_they_are(emulated: NativeOperators) -> None:
    run_all(emulated, "common")


def test_files_and_lines_of_barriers_are_found() -> None:
    files = {file for file, _ in barriers()}
    assert {"deform_conv/fast_forward.cuh", "ms_deform_attn/fast.cuh", "common/tensor_core.cuh"} <= files
    with (
        pytest.raises(ValueError, match=r"one of \[\], where common/tile.cuh waits, got 1"),
        emulator.left_out("common/tile.cuh", 1),
    ):
        pass


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_kernels_are_right_in_any_order(emulated: NativeOperators, seed: int) -> None:
    with emulator.shuffled(seed):
        case = Convolution("offset groups", torch.float32)
        assert_close(case.native(emulated, "fast"), case.by_formula(), torch.float32)
        case = attention_case("more samples than a chunk", torch.float32)
        assert_close(attention_native(emulated, case, "fast"), attention_by_formula(case), torch.float32)


def test_a_seed_gives_an_order_and_none_gives_the_old_one(emulated: NativeOperators) -> None:
    """The sum of atomics depends on their order, in its last bits."""
    case = attention_case("more samples than a chunk", torch.float32)

    def grad_value(seed: int) -> torch.Tensor:
        with emulator.shuffled(seed):
            return attention_native(emulated, case, "fast")[1]

    assert torch.equal(grad_value(5), grad_value(5))
    assert not torch.equal(grad_value(5), grad_value(6))
    assert torch.equal(grad_value(0), attention_native(emulated, case, "fast")[1])
    with pytest.raises(ValueError, match="seed must not be negative, got -1"), emulator.shuffled(-1):
        pass
