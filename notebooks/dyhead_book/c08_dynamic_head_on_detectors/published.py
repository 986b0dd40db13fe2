"""Published numbers of the Dynamic Head on detectors, each with the place where it stands.

All are AP on COCO val2017 with ResNet-50 and the 1x schedule, about 12 epochs.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """AP of a detector without and with a Dynamic Head; None where no source states it.

    The two numbers of a row come from two code bases, so their difference is only roughly what the head adds.
    """

    detector: str
    without: float | None
    with_: float | None
    source_without: str
    source_with: str = ""


_RELEASED = "microsoft/DynamicHead README"

DETECTORS = (
    Published("RetinaNet", 36.5, 39.9, "detectron2 MODEL_ZOO at 02478d2", _RELEASED),
    Published("FCOS", 38.7, None, "Megvii-BaseDetection/BorderDet README"),
    Published("ATSS", 39.3, 42.4, "mmdetection configs/atss at 0c1cee2", _RELEASED),
    Published("RepPoints", 38.1, None, "mmdetection configs/reppoints, with GroupNorm"),
    Published("BorderDet", 41.4, None, "Megvii-BaseDetection/BorderDet README"),
    Published("Faster R-CNN", 37.9, 40.3, "detectron2 MODEL_ZOO at 02478d2", _RELEASED),
    Published("Cascade R-CNN", 40.3, None, "mmdetection configs/cascade_rcnn"),
)

#: ATSS with ResNet-50 and six blocks, as different people measured it.
ATSS_R50 = {
    "the paper, as listed by Papers with Code": 43.0,
    "released code": 42.4,
    "released weights in mmdetection (pull request 6823)": 42.3,
    "mmdetection, trained like the released code": 42.5,
    "mmdetection, with its own backbone and offsets from zero": 43.3,
}

#: Dynamic Head on ATSS with larger backbones: AP of the paper, as listed by Papers with Code.
BACKBONES = {
    "ResNet-50": 43.0,
    "ResNet-101": 46.5,
    "ResNeXt-101 64x4d": 47.7,
    "ResNeXt-101 with deformable convolutions, several sizes of pictures": 54.0,
    "Swin-L, several sizes of pictures, test-dev": 58.7,
    "the same with self-training on more pictures, test-dev": 60.6,
}

#: What the paper states for detectors to which a Dynamic Head is added: smallest and largest gain in AP.
PAPER_GAINS = (1.2, 3.2)


def table() -> str:
    """The detectors as a Markdown table."""
    lines = ["| detector | without | with | without: source | with: source |", "| --- | --- | --- | --- | --- |"]
    for row in DETECTORS:
        numbers = (f"{value:.1f}" if value is not None else "–" for value in (row.without, row.with_))
        lines.append(f"| {row.detector} | {' | '.join(numbers)} | {row.source_without} | {row.source_with or '–'} |")
    return "\n".join(lines)
