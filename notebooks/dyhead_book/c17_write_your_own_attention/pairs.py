"""A toy problem that no attention along one axis can solve: which mark of the finest level appears on the coarsest?

Every level holds a few marks at random places. A mark is a random code, new for every image, so that no code can be
learned by heart. One mark of the finest level stands on the coarsest level too, at an unrelated place. To find it, a
head has to compare places that are far apart and two levels apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

CHANNELS = 16
SIZES = ((8, 8), (4, 4), (3, 3))
MARKS = 4  # on each level: who guesses is right in a quarter of all images
NOISE = 0.05


@dataclass(frozen=True)
class Pairs:
    """A batch of the problem.

    Attributes:
        levels: maps (B, C, H, W), fine to coarse. Channel 0 of a mark tells its level, the others hold its code.
        places_BM: cell of each mark of the finest level, row after row.
        twins_BM: cell of each mark of the coarsest level; number ``answer_B`` is the twin.
        answer_B: which of the M marks appears on the coarsest level too.
    """

    levels: list[torch.Tensor]
    places_BM: torch.Tensor
    twins_BM: torch.Tensor
    answer_B: torch.Tensor


def draw_pairs(batch: int, generator: torch.Generator) -> Pairs:
    """Draw ``batch`` images of the problem."""

    def codes() -> torch.Tensor:
        return F.normalize(torch.randn(batch, MARKS, CHANNELS - 1, generator=generator), dim=2) * CHANNELS**0.5

    answer_B = torch.randint(MARKS, (batch,), generator=generator)
    finest_BMC, middle_BMC, coarsest_BMC = codes(), codes(), codes()
    images = torch.arange(batch)
    coarsest_BMC[images, answer_B] = finest_BMC[images, answer_B]
    levels, places = [], []
    for l, (codes_BMC, (H, W)) in enumerate(zip((finest_BMC, middle_BMC, coarsest_BMC), SIZES, strict=True)):
        place_BM = torch.rand(batch, H * W, generator=generator).argsort(1)[:, :MARKS]
        tokens_BSC = NOISE * torch.randn(batch, H * W, CHANNELS, generator=generator)
        tell_level = torch.full((batch, MARKS, 1), 2.0 * (l - 1))
        tokens_BSC[images[:, None], place_BM] += torch.cat([tell_level, codes_BMC], 2)
        levels.append(tokens_BSC.transpose(1, 2).unflatten(2, (H, W)))
        places.append(place_BM)
    return Pairs(levels, places[0], places[-1], answer_B)


@torch.no_grad()
def solved(finder: Callable[[Pairs], torch.Tensor], pairs: Pairs) -> float:
    """Share of images whose highest score belongs to the mark that has a twin.

    Args:
        finder: a batch -> a score for each mark of the finest level, (B, M).
    """
    return float((finder(pairs).argmax(1) == pairs.answer_B).float().mean())
