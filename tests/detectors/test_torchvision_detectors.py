"""RetinaNet, FCOS, Faster and Mask R-CNN with and without a Dynamic Head: they keep the shared form."""

import math

import pytest
import torch

from dyhead_lab.detectors.anchors import ExactAnchors
from dyhead_lab.detectors.one_stage import fcos_head
from dyhead_lab.detectors.one_stage.atss import atss
from dyhead_lab.detectors.one_stage.borderdet import borderdet
from dyhead_lab.detectors.one_stage.fcos import fcos
from dyhead_lab.detectors.one_stage.reppoints import reppoints
from dyhead_lab.detectors.one_stage.retinanet import retinanet
from dyhead_lab.detectors.precision import in_float32
from dyhead_lab.detectors.rcnn.cascade_rcnn import cascade_rcnn
from dyhead_lab.detectors.rcnn.faster_rcnn import RoIAlign, TaskAwareBoxHead, faster_rcnn
from dyhead_lab.detectors.rcnn.mask_rcnn import mask_rcnn

BUILDERS = [retinanet, fcos, faster_rcnn, mask_rcnn]
OWN = [atss, reppoints, borderdet]
FEW_REGIONS = {
    "rpn_post_nms_top_n_train": 20,
    "rpn_post_nms_top_n_test": 20,
    "box_batch_size_per_image": 16,
    "box_score_thresh": 0.0,
}
IMAGES = [torch.rand(3, 70, 90, generator=torch.Generator().manual_seed(i)) for i in range(2)]


def target(boxes, labels):
    masks = torch.zeros(len(boxes), 70, 90, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    return {"boxes": torch.tensor(boxes).float().view(-1, 4), "labels": torch.tensor(labels).long(), "masks": masks}


TARGETS = [target([[10, 10, 60, 60], [40, 20, 88, 60]], [0, 2]), target([], [])]
EMPTY = target([], [])


def small(builder, dyhead_blocks, **options):
    torch.manual_seed(0)
    if builder in (faster_rcnn, mask_rcnn, cascade_rcnn):
        options |= FEW_REGIONS
    elif builder not in OWN:
        options |= {"score_thresh": 0.0}
    return builder(3, backbone="resnet18", dyhead_blocks=dyhead_blocks, min_size=64, max_size=96, **options)


@pytest.mark.parametrize("dyhead_blocks", [0, 1])
@pytest.mark.parametrize("builder", BUILDERS)
def test_a_step_with_and_without_objects(builder, dyhead_blocks):
    model = small(builder, dyhead_blocks).train()
    for targets in (TARGETS, [EMPTY, EMPTY]):
        total = sum(model(IMAGES, targets).values())
        assert total.isfinite() and total > 0
        model.zero_grad()
        total.backward()
    tower = [p for name, p in model.named_parameters() if ".neck." in name]
    assert len(tower) == 20 * dyhead_blocks and all(p.grad is not None for p in tower)


def test_fcos_divides_by_the_places_of_all_processes(monkeypatch):
    """Two processes with halves of a batch, one without objects: their mean is the loss of the whole, to float32."""
    model, counts = small(fcos, 0).train(), []

    def losses(images, targets, everybody):
        def mean(here, least):
            counts.append(float(here))
            total = here if everybody is None else torch.tensor(everybody)
            return total.clamp(min=least) / (1 if everybody is None else 2)

        monkeypatch.setattr(fcos_head, "mean_over_processes", mean)
        return torch.stack(list(model(images, targets).values()))

    one_place = target([[10, 10, 18, 18]], [1])
    whole = losses(IMAGES, [one_place, EMPTY], None)
    halves = [losses([image], [t], counts[0]) for image, t in zip(IMAGES, (one_place, EMPTY), strict=True)]
    assert counts == [1, 1, 0]  # a mean of half a place: the divisor must not be rounded up to one
    torch.testing.assert_close(sum(halves) / 2, whole)


@pytest.mark.parametrize("builder", [cascade_rcnn, *OWN, *BUILDERS])
def test_boxes_and_losses_are_float32_under_autocast(builder):
    options = {"cascade": {"score_threshold": 0.0}} if builder is cascade_rcnn else {}
    options |= {"inference": {"score_threshold": 0.0}} if builder in OWN else {}
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model = small(builder, 1, **options).train()
        losses = model(IMAGES, TARGETS)
        sum(losses.values()).backward()
        with torch.no_grad():
            [found] = model.eval()(IMAGES[:1])
    assert all(loss.isfinite() for loss in losses.values())
    assert all(losses[name].dtype == torch.float32 for name in losses if "box" in name or "reg" in name)
    assert len(found["boxes"]) and found["boxes"].dtype == found["scores"].dtype == torch.float32


@pytest.mark.parametrize("builder", BUILDERS)
def test_detections_keep_the_shared_form(builder):
    model = small(builder, 1).eval()
    with torch.no_grad():
        results = model([IMAGES[0], torch.rand(3, 60, 40)])
    for result, (height, width) in zip(results, [(70, 90), (60, 40)], strict=True):
        assert {"boxes", "scores", "labels"} <= set(result)
        assert 0 < len(result["boxes"]) <= 100
        assert result["boxes"][:, 2].max() <= width + 1e-3 and result["boxes"][:, 3].max() <= height + 1e-3
        assert 0 <= result["labels"].min() and result["labels"].max() <= 2
    model.load_state_dict(small(builder, 1).state_dict())


def test_r_cnn_learns_the_labels_it_was_given():
    """Labels are shifted on the way in and back on the way out."""
    model = small(faster_rcnn, 0).eval()
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight.zero_()
        model.roi_heads.box_predictor.cls_score.bias.copy_(torch.tensor([0.0, 0.0, 9.0, 0.0]))  # background first
        assert model(IMAGES[:1])[0]["labels"][0] == 1


def test_task_aware_attention_after_pooling_replaces_the_fully_connected_layers():
    model = small(faster_rcnn, 1, task_after_pooling=True)
    assert isinstance(model.roi_heads.box_head, TaskAwareBoxHead)
    assert model.backbone.neck.blocks[0].task is None
    sum(model.train()(IMAGES, TARGETS).values()).backward()
    assert model.roi_heads.box_head.task.fc2.weight.grad.any()


def test_anchors_are_exact_and_sizes_come_before_ratios():
    [anchors] = ExactAnchors(((32, 32 * 2 ** (1 / 3)),), ((0.5, 1.0, 2.0),)).cell_anchors
    expected = []
    for size in (32, 32 * 2 ** (1 / 3)):
        for ratio in (0.5, 1, 2):
            width = math.sqrt(size**2 / ratio)
            expected.append([-width / 2, -ratio * width / 2, width / 2, ratio * width / 2])
    torch.testing.assert_close(anchors, torch.tensor(expected))


def test_regions_are_pooled_from_the_level_that_suits_them_without_a_shift():
    # Every level holds its own x coordinate in pixels plus 10,000 times its number: pooling reads both back.
    x = {}
    for level in range(2, 6):
        centres = (torch.arange(512 // 2**level) + 0.5) * 2**level
        x[f"p{level}"] = (centres + 10_000 * level).expand(1, 1, len(centres), -1)
    boxes = torch.tensor([[100.0, 100.0, 140.0, 140.0], [64.0, 64.0, 264.0, 264.0], [50.0, 50.0, 274.0, 274.0]])
    pooled = RoIAlign(7)(x, [boxes], None)[:, 0]
    for box, region, level in zip(boxes, pooled, (2, 3, 4), strict=True):
        cell = (box[2] - box[0]) / 7
        expected = box[0] + cell * (torch.arange(7) + 0.5) + 10_000 * level
        # float32 around 40,000 resolves 0.004; a shift of half a cell of P2 would be 2.
        torch.testing.assert_close(region[3], expected, rtol=0, atol=0.02)


def test_no_regions_pool_to_nothing():
    x = {f"p{level}": torch.zeros(1, 4, 8, 8) for level in range(2, 6)}
    assert RoIAlign(7)(x, [torch.zeros(0, 4)], None).shape == (0, 4, 7, 7)


def test_heads_answer_in_float32_under_autocast():
    head = in_float32(torch.nn.Linear(4, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head(torch.ones(1, 4)).dtype == torch.float32


@pytest.mark.parametrize(
    ("builder", "parameters"),
    [(retinanet, 45_290_460), (faster_rcnn, 53_203_592)],
)
def test_the_released_models_have_the_published_number_of_parameters(builder, parameters):
    with torch.device("meta"):
        model = builder(80)
    count = sum(p.numel() for p in model.parameters())
    if builder is faster_rcnn:  # torchvision regresses a box for the background, which Detectron2 does not
        count -= 4 * 1024 + 4
    assert count == parameters  # microsoft/DynamicHead, its configs
