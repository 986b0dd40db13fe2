"""The names of the zoo's recipes. The recipes import torch, which takes seconds; a mistyped name is told at once."""

from __future__ import annotations

import difflib
from pathlib import Path

from .errors import UserError

#: In the order of ``zoo.registry.RECIPES``; a test holds both together.
NAMES = (
    "quickstart",
    "bccd",
    "frozen_atss_shapes",
    "retinanet_shapes",
    "fcos_shapes",
    "faster_rcnn_shapes",
    "mask_rcnn_shapes",
    "cascade_rcnn_shapes",
    "atss_shapes",
    "reppoints_shapes",
    "borderdet_shapes",
    "detr_tiny",
    "deformable_detr_tiny",
    "sparse_detr_tiny",
    "everyday",
    "everyday_plain",
    "everyday_deformable",
    "everyday_sparse",
    "atss_r50_dyhead",
    "retinanet_r50_dyhead",
    "faster_rcnn_r50_dyhead",
    "atss_swin_t_dyhead",
    "atss_r101_dyhead",
    "atss_x101_64x4d_dyhead",
    "atss_r50",
    "atss_r50_dyhead_off",
    "atss_r50_dyhead_L",
    "atss_r50_dyhead_S",
    "atss_r50_dyhead_C",
    "atss_r50_dyhead_LS",
    "atss_r50_dyhead_LC",
    "atss_r50_dyhead_SC",
    "atss_r50_dyhead_LSC",
    "atss_r50_dyhead_depth1",
    "atss_r50_dyhead_depth2",
    "atss_r50_dyhead_depth4",
    "atss_r50_dyhead_depth6",
    "atss_r50_dyhead_depth8",
    "atss_r50_dyhead_depth10",
    "detr_r50",
    "detr_r50_dc5",
    "deformable_detr_r50_single_scale",
    "deformable_detr_r50_single_scale_dc5",
    "deformable_detr_r50",
    "deformable_detr_r50_refine",
    "deformable_detr_r50_two_stage",
    "efficient_detr_r50",
    "sparse_detr_r50_rho10",
    "sparse_detr_r50_rho20",
    "sparse_detr_r50_rho30",
    "sparse_detr_r50_rho40",
    "sparse_detr_r50_rho50",
    "sparse_detr_swin_t_rho10",
    "sparse_detr_swin_t_rho20",
    "sparse_detr_swin_t_rho30",
    "sparse_detr_swin_t_rho40",
    "sparse_detr_swin_t_rho50",
)
#: Names that runs, weights and records may still carry -> the recipe's name now.
FORMER_NAMES = {"resting_atss_shapes": "frozen_atss_shapes"}


def refuse_unknown(source: str) -> None:
    """Refuse what is neither a recipe of the zoo, under its name of now or before, nor looks like a file or a path.

    Raises:
        UserError: with the name that may be meant.
    """
    if source in NAMES or source in FORMER_NAMES or source.endswith(".py") or Path(source).name != source:
        return
    near = difflib.get_close_matches(source, NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else "`dyhead-lab zoo` lists what there is"
    raise UserError(f"no recipe {source!r}; {hint}")
