"""Dynamic Head on COCO: the released recipes, the paper's larger backbones, its ablation, and its depth.

None of them was trained here. What differs from the official runs: torchvision's ImageNet weights, which stride in the
3x3 convolution, in place of MSRA's; arithmetic in bfloat16; weight decay also for the gains of the few trained norms;
a box error below 1/9 counts squared in Faster R-CNN. ``dyhead_lab.detectors.official`` reads the official weights.

Names of the ablation: ``atss_r50_dyhead_`` and the attentions that are on, ``off``, ``L``, ``S``, ``C``, ``LS``,
``LC``, ``SC``, ``LSC`` (scale, spatial, task); ``atss_r50`` has four convolutions a tower and no Dynamic Head. Names of
the depths: ``atss_r50_dyhead_depth`` and the number of blocks, 1, 2, 4, 6, 8, 10. ``LSC`` and ``depth6`` are
``atss_r50_dyhead`` under the names of their tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from ..detectors.one_stage.atss import atss
from ..detectors.one_stage.retinanet import retinanet
from ..detectors.rcnn.faster_rcnn import faster_rcnn
from ..training.recipe import Recipe
from .datasets import coco

RELEASED = "settings and AP: microsoft/DynamicHead, configs and README"
PAPER = "Dai et al., CVPR 2021"
#: The paper states rates and drops as shares of the schedule, not the schedule of each model: 2x is our reading.
PAPER_2X = f"{PAPER}, AP of its table of backbones; the schedule (2x, shorter side 480 to 800) is our reading"

DEPTHS = (1, 2, 4, 6, 8, 10)
SWITCHES = ("off", "L", "S", "C", "LS", "LC", "SC", "LSC")

#: Detectron2's schedules: 1x is 90,000 steps of 16 images.
SGD: dict[str, Any] = {
    "optimizer": "sgd",
    "lr": 0.01,
    "weight_decay": 1e-4,
    "decay_norms": True,
    "batch_size": 16,
    "iterations": 90_000,
    "milestones": (60_000, 80_000),
}
TWO_TIMES: dict[str, Any] = {**SGD, "lr": 0.02, "iterations": 180_000, "milestones": (120_000, 160_000)}
ADAMW: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 1e-4,
    "weight_decay": 0.05,
    "batch_size": 32,
    "iterations": 90_000,
    "milestones": (60_000, 80_000),
}

#: Multiply-adds of one image of 800 x 1333, in 10^9, and activations kept for the gradient, in GB of float32. Counted
#: on the backbone, the pyramid and the one-stage head, on PyTorch's meta device.
COUNTED = {
    "atss_r50": (210, 2.7),
    "atss_r50_dyhead": (232, 3.8),
    "atss_r101_dyhead": (311, 4.8),
    "atss_x101_64x4d_dyhead": (475, 7.5),
    "atss_swin_t_dyhead": (242, 4.5),
    "retinanet_r50_dyhead": (375, 4.3),
    "faster_rcnn_r50_dyhead": (653, 8.5),
}
SUSTAINED = 25e12  # operations per second that the estimates of time assume of a GPU


def _cost(gmac: float, gigabytes: float, images: int) -> str:
    """What a training costs: a multiply-add is two operations, and the backward pass takes twice the forward."""
    hours = 3 * 2 * gmac * 1e9 * images / SUSTAINED / 3600
    return (
        f"estimates: {hours:.0f} GPU-hours at {SUSTAINED / 1e12:.0f} TFLOP/s sustained, "
        f"{gigabytes / 2:.1f} GB of activations an image in bfloat16"
    )


def _recipe(
    name: str,
    summary: str,
    schedule: dict[str, Any],
    source: str,
    published_ap: float | None = None,
    detector: Callable[..., nn.Module] = atss,
    cost_of: str | None = None,
    **model: Any,
) -> Recipe:
    """A recipe with what all share: ImageNet weights, released form, offsets as the official weights know them.

    Args:
        cost_of: the entry of :data:`COUNTED` for its cost, by default its own; "" if nothing was counted.
        model: arguments of the detector.
    """
    counted = COUNTED.get(name if cost_of is None else cost_of)
    stated = "no AP was checked" if published_ap is None else f"AP {published_ap:.3f} as published"
    images = schedule["iterations"] * schedule["batch_size"]
    cost = _cost(*counted, images) if counted else "time and memory not counted"
    shared = {
        "backbone": "resnet50",
        "weights": "IMAGENET1K_V1",
        "dyhead_blocks": 6,
        "dyhead": {"offset_fit": "flat"},
        "min_size": 800,
        "max_size": 1333,
        "size_divisible": 128,
    }
    return Recipe(
        name=name,
        summary=summary,
        detector=detector,
        dataset=coco,
        aspect_grouping=True,
        model=shared | model,
        offset_lr=1.0,
        schedule="step",
        warmup=1000,
        warmup_factor=1e-3,
        clip_norm=math.inf,
        ema_decay=0.0,
        evaluate_every=10_000,
        checkpoint_every=1000,
        published_ap=published_ap,
        source=source,
        expected=f"{stated}; not trained here; {cost}",
        **schedule,
    )


def _released() -> Iterator[Recipe]:
    yield _recipe("atss_r50_dyhead", "ATSS on ResNet-50, six blocks for its towers", SGD, RELEASED, 0.424)
    yield _recipe(
        "retinanet_r50_dyhead",
        "RetinaNet on ResNet-50, six blocks before its towers",
        SGD,
        RELEASED,
        0.399,
        detector=retinanet,
    )
    yield _recipe(
        "faster_rcnn_r50_dyhead",
        "Faster R-CNN on ResNet-50, six blocks on its pyramid",
        {**SGD, "lr": 0.02},
        RELEASED,
        0.403,
        detector=faster_rcnn,
        size_divisible=64,
    )
    yield _recipe(
        "atss_swin_t_dyhead",
        "ATSS on Swin-T, six blocks, shorter side 640 to 800",
        ADAMW,
        RELEASED,
        0.498,
        backbone="swin_t",
        min_size=tuple(range(640, 801, 32)),
    )


def _larger() -> Iterator[Recipe]:
    sizes: dict[str, Any] = {"min_size": tuple(range(480, 801, 32))}
    backbones = (("r101", "ResNet-101", "resnet101", 0.465), ("x101_64x4d", "ResNeXt-101", "resnext101_64x4d", 0.477))
    for short, title, backbone, ap in backbones:
        name = f"atss_{short}_dyhead"
        yield _recipe(name, f"ATSS on {title}, six blocks", TWO_TIMES, PAPER_2X, ap, backbone=backbone, **sizes)


def _ablation() -> Iterator[Recipe]:
    source = f"{RELEASED}; switches: microsoft/GLIP; the table: {PAPER}"
    yield _recipe("atss_r50", "ATSS on ResNet-50, four convolutions a tower", SGD, source, dyhead_blocks=0)
    for on in SWITCHES:
        switches = {"scale": "L" in on, "spatial": "S" in on, "task": "C" in on}
        yield _recipe(
            f"atss_r50_dyhead_{on}",
            f"ATSS on ResNet-50, six blocks, attentions on: {'+'.join(on) if on != 'off' else 'none'}",
            SGD,
            source,
            0.424 if on == "LSC" else None,
            cost_of="atss_r50_dyhead",
            dyhead={"offset_fit": "flat", **switches},
        )


def _depths() -> Iterator[Recipe]:
    for blocks in DEPTHS:
        yield _recipe(
            f"atss_r50_dyhead_depth{blocks}",
            f"ATSS on ResNet-50, {blocks} block{'s' * (blocks > 1)} for its towers",
            SGD,
            f"{RELEASED}; the table: {PAPER}",
            0.424 if blocks == 6 else None,
            cost_of="atss_r50_dyhead" if blocks == 6 else "",
            dyhead_blocks=blocks,
        )


DYHEAD_COCO: tuple[Recipe, ...] = (*_released(), *_larger(), *_ablation(), *_depths())
