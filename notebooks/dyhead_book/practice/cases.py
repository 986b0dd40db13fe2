"""What the cases of several chapters' checks are drawn with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from .reader_checks import Case

#: Width of padding in pixels, wider than any offset of a case. The mistake of clamping positions to the border is
#: imitated so: pad the image with copies of its border, and read FAR pixels further down and to the right.
FAR = 64


def draw_sizes(rng: np.random.Generator, L: int) -> np.ndarray:
    """(H, W) of each level of a pyramid, (L, 2), fine to coarse, none of them square."""
    H, W = int(rng.integers(4, 7)), int(rng.integers(7, 10))
    return np.array([(max(H >> level, 1), max(W >> level, 2)) for level in range(L)])


def with_gradient(cases: Iterator[Case], shape: Callable[..., tuple[int, ...]], seed: int) -> Iterator[Case]:
    """Cases of a backward pass: those of the forward pass, with a gradient of the output in front.

    Args:
        cases: of the forward pass.
        shape: of the output, from the arguments of a case.
        seed: of the gradients.
    """
    rng = np.random.default_rng(seed)
    for case in cases:
        yield Case(case.description, (rng.normal(size=shape(*case.arguments)), *case.arguments))
