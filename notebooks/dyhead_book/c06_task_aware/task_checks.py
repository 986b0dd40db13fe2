"""Checks of the chapter on task-aware attention, and the mistakes that they name.

A module is checked as a function of its features and weights. All functions take and return NumPy arrays in float64.
The weights of theta come as the two linear layers hold them: ``w1`` (C / 4, C), ``b1`` (C / 4,), ``w2`` (4 C, C / 4),
``b2`` (4 C,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from dyhead_lab.attention import PaperTaskAwareAttention, TaskAwareAttention
from dyhead_lab.attention.task import REDUCTION

from ..practice.module_checks import given, unfit
from ..practice.reader_checks import Case, Mistake, Verdict, check

Arrays = tuple[np.ndarray, ...]


def hard_sigmoid(x: np.ndarray) -> np.ndarray:
    """relu6(x + 3) / 6: 0 below -3, 1 above 3, a line between."""
    return np.clip(x + 3, 0, 6) / 6


# The released form


def _released(build: Callable[[int], nn.Module]) -> Callable[..., np.ndarray]:
    """A module of the released form as a function of features and the weights of theta."""

    def run(x: np.ndarray, w1: np.ndarray, b1: np.ndarray, w2: np.ndarray, b2: np.ndarray) -> np.ndarray:
        return _run(build, x, x.shape[1], fc1=(w1, b1), fc2=(w2, b2))

    return run


def task_aware_formula(x, w1, b1, w2, b2) -> np.ndarray:  # type: ignore[no-untyped-def]
    """The library's module with these weights, on (B, C, H, W)."""
    return _released(TaskAwareAttention)(x, w1, b1, w2, b2)


def task_aware_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    """Maps of many sizes, most with two or three images; weights large enough to reach the flat ends of the sigmoid."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        B, C = 1 + number % 3, REDUCTION * int(rng.integers(1, 4))
        H, W = (int(n) for n in rng.integers(2, 6, 2))
        x = rng.normal(size=(B, C, H, W)) + rng.normal(size=(B, C, 1, 1))
        yield Case(f"x {B} x {C} x {H} x {W}", (x, *_theta(rng, C)))


def _theta(rng: np.random.Generator, C: int) -> Arrays:
    hidden = C // REDUCTION
    shapes = ((hidden, C), (hidden,), (4 * C, hidden), (4 * C,))
    return tuple(scale * rng.normal(size=shape) for scale, shape in zip((1.0, 0.5, 2.0, 1.0), shapes, strict=True))


def _planes(y_B4C: np.ndarray) -> Arrays:
    return tuple(np.split(y_B4C, 4, axis=1))


def _variant(
    mean: Callable[[np.ndarray], np.ndarray] = lambda x: x.mean((2, 3)),
    hidden: Callable[[np.ndarray], np.ndarray] = lambda h: np.maximum(h, 0),
    squash: Callable[[np.ndarray], np.ndarray] = hard_sigmoid,
    split: Callable[[np.ndarray], Arrays] = _planes,
    lines: Callable[..., Arrays] = lambda a1, b1, a2, b2: (2 * a1, b1 - 0.5, 2 * a2 - 1, b2 - 0.5),
    join: Callable[[np.ndarray, np.ndarray], np.ndarray] = np.maximum,
) -> Callable[..., np.ndarray]:
    """Task-aware attention with some of its steps replaced."""

    def imitate(x: np.ndarray, w1: np.ndarray, b1: np.ndarray, w2: np.ndarray, b2: np.ndarray) -> np.ndarray:
        y_B4C = squash(hidden(mean(x) @ w1.T + b1) @ w2.T + b2)
        slope1, shift1, slope2, shift2 = (c[:, :, None, None] for c in lines(*split(y_B4C)))
        return join(slope1 * x + shift1, slope2 * x + shift2)

    return imitate


TASK_AWARE_MISTAKES = (
    Mistake(
        "the groups are read as a1, a2, b1, b2",
        "the released code orders them a1, b1, a2, b2.",
        _variant(split=lambda y: tuple(np.split(y, 4, axis=1)[i] for i in (0, 2, 1, 3))),
    ),
    Mistake(
        "the four coefficients of a channel are taken as neighbours",
        "the 4 C numbers are four groups of C: coefficient first, channel second.",
        _variant(split=lambda y: tuple(y.reshape(len(y), -1, 4).transpose(2, 0, 1))),
    ),
    Mistake(
        "every image gets the coefficients of the first one",
        "theta gives (B, 4 C): each image has numbers of its own.",
        _variant(split=lambda y: _planes(np.broadcast_to(y[:1], y.shape))),
    ),
    Mistake(
        "the mean runs over the batch as well",
        "average over H and W only.",
        _variant(mean=lambda x: np.broadcast_to(x.mean((0, 2, 3)), x.shape[:2])),
    ),
    Mistake("positions are summed, not averaged", "divide by H * W.", _variant(mean=lambda x: x.sum((2, 3)))),
    Mistake("the ReLU between the two layers is missing", "max(0, .) after w1.", _variant(hidden=lambda h: h)),
    Mistake(
        "an ordinary sigmoid is used",
        "the released code takes relu6(x + 3) / 6.",
        _variant(squash=lambda z: 1 / (1 + np.exp(-z))),
    ),
    Mistake(
        "a1 starts at 0 instead of 1",
        "a1 = 2 y: at y = 1/2 it is 1. Only a2 is 2 y - 1.",
        _variant(lines=lambda a1, b1, a2, b2: (2 * a1 - 1, b1 - 0.5, 2 * a2 - 1, b2 - 0.5)),
    ),
    Mistake(
        "the shifts b are twice as large",
        "b = y - 0.5 lies in [-0.5, 0.5]; only the slopes are doubled.",
        _variant(lines=lambda a1, b1, a2, b2: (2 * a1, 2 * b1 - 1, 2 * a2 - 1, 2 * b2 - 1)),
    ),
    Mistake("the smaller line is taken", "max, not min.", _variant(join=np.minimum)),
    Mistake("the two lines are added", "take the larger of the two.", _variant(join=np.add)),
)


def check_task_aware(build: Callable[[int], nn.Module], seed: int = 0) -> Verdict:
    """Check the reader's ``TaskAwareAttention``: (B, C, H, W) in, the same shape out."""
    problem = unfit(build(8), TaskAwareAttention(8).state_dict())
    if problem:
        return Verdict(False, problem)
    return check(_released(build), task_aware_formula, task_aware_cases(seed), TASK_AWARE_MISTAKES)


# The paper's form


def _paper(build: Callable[[int], nn.Module]) -> Callable[..., np.ndarray]:
    """A module of the paper's form as a function of F, the weights of theta and those of its normalisation."""

    def run(F_BLSC, w1, b1, w2, b2, gain, shift):  # type: ignore[no-untyped-def]
        return _run(build, F_BLSC, F_BLSC.shape[-1], fc1=(w1, b1), fc2=(w2, b2), norm=(gain, shift))

    return run


def paper_task_formula(F_BLSC, w1, b1, w2, b2, gain, shift) -> np.ndarray:  # type: ignore[no-untyped-def]
    """The library's module with these weights, on (B, L, S, C)."""
    return _paper(PaperTaskAwareAttention)(F_BLSC, w1, b1, w2, b2, gain, shift)


def paper_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    """Pyramids of two to four levels, with weights and a normalisation that is not at its start."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        B, L, S, C = 1 + number % 3, 2 + number % 3, int(rng.integers(3, 9)), REDUCTION * int(rng.integers(1, 4))
        F_BLSC = rng.normal(size=(B, L, S, C)) + rng.normal(size=(B, L, 1, C))
        norm = 1 + 0.2 * rng.normal(size=4 * C), 0.2 * rng.normal(size=4 * C)
        yield Case(f"F {B} x {L} x {S} x {C}", (F_BLSC, *_theta(rng, C), *norm))


def _paper_variant(
    mean: Callable[[np.ndarray], np.ndarray] = lambda F: F.mean((1, 2)),
    squash: Callable[[np.ndarray], np.ndarray] = lambda z: 2 / (1 + np.exp(-z)) - 1,
    normalise: bool = True,
    start: tuple[float, ...] = (1, 0, 0, 0),
    reach: tuple[float, ...] = (1, 0.5, 1, 0.5),
    order: tuple[int, ...] = (0, 1, 2, 3),
) -> Callable[..., np.ndarray]:
    def imitate(F_BLSC, w1, b1, w2, b2, gain, shift):  # type: ignore[no-untyped-def]
        theta = np.maximum(mean(F_BLSC) @ w1.T + b1, 0) @ w2.T + b2
        if normalise:
            spread = np.sqrt(theta.var(1, keepdims=True) + 1e-5)
            theta = gain * (theta - theta.mean(1, keepdims=True)) / spread + shift
        d_B4C = np.stack(np.split(squash(theta), 4, axis=1), axis=1)
        lines_B4C = np.array(start)[:, None] + np.array(reach)[:, None] * d_B4C
        a1, b1, a2, b2 = (lines_B4C[:, i, None, None, :] for i in order)
        return np.maximum(a1 * F_BLSC + b1, a2 * F_BLSC + b2)

    return imitate


def _level_by_level(F_BLSC, *weights):  # type: ignore[no-untyped-def]
    """The paper's form on each level alone."""
    return np.concatenate([paper_task_formula(F_BLSC[:, [l]], *weights) for l in range(F_BLSC.shape[1])], 1)


PAPER_TASK_MISTAKES = (
    Mistake(
        "only the first level is averaged",
        "the mean runs over all levels and positions: axes L and S.",
        _paper_variant(mean=lambda F: F[:, 0].mean(1)),
    ),
    Mistake("the mean is a sum", "divide by L * S.", _paper_variant(mean=lambda F: F.sum((1, 2)))),
    Mistake(
        "the layer normalisation is missing",
        "it stands between the second layer and the sigmoid.",
        _paper_variant(normalise=False),
    ),
    Mistake(
        "the sigmoid is not shifted",
        "2 sigmoid(x) - 1 lies in [-1, 1] and is 0 at the start.",
        _paper_variant(squash=lambda z: 1 / (1 + np.exp(-z))),
    ),
    Mistake("a1 starts at 0 instead of 1", "a1 = 1 + d.", _paper_variant(start=(0, 0, 0, 0))),
    Mistake("the shifts b are not halved", "b = 0.5 d.", _paper_variant(reach=(1, 1, 1, 1))),
    Mistake(
        "every level gets lines of its own",
        "one set of lines serves all levels: the mean runs over L as well.",
        _level_by_level,
    ),
    Mistake(
        "the order is a1, a2, b1, b2",
        "each line has its slope and its shift together: a1, b1, a2, b2.",
        _paper_variant(start=(1, 0, 0, 0), reach=(1, 1, 0.5, 0.5), order=(0, 2, 1, 3)),
    ),
)


def check_paper_task(build: Callable[[int], nn.Module], seed: int = 0) -> Verdict:
    """Check the reader's ``PaperTaskAwareAttention``: how it starts, and (B, L, S, C) in, the same shape out."""
    fresh = build(8)
    problem = unfit(fresh, PaperTaskAwareAttention(8).state_dict())
    if problem:
        return Verdict(False, problem)
    if bool(fresh.norm.weight.any()):  # type: ignore[union-attr, operator]
        return Verdict(False, "norm.weight does not start at zero: a fresh module should be ReLU.")
    return check(_paper(build), paper_task_formula, paper_cases(seed), PAPER_TASK_MISTAKES)


# Biases that make another activation


def leaky_biases_formula(C: int, slope: float) -> np.ndarray:
    """Biases (4 C,) of the second layer that make leaky ReLU when all weights are zero."""
    biases = np.zeros(4 * C)
    biases[2 * C : 3 * C] = 3 * slope  # a2 = 2 (bias + 3) / 6 - 1 = bias / 3
    return biases


def _leaky_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        C, slope = int(rng.integers(2, 6)), float(rng.uniform(0.01, 0.9))
        yield Case(f"{C} channels, slope {slope:.2f}", (C, slope))


LEAKY_BIASES_MISTAKES = (
    Mistake(
        "the slope is put in as it is",
        "the hard sigmoid divides by 6 and a2 doubles: work backwards from a2 = slope.",
        lambda C, slope: leaky_biases_formula(C, slope / 3),
    ),
    Mistake(
        "the doubling of a2 is forgotten",
        "a2 = 2 y - 1.",
        lambda C, slope: leaky_biases_formula(C, 2 * slope),
    ),
    Mistake(
        "the second group is changed",
        "the groups are a1, b1, a2, b2: the second slope is the third group.",
        lambda C, slope: np.roll(leaky_biases_formula(C, slope), -C),
    ),
    Mistake(
        "the groups are taken for neighbours",
        "all C numbers of a1 come first, then b1, a2, b2: the second slopes are numbers 2 C to 3 C.",
        lambda C, slope: leaky_biases_formula(C, slope).reshape(4, C).T.flatten(),
    ),
    Mistake(
        "the half of the hard sigmoid is counted twice",
        "zero biases give y = 1/2 and a2 = 0 already: only the slope is missing.",
        lambda C, slope: leaky_biases_formula(C, slope - 1),
    ),
    Mistake(
        "the first slope is lowered instead of raising the second",
        "then positive inputs change too: leaky ReLU keeps a1 = 1.",
        lambda C, slope: np.roll(leaky_biases_formula(C, slope - 1), -2 * C),
    ),
)


def check_leaky_biases(function: Callable[[int, float], np.ndarray]) -> Verdict:
    """Check the reader's ``leaky_biases(C, slope)``: (4 C,)."""
    return check(function, leaky_biases_formula, _leaky_cases(), LEAKY_BIASES_MISTAKES)


def _run(build: Callable[[int], nn.Module], x: np.ndarray, C: int, **layers: tuple[np.ndarray, np.ndarray]) -> Any:
    """What a module of C channels gives with weight and bias of the named layers."""
    weights = {
        f"{name}.{kind}": torch.from_numpy(values)
        for name, pair in layers.items()
        for kind, values in zip(("weight", "bias"), pair, strict=True)
    }
    return given(build(C), weights, torch.from_numpy(x)).numpy()
