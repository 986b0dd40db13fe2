"""The recipe of ATSS on a frozen backbone and pyramid: what stands on them learns in a minute."""

from ..detectors.one_stage.frozen_atss import frozen_atss
from ..training.recipe import Recipe
from .datasets import shapes

FROZEN_ATSS = Recipe(
    name="frozen_atss_shapes",
    summary="ATSS with one Dynamic Head block on the frozen backbone and pyramid of quickstart: only the head learns",
    detector=frozen_atss,
    dataset=shapes,
    augmentation="flip_both",
    model={"dyhead_blocks": 1, "dyhead": {}, "min_size": 160, "max_size": 320},
    iterations=450,
    batch_size=8,
    lr=2e-3,
    warmup=50,
    evaluate_every=450,
    source="our own: the paper's ablation of ATSS, as small as it can be",
    expected="AP 0.28 on Shapes val after 55 seconds on one core of an AMD EPYC, 1.2 GB of memory",
)
