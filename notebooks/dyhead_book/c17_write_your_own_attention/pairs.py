"""A toy problem that no attention along one axis can solve: which mark of the finest level appears on the coarsest?

Every level holds a few marks at random places. A mark is a random code, new for every image, so that no code can be
learned by heart. One mark of the finest level stands on the coarsest level too, at an unrelated place. To find it, a
head has to compare places that are far apart and two levels apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

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


class Finder(nn.Module):
    """A head and one linear predictor on its finest level.

    Args:
        head: takes and returns levels of :data:`CHANNELS` channels.
    """

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head
        self.predictor = nn.Linear(CHANNELS, 1)

    def forward(self, pairs: Pairs) -> torch.Tensor:
        """A score for each mark of the finest level, (B, M)."""
        tokens_BSC = self.head(pairs.levels)[0].flatten(2).transpose(1, 2)
        chosen = pairs.places_BM[:, :, None].expand(-1, -1, CHANNELS)
        return self.predictor(tokens_BSC.gather(1, chosen)).squeeze(-1)


@dataclass
class Learned:
    """A trained finder and how it came along.

    Attributes:
        finder: trained, in evaluation mode.
        steps: after how many steps ``shares`` were measured.
        shares: of images of a fixed test set that are solved.
    """

    finder: Finder
    steps: list[int] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)


def learn_pairs(
    make_head: Callable[[], nn.Module],
    steps: int = 250,
    batch: int = 16,
    lr: float = 1e-2,
    seed: int = 0,
    measure_every: int = 50,
) -> Learned:
    """Train a finder with AdamW; every image is new.

    Args:
        make_head: makes the head; called with torch's generator set to ``seed``.
        measure_every: the share of solved images is measured on 256 others after so many steps.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        finder = Finder(make_head())
    generator = torch.Generator().manual_seed(seed)
    test = draw_pairs(256, torch.Generator().manual_seed(10_000 + seed))
    optimizer = torch.optim.AdamW(finder.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    learned = Learned(finder)
    for step in range(steps + 1):
        if step % measure_every == 0 or step == steps:
            learned.steps.append(step)
            learned.shares.append(solved(finder, test))
        if step < steps:
            pairs = draw_pairs(batch, generator)
            optimizer.zero_grad()
            F.cross_entropy(finder(pairs), pairs.answer_B).backward()
            optimizer.step()
            schedule.step()
    finder.eval()
    return learned


@torch.no_grad()
def solved(finder: Finder, pairs: Pairs) -> float:
    """Share of images whose highest score belongs to the mark that has a twin."""
    return float((finder(pairs).argmax(1) == pairs.answer_B).float().mean())
