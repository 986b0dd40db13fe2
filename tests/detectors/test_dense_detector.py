"""What one-stage detectors share: positives and their losses, the choice of boxes, options of builders."""

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from dyhead_lab.detectors.backbones.feature_pyramid import with_pyramid
from dyhead_lab.detectors.losses import BACKGROUND, IGNORED, classification_loss, find_positives
from dyhead_lab.detectors.one_stage.atss import atss
from dyhead_lab.detectors.one_stage.dense_detector import DenseDetector, best_boxes, tower_height

TARGETS = [
    {"boxes": torch.tensor([[0.0, 0, 10, 10], [5, 5, 20, 20]]), "labels": torch.tensor([2, 0])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
    {"boxes": torch.tensor([[1.0, 1, 3, 3]]), "labels": torch.tensor([1])},
]
MATCHED = torch.tensor([[1, BACKGROUND, 0, 1], [BACKGROUND] * 4, [IGNORED, 0, BACKGROUND, IGNORED]])


def test_positives_carry_their_objects_image_by_image():
    found = find_positives(MATCHED, TARGETS)
    assert found.image.tolist() == [0, 0, 0, 2] and found.place.tolist() == [0, 2, 3, 1]
    assert found.labels.tolist() == [0, 2, 0, 1] and found.total == 4
    assert torch.equal(found.boxes[1], TARGETS[0]["boxes"][0]) and torch.equal(found.boxes[3], TARGETS[2]["boxes"][0])


def test_without_positives_sums_are_divided_by_one():
    found = find_positives(torch.full((1, 4), BACKGROUND), TARGETS[1:2])
    assert len(found.boxes) == 0 and found.total == 1


def test_focal_loss_by_hand_leaves_ignored_places_out():
    logits = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0))
    total = 0.0
    for image, place in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
        matched = int(MATCHED[image, place])
        if matched == IGNORED:
            continue
        for label in range(3):
            p = 1 / (1 + math.exp(-logits[image, place, label]))
            positive = matched >= 0 and int(TARGETS[image]["labels"][matched]) == label
            total += -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)
    loss = classification_loss(logits, MATCHED, find_positives(MATCHED, TARGETS))
    assert loss.item() == pytest.approx(total / 4, rel=1e-5)  # float32


def test_a_batch_gives_the_objects_loss_and_gradient_of_its_images_one_by_one():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 4, 3, generator=generator, requires_grad=True)
    found = find_positives(MATCHED, TARGETS)
    boxes, labels, focal = [], [], torch.zeros(())
    for logits_NK, matched_N, target in zip(logits, MATCHED, TARGETS, strict=True):
        object = matched_N[matched_N >= 0]
        boxes.append(target["boxes"][object])
        labels.append(target["labels"][object])
        is_class_NK = torch.zeros_like(logits_NK)
        is_class_NK[matched_N >= 0, labels[-1]] = 1
        counted_N = matched_N != IGNORED
        focal = focal + sigmoid_focal_loss(logits_NK[counted_N], is_class_NK[counted_N], reduction="sum")
    assert torch.equal(found.boxes, torch.cat(boxes)) and torch.equal(found.labels, torch.cat(labels))
    loss = classification_loss(logits, MATCHED, found)
    torch.testing.assert_close(loss, focal / 4)
    mine, theirs = (torch.autograd.grad(x, logits)[0] for x in (loss, focal / 4))
    torch.testing.assert_close(mine, theirs)
    assert not mine[MATCHED == IGNORED].any()


def test_the_best_boxes_of_each_class_survive():
    near = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [40, 40, 50, 50]]])
    far = torch.tensor([[[0.0, 0, 10, 10.5]]])
    scores = [torch.tensor([[[0.9, 0.1], [0.8, 0.7], [0.3, 0.2]]]), torch.tensor([[[0.5, 0.95]]])]
    admitted = [s > 0.25 for s in scores]
    [found] = best_boxes([near, far], scores, admitted)
    # Class 0: 0.9 suppresses 0.8 and 0.5. Class 1: 0.95 of the second level suppresses 0.7.
    torch.testing.assert_close(found["scores"], torch.tensor([0.95, 0.9, 0.3]))
    assert found["labels"].tolist() == [1, 0, 0]
    [few] = best_boxes([near, far], scores, admitted, candidates=1, most=1)
    torch.testing.assert_close(few["scores"], torch.tensor([0.95]))
    [alone] = best_boxes([near, far], scores, admitted, candidates=1)
    torch.testing.assert_close(alone["scores"], torch.tensor([0.95, 0.9]))


@pytest.mark.parametrize(("asked", "blocks", "convs"), [(None, 0, 4), (None, 6, 0), (2, 6, 2), (0, 0, 0)])
def test_a_dynamic_head_takes_the_place_of_the_towers(asked, blocks, convs):
    assert tower_height(asked, blocks) == convs


def test_options_go_to_the_pyramid_or_to_the_detector():
    options = {"backbone": "narrow", "channels": 16, "min_size": 64}
    features, rest = with_pyramid(options, finest=3)
    assert features.out_channels == 16 and rest == {"min_size": 64}
    with pytest.raises(TypeError, match="channel"):
        atss(3, "narrow", channel=16)
    with pytest.raises(TypeError, match="finest"):
        atss(3, "narrow", finest=2)


def test_anchors_shrink_with_the_objects():
    assert atss(3, "narrow", object_scale=0.5).anchor_scale == 4


def test_a_pyramid_of_another_height_is_refused():
    features, _ = with_pyramid({"backbone": "narrow", "channels": 16})
    model = DenseDetector(features, torch.nn.Identity(), 3, strides=(8, 16), min_size=64, max_size=64).eval()
    with pytest.raises(ValueError, match="backbone: expected 2 levels, one per stride, got 5"):
        model([torch.rand(3, 64, 64)])
