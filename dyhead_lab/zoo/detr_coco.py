"""DETR's family on COCO, with the published settings: one generated recipe for every row of the published tables.

None of them was trained here. What differs from the official runs: 80 class columns instead of 91, and arithmetic in
bfloat16. ``dyhead_lab.detectors.official`` reads the official weights themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..detectors.detr.configured import deformable_detr, detr, sparse_detr
from ..detectors.detr.efficient_detr import efficient_detr
from ..training.recipe import Recipe
from .datasets import coco

IMAGES = 118_287  # of COCO train2017; the official code also trains on those without objects

DETR_SOURCE = "Carion et al., ECCV 2020, section 4; AP: facebookresearch/detr README"
DEFORMABLE_SOURCE = "Zhu et al., ICLR 2021; settings and AP: fundamentalvision/Deformable-DETR main.py and README"
SPARSE_SOURCE = "Roh et al., ICLR 2022; settings and AP: kakaobrain/sparse-detr main.py and README"

#: Backbone -> rho in percent -> published AP of Sparse DETR after 50 epochs.
SPARSE_AP = {
    "r50": {10: 0.453, 20: 0.456, 30: 0.460, 40: 0.462, 50: 0.463},
    "swin_t": {10: 0.482, 20: 0.488, 30: 0.491, 40: 0.492, 50: 0.493},
}
#: Activations kept for the gradient of one image of 800 x 1333, in GB: counted on a CPU, in bfloat16.
ACTIVATIONS = {
    "detr_r50": 1.7,
    "detr_r50_dc5": 12.0,
    "deformable_detr_r50_single_scale": 1.0,
    "deformable_detr_r50_single_scale_dc5": 1.4,
    "deformable_detr_r50": 2.9,
    "deformable_detr_r50_refine": 2.9,
    "deformable_detr_r50_two_stage": 3.0,
    "efficient_detr_r50": 3.0,
    "sparse_detr_r50_rho10": 1.6,
    "sparse_detr_r50_rho20": 1.8,
    "sparse_detr_r50_rho30": 2.1,
    "sparse_detr_r50_rho40": 2.3,
    "sparse_detr_r50_rho50": 2.5,
    "sparse_detr_swin_t_rho10": 1.7,
    "sparse_detr_swin_t_rho20": 1.9,
    "sparse_detr_swin_t_rho30": 2.1,
    "sparse_detr_swin_t_rho40": 2.3,
    "sparse_detr_swin_t_rho50": 2.5,
}
#: Short name of a backbone -> the arguments that build it.
BACKBONES = {"r50": {"backbone": "resnet50"}, "swin_t": {"backbone": "swin_t"}}

REFINE = {"refine": True}
TWO_STAGE = {**REFINE, "two_stage": True}
DC5 = {"body": {"dilation": True}}


@dataclass(frozen=True)
class Schedule:
    """AdamW for whole epochs, the rate divided by ten once.

    Args:
        epochs: of the whole training.
        drop: epochs before the rate falls.
        batch_size: images per step, over all processes.
        lr: of the transformer; the backbone learns at a tenth of it.
    """

    epochs: int
    drop: int
    batch_size: int
    lr: float

    def settings(self) -> dict[str, Any]:
        """The fields of a recipe that follow."""
        epoch = IMAGES // self.batch_size
        return {
            "iterations": self.epochs * epoch,
            "schedule": "step",
            "milestones": (self.drop * epoch,),
            "batch_size": self.batch_size,
            "lr": self.lr,
            "evaluate_every": 5 * epoch,
            "checkpoint_every": epoch,
        }


DETR_SCHEDULE = Schedule(epochs=500, drop=400, batch_size=64, lr=1e-4)
DEFORMABLE_SCHEDULE = Schedule(epochs=50, drop=40, batch_size=32, lr=2e-4)
#: The official rate grows with the root of the batch: 2e-4 at 16 images.
SPARSE_SCHEDULE = Schedule(epochs=50, drop=40, batch_size=16, lr=2e-4)


def _recipe(
    name: str,
    summary: str,
    detector: Callable[..., nn.Module],
    schedule: Schedule,
    published_ap: float,
    source: str,
    model: dict[str, Any],
    gpu_hours: int | None = None,
) -> Recipe:
    """A recipe with the settings that the whole family shares.

    Args:
        gpu_hours: published training time on V100 GPUs.
    """
    cost = f"published cost {gpu_hours} V100 GPU-hours" if gpu_hours else "no cost was published"
    return Recipe(
        name=name,
        summary=f"{summary}, {schedule.epochs} epochs of COCO",
        detector=detector,
        dataset=coco,
        augmentation="detr",
        model={"weights": "IMAGENET1K_V1", "min_size": 800, "max_size": 1333, **model},
        backbone_lr=0.1,
        offset_lr=0.1,
        weight_decay=1e-4,
        decay_norms=True,
        warmup=0,
        clip_norm=0.1,
        ema_decay=0.0,
        seed=42,
        published_ap=published_ap,
        source=source,
        expected=(
            f"AP {published_ap:.3f} as published; {cost}; not trained here, so time on a GPU is not measured; "
            f"{ACTIVATIONS[name]:.1f} GB of activations an image, counted on a CPU in bfloat16"
        ),
        **schedule.settings(),
    )


def _detrs() -> Iterator[Recipe]:
    rows: tuple[tuple[str, str, float, dict[str, Any], int | None], ...] = (
        ("detr_r50", "DETR on ResNet-50", 0.420, {}, None),
        ("detr_r50_dc5", "DETR on ResNet-50 with a dilated last stage", 0.433, DC5, 7000),
    )
    for name, summary, ap, model, hours in rows:
        yield _recipe(name, summary, detr, DETR_SCHEDULE, ap, DETR_SOURCE, {**BACKBONES["r50"], **model}, hours)


def _deformable_detrs() -> Iterator[Recipe]:
    single = {"levels": 1}
    rows: tuple[tuple[str, str, float, dict[str, Any], int], ...] = (
        ("single_scale", "Deformable DETR on the last map of ResNet-50", 0.394, single, 160),
        ("single_scale_dc5", "Deformable DETR on the dilated last map of ResNet-50", 0.415, {**single, **DC5}, 215),
        ("", "Deformable DETR on ResNet-50", 0.445, {}, 325),
        ("refine", "Deformable DETR on ResNet-50 with iterative box refinement", 0.462, REFINE, 325),
        ("two_stage", "Deformable DETR on ResNet-50 with refinement and two stages", 0.469, TWO_STAGE, 340),
    )
    for suffix, summary, ap, model, hours in rows:
        name = "_".join(filter(None, ("deformable_detr_r50", suffix)))
        options = {**BACKBONES["r50"], **model}
        yield _recipe(name, summary, deformable_detr, DEFORMABLE_SCHEDULE, ap, DEFORMABLE_SOURCE, options, hours)


def _efficient_detr() -> Recipe:
    """The dense row of Sparse DETR's table: its Deformable DETR with top-k queries and box refinement."""
    return _recipe(
        "efficient_detr_r50",
        "Deformable DETR on ResNet-50 with Efficient DETR's query initialisation",
        efficient_detr,
        SPARSE_SCHEDULE,
        0.460,
        f"Yao et al., 2021, as in {SPARSE_SOURCE}",
        BACKBONES["r50"],
    )


def _sparse_detrs() -> Iterator[Recipe]:
    titles = {"r50": "ResNet-50", "swin_t": "Swin-T"}
    for backbone, published in SPARSE_AP.items():
        for percent, ap in published.items():
            yield _recipe(
                f"sparse_detr_{backbone}_rho{percent}",
                f"Sparse DETR on {titles[backbone]}, {percent} % of the encoder tokens refined",
                sparse_detr,
                SPARSE_SCHEDULE,
                ap,
                SPARSE_SOURCE,
                {**BACKBONES[backbone], "rho": percent / 100},
            )


DETR_COCO: tuple[Recipe, ...] = (*_detrs(), *_deformable_detrs(), _efficient_detr(), *_sparse_detrs())
