"""Numbers that published weights must give: written down where the weights were converted for the hub.

Source: the expectations in transformers' conversion script of Deformable DETR (Apache-2.0), which holds its own
detector against the authors' with a tolerance of 1e-4.
"""

from __future__ import annotations

from dataclasses import dataclass

#: The picture of COCO val2017 that all of them belong to, at the size of DETR's family (800, at most 1333 pixels).
PICTURE = "000000039769.jpg"
TOLERANCE = 1e-4

Rows = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Golden:
    """The first three numbers of the first three queries.

    Attributes:
        logits: of classes 0, 1 and 2.
        boxes: (cx, cy, w), as shares of the image.
    """

    logits: Rows
    boxes: Rows


GOLDEN: dict[str, Golden] = {
    "SenseTime/deformable-detr": Golden(
        ((-9.6645, -4.3449, -5.8705), (-9.7035, -3.8504, -5.0724), (-10.5634, -5.3379, -7.5116)),
        ((0.8693, 0.2289, 0.2492), (0.3150, 0.5489, 0.5845), (0.5563, 0.7580, 0.8518)),
    ),
    "SenseTime/deformable-detr-single-scale": Golden(
        ((-9.9051, -4.2541, -6.4852), (-9.6947, -4.0854, -6.8033), (-10.0665, -5.8470, -7.7003)),
        ((0.7292, 0.4991, 0.5532), (0.7959, 0.2426, 0.4236), (0.7582, 0.3518, 0.4451)),
    ),
    "SenseTime/deformable-detr-single-scale-dc5": Golden(
        ((-8.9652, -4.1074, -5.6635), (-9.0596, -4.9447, -6.6075), (-10.1178, -4.5275, -6.2671)),
        ((0.7665, 0.4130, 0.4769), (0.8364, 0.1841, 0.3391), (0.6261, 0.3895, 0.7978)),
    ),
    "SenseTime/deformable-detr-with-box-refine": Golden(
        ((-8.8895, -5.4187, -6.8153), (-8.4706, -6.1668, -7.6184), (-9.0042, -5.5359, -6.9141)),
        ((0.7828, 0.2208, 0.4323), (0.0892, 0.5996, 0.1319), (0.5524, 0.6389, 0.8914)),
    ),
    "SenseTime/deformable-detr-with-box-refine-two-stage": Golden(
        ((-6.7108, -4.3213, -6.3777), (-8.9014, -6.1799, -6.7240), (-6.9315, -4.4735, -6.2298)),
        ((0.2583, 0.5499, 0.4683), (0.7652, 0.9068, 0.4882), (0.5490, 0.2763, 0.0564)),
    ),
}
