"""Checks of chapter 13: the learning rate, what each process takes, what a loss is divided by, kinds of mistakes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dyhead_lab.evaluation.error_analysis import BACKGROUND, FOREGROUND

from ..practice.reader_checks import Case, Mistake, Verdict, check

# The learning rate


def learning_rate(step: int, peak: float, warmup: int, iterations: int) -> float:
    """Linear warm-up, then half a cosine from ``peak`` down to 0. Step 0 is the first."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (iterations - warmup)))


def _rate_cases(seed: int = 0, count: int = 40) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        iterations = int(rng.integers(50, 500))
        warmup = int(rng.integers(5, iterations // 3))
        step, peak = int(rng.integers(0, iterations)), float(rng.uniform(1e-4, 1e-2))
        words = f"step {step} of {iterations}, warm-up {warmup}, peak {peak:.4f}"
        yield Case(words, (step, peak, warmup, iterations))


def _decays(share_to_factor: Callable[[int, int, int], float]) -> Callable[[int, float, int, int], float]:
    """The right warm-up, and then another curve: (step, warmup, iterations) -> factor on the peak."""

    def imitate(step: int, peak: float, warmup: int, iterations: int) -> float:
        if step < warmup:
            return learning_rate(step, peak, warmup, iterations)
        return peak * share_to_factor(step, warmup, iterations)

    return imitate


def _half_cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def _starts_at_zero(step: int, peak: float, warmup: int, iterations: int) -> float:
    return peak * step / warmup if step < warmup else learning_rate(step, peak, warmup, iterations)


def _no_warmup(step: int, peak: float, warmup: int, iterations: int) -> float:
    return peak * _half_cosine(max(0, step - warmup) / (iterations - warmup))


LEARNING_RATE_MISTAKES = (
    Mistake("the first step has rate 0", "step 0 is the first: warm up with (step + 1) / warmup.", _starts_at_zero),
    Mistake("the warm-up is forgotten", "below `warmup` the rate grows in a straight line.", _no_warmup),
    Mistake(
        "the cosine counts from step 0",
        "it begins when the warm-up ends: (step - warmup) / (iterations - warmup).",
        _decays(lambda step, warmup, iterations: _half_cosine(step / iterations)),
    ),
    Mistake(
        "the cosine falls and rises again",
        "half a cosine: pi, not 2 pi.",
        _decays(lambda step, warmup, iterations: _half_cosine(2 * (step - warmup) / (iterations - warmup))),
    ),
    Mistake(
        "the rate is twice as high after the warm-up",
        "1 + cos lies in [0, 2]: halve it.",
        _decays(lambda step, warmup, iterations: 2 * _half_cosine((step - warmup) / (iterations - warmup))),
    ),
    Mistake(
        "the rate falls in a straight line",
        "use a cosine: slow, then fast, then slow.",
        _decays(lambda step, warmup, iterations: 1 - (step - warmup) / (iterations - warmup)),
    ),
)


def check_learning_rate(function: Callable[[int, float, int, int], float]) -> Verdict:
    """Check the reader's ``learning_rate(step, peak, warmup, iterations)``."""
    return check(function, learning_rate, _rate_cases(), LEARNING_RATE_MISTAKES)


# What each process takes


def process_share(iteration: int, batch_size: int, rank: int, world: int) -> np.ndarray:
    """Places in the endless sequence of images that process ``rank`` of ``world`` takes at an iteration, in order."""
    return np.arange(iteration * batch_size + rank, (iteration + 1) * batch_size, world)


def _share_cases(seed: int = 0, count: int = 20) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        world = int(rng.integers(2, 5))
        batch_size, iteration = world * int(rng.integers(2, 5)), int(rng.integers(1, 100))
        rank = int(rng.integers(1, world))
        words = f"iteration {iteration}, {batch_size} images, process {rank} of {world}"
        yield Case(words, (iteration, batch_size, rank, world))


def _own_counter(iteration: int, batch_size: int, rank: int, world: int) -> np.ndarray:
    part = batch_size // world
    return np.arange(iteration * part, (iteration + 1) * part)


def _one_piece(iteration: int, batch_size: int, rank: int, world: int) -> np.ndarray:
    part = batch_size // world
    return iteration * batch_size + np.arange(rank * part, (rank + 1) * part)


SHARE_MISTAKES = (
    Mistake(
        "every process takes the whole batch",
        "take every world-th place, beginning with rank.",
        lambda iteration, batch_size, rank, world: np.arange(iteration * batch_size, (iteration + 1) * batch_size),
    ),
    Mistake(
        "all processes take the same images",
        "begin with place rank of the batch, not with place 0.",
        lambda iteration, batch_size, rank, world: process_share(iteration, batch_size, 0, world),
    ),
    Mistake(
        "every process takes one piece of the batch",
        "take turns: every world-th place, beginning with rank.",
        _one_piece,
    ),
    Mistake(
        "every process counts through the sequence for itself",
        "one sequence for all: an iteration takes batch_size places of it.",
        _own_counter,
    ),
    Mistake(
        "every iteration takes the first batch",
        "iteration i begins at place i * batch_size.",
        lambda iteration, batch_size, rank, world: process_share(0, batch_size, rank, world),
    ),
    Mistake(
        "iterations are counted from 1",
        "iteration 0 is the first.",
        lambda iteration, batch_size, rank, world: process_share(iteration - 1, batch_size, rank, world),
    ),
)


def check_process_share(function: Callable[[int, int, int, int], Sequence[int]]) -> Verdict:
    """Check the reader's ``process_share(iteration, batch_size, rank, world)``."""
    return check(function, process_share, _share_cases(), SHARE_MISTAKES)


# What a loss is divided by


def normalised_losses(sums_R: np.ndarray, positives_R: np.ndarray) -> np.ndarray:
    """Loss of each of R processes, so that the mean of their gradients is the gradient of the whole batch.

    Args:
        sums_R: loss of each process, summed over its positives.
        positives_R: how many positives each process has; may be 0, but not for all.
    """
    return sums_R / positives_R.mean()


def _loss_cases(seed: int = 0, count: int = 12) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        R = int(rng.integers(2, 6))
        positives_R = rng.integers(1, 20, R).astype(float)
        yield Case(f"positives {positives_R.astype(int).tolist()}", (positives_R * rng.uniform(0.5, 2, R), positives_R))


LOSS_MISTAKES = (
    Mistake(
        "every process divides by its own positives",
        "an object then weighs more on a process with few objects: divide by the same number everywhere.",
        lambda sums_R, positives_R: sums_R / positives_R,
    ),
    Mistake(
        "the sum of the positives is taken, not their mean",
        "the gradients are averaged over the processes afterwards, which divides by R once more.",
        lambda sums_R, positives_R: sums_R / positives_R.sum(),
    ),
    Mistake(
        "nothing is divided",
        "divide by the mean number of positives.",
        lambda sums_R, positives_R: sums_R.copy(),
    ),
    Mistake(
        "the losses are averaged as well",
        "every process keeps its own sum; averaging is done with the gradients.",
        lambda sums_R, positives_R: np.full_like(sums_R, sums_R.mean() / positives_R.mean()),
    ),
    Mistake(
        "the losses are divided by the number of processes",
        "divide by the mean number of positives.",
        lambda sums_R, positives_R: sums_R / len(sums_R),
    ),
)


def check_normalised_losses(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Verdict:
    """Check the reader's ``normalised_losses(sums_R, positives_R)``."""
    return check(function, normalised_losses, _loss_cases(), LOSS_MISTAKES)


# Kinds of mistakes

LOCALISATION, CLASSIFICATION, DUPLICATE, BACKGROUND_KIND, BOTH = range(5)


def kind_of_false_positive(own_iou: float, foreign_iou: float) -> int:
    """The kind of a detection that is no hit: 0 localisation, 1 classification, 2 duplicate, 3 background, 4 both.

    Args:
        own_iou: its largest IoU with an object of the class that it names.
        foreign_iou: its largest IoU with an object of another class.
    """
    if BACKGROUND < own_iou < FOREGROUND:
        return LOCALISATION
    if foreign_iou >= FOREGROUND:
        return CLASSIFICATION
    if own_iou >= FOREGROUND:
        return DUPLICATE
    return BACKGROUND_KIND if max(own_iou, foreign_iou) <= BACKGROUND else BOTH


def _kind_cases(seed: int = 0, count: int = 60) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    edges = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.3, 0.8), (0.8, 0.3), (0.05, 0.3), (0.05, 0.05), (0.8, 0.8)]
    drawn = [tuple(float(x) for x in rng.uniform(0, 1, 2).round(3)) for _ in range(count - len(edges))]
    for own, foreign in edges + drawn:
        yield Case(f"IoU {own} with its own class, {foreign} with another", (own, foreign))


def _swapped_order(own: float, foreign: float) -> int:
    return CLASSIFICATION if foreign >= FOREGROUND else kind_of_false_positive(own, foreign)


def _never_duplicate(own: float, foreign: float) -> int:
    kind = kind_of_false_positive(own, foreign)
    return LOCALISATION if kind == DUPLICATE else kind


def _without_background(own: float, foreign: float) -> int:
    kind = kind_of_false_positive(own, foreign)
    return BOTH if kind == BACKGROUND_KIND else kind


def _much_background(own: float, foreign: float) -> int:
    return BACKGROUND_KIND if max(own, foreign) < FOREGROUND else kind_of_false_positive(own, foreign)


KIND_MISTAKES = (
    Mistake(
        "another class is looked at first",
        "a detection near an object of its own class is a localisation error, whatever else lies there.",
        _swapped_order,
    ),
    Mistake(
        "the two IoUs are swapped",
        "own_iou belongs to the class that the detection names.",
        lambda own, foreign: kind_of_false_positive(foreign, own),
    ),
    Mistake(
        "a duplicate is called a localisation error", "its IoU is at least 0.5: the box is right.", _never_duplicate
    ),
    Mistake("nothing is ever background", "at most 0.1 with everything is background.", _without_background),
    Mistake(
        "everything between 0.1 and 0.5 is background",
        "only up to 0.1.",
        lambda own, foreign: (
            BACKGROUND_KIND if max(own, foreign) < FOREGROUND else kind_of_false_positive(own, foreign)
        ),
    ),
)


def check_kind(function: Callable[[float, float], int]) -> Verdict:
    """Check the reader's ``kind(own_iou, foreign_iou)``."""
    return check(function, kind_of_false_positive, _kind_cases(), KIND_MISTAKES)


# Arithmetic of a training

COCO_IMAGES = 118_287


def training_hours(epochs: float, images_per_second: float, images: int = COCO_IMAGES) -> float:
    """Hours that ``epochs`` passes over ``images`` take."""
    return epochs * images / images_per_second / 3600
