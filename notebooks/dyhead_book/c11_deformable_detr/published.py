"""The published Deformable DETRs beside what can be counted here."""

from __future__ import annotations

from typing import Any

import torch

from dyhead_lab.detectors.detr.configured import deformable_detr
from dyhead_lab.evaluation.efficiency import macs

#: Rows of the table in fundamentalvision/Deformable-DETR's README: AP, AP of small, medium and large objects, GFLOPs
#: (ResNet-50, 50 epochs, COCO val2017); and the options that give that detector here.
PUBLISHED: dict[str, tuple[tuple[float, ...], dict[str, Any]]] = {
    "single scale": ((39.4, 20.6, 43.0, 55.5, 78), {"levels": 1}),
    "four levels": ((44.5, 27.1, 47.6, 59.6, 173), {}),
    "+ box refinement": ((46.2, 28.3, 49.2, 61.5, 173), {"refine": True}),
    "++ two stages": ((46.9, 29.6, 50.1, 61.6, 173), {"refine": True, "two_stage": True}),
}
SIZE = (800, 1066)


def counted(**options: Any) -> tuple[int, int]:
    """Trained parameters and multiply-adds of a Deformable DETR with 91 classes, on the meta device."""
    with torch.device("meta"), torch.no_grad():
        detector = deformable_detr(91, **options).eval()
        parameters = sum(p.numel() for p in detector.parameters() if p.requires_grad)
        images, padding_mask = torch.zeros(1, 3, *SIZE), torch.zeros(1, *SIZE, dtype=torch.bool)
        detector.requires_grad_(False)
        assert detector.backbone is not None
        backbone = detector.backbone
        return parameters, macs(detector, lambda: detector.forward_features(backbone(images), padding_mask))[""]


def published_table() -> str:
    """One line a detector: published AP and GFLOPs, and parameters and multiply-adds as counted here."""
    lines = [
        f"{'':17}{'published':^34}|{'counted here':^22}",
        f"{'':17}   AP     S     M     L  GFLOPs | parameters    GMAC",
    ]
    for name, (row, options) in PUBLISHED.items():
        parameters, multiply_adds = counted(**options)
        aps = " ".join(f"{ap:5.1f}" for ap in row[:4])
        lines.append(f"{name:17}{aps}     {row[4]:3} | {parameters:10,}   {multiply_adds / 1e9:5.1f}")
    return "\n".join(lines)
