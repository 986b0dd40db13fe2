"""Checks, planted bugs and solutions of the chapter on the race of kernels: a floor for their time, and a way in.

Counts are plain numbers. The reader's kernel takes and returns tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import fmean, median

import numpy as np
import torch

from dyhead_lab.ops import deform_conv2d
from dyhead_lab.ops.bench.problems import convolution

from ..practice.reader_checks import Case, Mistake, Verdict, check

TAPS = 9
Convolution = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

# What cannot be avoided


def _conv_work(B: int, C: int, H: int, W: int) -> tuple[int, int]:
    """Bytes and operations of a 3x3 deformable convolution from C to C, as the benchmark counts them."""
    problem = convolution("counted", B, C, H, W, "cpu")
    return problem.bytes_moved(problem.floats[0], backward=False), problem.operations  # the output is like the input


def _work_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        B, C, H, W = int(rng.integers(2, 5)), 8 * int(rng.integers(1, 5)), *(int(n) for n in rng.integers(5, 20, 2))
        yield Case(f"{B} x {C} x {H} x {W}", (B, C, H, W))


def _work(
    bytes_: Callable[[int, int, int], float] = lambda pixels, C, all_bytes: all_bytes,
    operations: Callable[[int], float] = lambda all_operations: all_operations,
) -> Callable[..., tuple[float, float]]:
    """The counts, changed."""

    def imitate(B: int, C: int, H: int, W: int) -> tuple[float, float]:
        all_bytes, all_operations = _conv_work(B, C, H, W)
        return bytes_(B * H * W, C, all_bytes), operations(all_operations)

    return imitate


WORK_MISTAKES = (
    Mistake(
        "numbers are counted, not bytes",
        "a float32 has four bytes.",
        _work(bytes_=lambda pixels, C, all_bytes: all_bytes / 4),
    ),
    Mistake(
        "the output is forgotten",
        "what is computed has to be written as well.",
        _work(bytes_=lambda pixels, C, all_bytes: all_bytes - 4 * pixels * C),
    ),
    Mistake(
        "the masks are forgotten, or an offset counts as one number",
        "an offset is (dy, dx), and each tap has a mask: 27 numbers a pixel.",
        _work(bytes_=lambda pixels, C, all_bytes: all_bytes - 4 * pixels * TAPS),
    ),
    Mistake(
        "the weight is read again for every pixel",
        "a floor counts every number once; a cache keeps what is read again.",
        _work(bytes_=lambda pixels, C, all_bytes: all_bytes + 4 * TAPS * C * C * (pixels - 1)),
    ),
    Mistake(
        "the four pixels of every tap are counted",
        "a floor counts every number of the input once, however often it is sampled.",
        _work(bytes_=lambda pixels, C, all_bytes: all_bytes + 4 * pixels * C * (4 * TAPS - 1)),
    ),
    Mistake(
        "a multiplication and its addition count as one",
        "machines are rated in operations: two for each multiply-add.",
        _work(operations=lambda all_operations: all_operations / 2),
    ),
    Mistake(
        "the nine taps are forgotten",
        "each output is a sum over C channels and nine taps.",
        _work(operations=lambda all_operations: all_operations / TAPS),
    ),
)


def check_conv_work(function: Callable[..., tuple[float, float]]) -> Verdict:
    """Check the reader's ``conv_work(B, C, H, W)``: (bytes, operations)."""
    return check(function, _conv_work, _work_cases(), WORK_MISTAKES)


def floor_seconds(bytes_moved: float, operations: float, bandwidth: float, rate: float) -> float:
    """No kernel is faster: memory and arithmetic work at the same time, so the slower of the two decides."""
    return max(bytes_moved / bandwidth, operations / rate)


def _floor_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        memory, arithmetic = (float(x) for x in rng.uniform(1, 9, size=2))
        memory, arithmetic = sorted((memory, arithmetic + 1), reverse=bool(number % 2))
        bandwidth, rate = float(rng.uniform(2, 5)), float(rng.uniform(20, 50))
        bound = "memory" if memory > arithmetic else "arithmetic"
        yield Case(f"bound by {bound}", (memory * bandwidth, arithmetic * rate, bandwidth, rate))


FLOOR_MISTAKES = (
    Mistake(
        "the two times are added",
        "a machine loads while it computes: the longer time decides.",
        lambda b, o, bandwidth, rate: b / bandwidth + o / rate,
    ),
    Mistake(
        "the shorter time is taken",
        "both must be finished: the longer time decides.",
        lambda b, o, bandwidth, rate: min(b / bandwidth, o / rate),
    ),
    Mistake(
        "memory is forgotten",
        "bytes / bandwidth is a time too.",
        lambda b, o, bandwidth, rate: o / rate,
    ),
    Mistake(
        "arithmetic is forgotten",
        "operations / rate is a time too.",
        lambda b, o, bandwidth, rate: b / bandwidth,
    ),
    Mistake(
        "bandwidth and rate are swapped",
        "bytes go with bytes per second.",
        lambda b, o, bandwidth, rate: max(b / rate, o / bandwidth),
    ),
)


def check_floor_seconds(function: Callable[..., float]) -> Verdict:
    """Check the reader's ``floor_seconds(bytes_moved, operations, bandwidth, rate)``."""
    return check(function, floor_seconds, _floor_cases(), FLOOR_MISTAKES)


# A fair race, on a machine that gets busy when it likes

Contenders = dict[str, Callable[[], None]]


class _Machine:
    """A clock that moves only while a contender runs."""

    def __init__(self, busy: tuple[int, int]):
        self.now, self.runs, self.busy = 100.0, 0, busy

    def clock(self) -> float:
        return self.now

    def contender(self, seconds: float) -> Callable[[], None]:
        """Its first run takes a minute more; runs in the busy stretch take three times as long."""
        ran = False

        def run() -> None:
            nonlocal ran
            is_busy = self.busy[0] <= self.runs < self.busy[1]
            self.now += seconds * (3 if is_busy else 1) + (0 if ran else 60)
            self.runs, ran = self.runs + 1, True

        return run


def _result_of(race: Callable[..., dict[str, float]]) -> Callable[..., np.ndarray]:
    """What a race says of contenders with these seconds on a machine that is busy in these runs."""

    def raced(costs: tuple[float, ...], rounds: int, busy: tuple[int, int]) -> np.ndarray:
        machine = _Machine(busy)
        contenders = {f"contender {n}": machine.contender(seconds) for n, seconds in enumerate(costs)}
        result = race(contenders, rounds, machine.clock)
        return np.array([result[name] for name in contenders])

    return raced


def _times(contenders: Contenders, rounds: int, clock: Callable[[], float], warm: bool = True, turns: bool = True,
           whole: bool = False) -> dict[str, list[float]]:  # fmt: skip
    """All times of a race that warms up or does not, takes turns or does not, measures runs or from the start."""
    if warm:
        for run in contenders.values():
            run()
    begin, times = clock(), {name: [] for name in contenders}  # type: ignore[var-annotated]
    order = [name for _ in range(rounds) for name in contenders]
    for name in order if turns else sorted(order):
        start = begin if whole else clock()
        contenders[name]()
        times[name].append(clock() - start)
    return times


def _race(middle: Callable[[list[float]], float] = median, **how: bool) -> Callable[..., dict[str, float]]:
    return lambda contenders, rounds, clock: {n: middle(t) for n, t in _times(contenders, rounds, clock, **how).items()}


def _race_cases() -> Iterator[Case]:
    yield Case("two contenders on a quiet machine", ((1.0, 2.0), 5, (0, 0)))
    yield Case("a machine that is busy for a while", ((1.0, 2.0, 1.5), 9, (10, 20)))
    yield Case("a machine that is busy at the end", ((3.0, 2.0), 11, (18, 24)))


RACE_MISTAKES = (
    Mistake(
        "the contenders run one after the other",
        "the loop over rounds is the outer one: a busy moment must meet all of them.",
        _result_of(_race(turns=False)),
    ),
    Mistake(
        "the first run counts",
        "let each run once before the clock is looked at: it may compile something.",
        _result_of(_race(fmean, warm=False)),
    ),
    Mistake(
        "the mean is taken",
        "a single busy moment moves a mean: take the median.",
        _result_of(_race(fmean)),
    ),
    Mistake(
        "the times are added up",
        "the seconds of one run are asked for: the median of its times.",
        _result_of(_race(sum)),
    ),
    Mistake(
        "the clock is read once, before everything",
        "every run has a start of its own.",
        _result_of(_race(whole=True)),
    ),
)


def check_race(function: Callable[..., dict[str, float]]) -> Verdict:
    """Check the reader's ``race(contenders, rounds, clock)``: name -> median seconds."""
    return check(_result_of(function), _result_of(_race()), _race_cases(), RACE_MISTAKES)


# The reader's kernel


def _library(input: torch.Tensor, offset: torch.Tensor, weight: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return deform_conv2d(input, offset, weight, padding=1, mask=mask, backend="formula")


def _contender_cases(seed: int = 0, count: int = 5) -> Iterator[Case]:
    """Not square, offsets up to and beyond the border."""
    generator = torch.Generator().manual_seed(seed)
    for number in range(count):
        B, C, Co, H, W = 1 + number % 2, 2, 3, 4 + number, 6

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        arguments = (draw(B, C, H, W), 1.5 * draw(B, 18, H, W), draw(Co, C, 3, 3), draw(B, 9, H, W).sigmoid())
        yield Case(f"input {B} x {C} x {H} x {W}", arguments)


CONTENDER_MISTAKES = (
    Mistake(
        "dy and dx are swapped",
        "channel 2k of the offsets is dy, 2k + 1 is dx.",
        lambda x, dp, w, m: _library(x, dp.unflatten(1, (TAPS, 2)).flip(2).flatten(1, 2), w, m),
    ),
    Mistake(
        "the masks are left out",
        "multiply each sample with its mask.",
        lambda x, dp, w, m: _library(x, dp, w, torch.ones_like(m)),
    ),
    Mistake(
        "the offsets are left out",
        "tap k reads at its place in the 3x3 grid plus its offset.",
        lambda x, dp, w, m: _library(x, torch.zeros_like(dp), w, m),
    ),
    Mistake(
        "positions are half a pixel off",
        "grid_sample with align_corners=False wants (2 x + 1) / W - 1 for pixel x.",
        lambda x, dp, w, m: _library(x, dp - 0.5, w, m),
    ),
    Mistake(
        "the taps go column by column",
        "k // 3 is the row of a tap, k % 3 its column.",
        lambda x, dp, w, m: _library(x, dp, w.transpose(2, 3), m),
    ),
    Mistake(
        "the samples are cut to whole pixels",
        "bilinear interpolation: four pixels share a sample.",
        lambda x, dp, w, m: _library(x, dp.round(), w, m),
    ),
)


def check_contender(function: Convolution) -> Verdict:
    """Check the reader's ``function(input, offset, weight, mask)``: 3x3, stride 1, padding 1, float64 tensors."""
    return check(function, _library, _contender_cases(), CONTENDER_MISTAKES)
