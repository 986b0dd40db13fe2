"""Maps over tokens, split into levels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor


def levels_of(tokens_N: Tensor, sizes: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
    """The maps (H, W) of the levels that were joined to N tokens, fine to coarse.

    Raises:
        ValueError: if the levels do not add up to N.
    """
    counts = [H * W for H, W in sizes]
    if sum(counts) != len(tokens_N):
        raise ValueError(f"sizes: levels {list(sizes)} have {sum(counts)} tokens, expected {len(tokens_N)}")
    for part, size in zip(tokens_N.split(counts), sizes, strict=True):
        yield part.view(size)
