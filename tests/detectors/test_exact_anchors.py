"""Anchors stay exact where features are bfloat16, which knows odd numbers only up to 256."""

import torch
from torchvision.models.detection.image_list import ImageList

from dyhead_lab.detectors.anchors import ExactAnchors


def test_anchors_do_not_take_the_precision_of_the_features():
    anchors = ExactAnchors(((6,),), ((1.0,),))
    images = ImageList(torch.zeros(1, 3, 64, 512), [(64, 512)])
    exact, under_autocast = (
        anchors(images, [torch.zeros(1, 8, 8, 64, dtype=dtype)])[0] for dtype in (torch.float32, torch.bfloat16)
    )
    assert under_autocast.dtype == torch.float32 and torch.equal(exact, under_autocast)
    assert exact[-1].tolist() == [501, 53, 507, 59]  # half of 6 around (504, 56); bfloat16 would say 500 and 508
