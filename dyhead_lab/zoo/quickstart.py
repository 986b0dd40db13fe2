"""The quickstart recipe: from nothing to a detector with a Dynamic Head, on a laptop, before the coffee is cold."""

from ..detectors.one_stage.quickstart import quickstart
from ..training.recipe import Recipe
from .datasets import shapes

QUICKSTART = Recipe(
    name="quickstart",
    summary="torchvision's FCOS on a narrow ResNet, with one released Dynamic Head block, on Shapes",
    detector=quickstart,
    dataset=shapes,
    augmentation="flip_both",
    model={"image_size": 160, "dyhead_blocks": 1, "tower_convs": 1},
    iterations=3100,
    batch_size=8,
    lr=2e-3,
    warmup=200,
    evaluate_every=3100,
    source="our own: small enough for two CPU cores",
    expected="AP 0.42 on Shapes val after 9 minutes on 2 cores of an AMD EPYC, 1.2 GB of memory",
)
