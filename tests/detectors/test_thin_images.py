"""Images of a pixel's width, or so long that scaling leaves less than a pixel: no side may vanish."""

import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from dyhead_lab.detectors.image_batch import resize_image
from dyhead_lab.detectors.torchvision_form import ImageTransform
from dyhead_lab.zoo import get

from .every import CLASSES, CONVOLUTIONAL, EVERY, target


@pytest.mark.parametrize("name", EVERY)
def test_every_detector_trains_on_strips_and_detects_in_them(name):
    torch.manual_seed(0)
    model = get(name).build(CLASSES)
    if name not in CONVOLUTIONAL:
        model.detection_size = (160, 320)
    # At the recipes' 160 to 320 pixels, 0.6 of the 6 would be left.
    sizes = [(6, 3000), (1, 64)]
    images = [torch.rand(3, *size) for size in sizes]
    losses = model.train()(images, [target([[0.0, 0, W, H]], [1], H, W) for H, W in sizes])
    total = sum(losses.values())
    total.backward()
    assert total.isfinite()
    with torch.no_grad():
        results = [*model.eval()(images), *model([image.mT for image in images])]
    for found, (H, W) in zip(results, [*sizes, *[size[::-1] for size in sizes]], strict=True):
        assert found["boxes"].isfinite().all()
        if name in CONVOLUTIONAL and len(found["boxes"]):  # float32 coordinates up to 3000
            assert found["boxes"][:, 2].max() <= W + 1e-3 and found["boxes"][:, 3].max() <= H + 1e-3


@pytest.mark.parametrize("training", [False, True], ids=["detecting", "training"])
@pytest.mark.parametrize("size", [(80, 100), (37, 211), (7, 130), (160, 160)])
def test_images_of_every_other_shape_become_what_torchvision_makes_of_them(size, training):
    torch.manual_seed(0)
    theirs = GeneralizedRCNNTransform([96, 128], 160, [0.5, 0.4, 0.3], [0.2, 0.2, 0.1], size_divisible=32)
    ours = ImageTransform.like(theirs)
    image = torch.rand(3, *size)
    given = target([[1.0, 2, 6, 7], [0.0, 0, *size[::-1]]], [0, 1], *size)
    results = []
    for transform in (theirs, ours):
        torch.manual_seed(1)  # one of the two shorter sides is drawn in training
        results.append(transform.train(training)([image], [given]))
    (batch, [expected]), (found, [target_found]) = results
    assert torch.equal(batch.tensors, found.tensors) and batch.image_sizes == found.image_sizes
    assert all(torch.equal(expected[name], target_found[name]) for name in given)


def test_the_engine_can_switch_resizing_off_in_training():
    transform = ImageTransform(96, 160, [0.0] * 3, [1.0] * 3, size_divisible=1)
    transform._skip_resize = True
    image = torch.rand(3, 20, 30)
    assert transform.train()([image])[0].image_sizes == [(20, 30)]
    assert transform.eval()([image])[0].image_sizes == [(96, 144)]


def test_resizing_leaves_every_side_a_pixel():
    assert resize_image(torch.rand(3, 6, 3000), 800, 1333).shape == (3, 3, 1333)
    assert resize_image(torch.rand(3, 1, 3000), 160, 320).shape == (3, 1, 320)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in CONVOLUTIONAL
        if "rcnn" not in name and name.endswith("_shapes") and name != "frozen_atss_shapes"
    ],
)
def test_towers_take_a_level_of_one_place_whatever_their_width(name):
    # 32 channels are 32 groups of one number each, which PyTorch's own group norm refuses where the level is 1 x 1.
    torch.manual_seed(0)
    narrow = {"channels": 32, "dyhead_blocks": 0, "tower_convs": 1, "min_size": 96, "max_size": 192}
    model = get(name).with_changes({f"model.{key}": value for key, value in narrow.items()}).build(CLASSES).eval()
    with torch.no_grad():
        (found,) = model([torch.rand(3, 96, 96)])
    assert found["boxes"].isfinite().all()
