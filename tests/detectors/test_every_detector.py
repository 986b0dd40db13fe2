"""Every convolutional detector, with and without a Dynamic Head, on drawn shapes and on photographs."""

import pytest
import torch
from torch.utils.data import Subset

from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import CLASSES, write_shapes
from dyhead_lab.detectors.one_stage.atss import atss
from dyhead_lab.detectors.one_stage.borderdet import borderdet
from dyhead_lab.detectors.one_stage.fcos import fcos
from dyhead_lab.detectors.one_stage.reppoints import reppoints
from dyhead_lab.detectors.one_stage.retinanet import retinanet
from dyhead_lab.detectors.rcnn.cascade_rcnn import cascade_rcnn
from dyhead_lab.detectors.rcnn.faster_rcnn import faster_rcnn
from dyhead_lab.detectors.rcnn.mask_rcnn import mask_rcnn
from dyhead_lab.evaluation.coco_metric import detect_dataset, evaluate
from dyhead_lab.trace import trace

ONE_STAGE = (retinanet, fcos, atss, reppoints, borderdet)
TWO_STAGE = (faster_rcnn, mask_rcnn, cascade_rcnn)
FEW_REGIONS = {
    "box_head_width": 32,
    "rpn_pre_nms_top_n_train": 50,
    "rpn_post_nms_top_n_train": 20,
    "rpn_post_nms_top_n_test": 20,
}
STEPS_BY_HEART = 250  # RepPoints with a Dynamic Head needs most
ATTENTIONS = {"scale_weights", "offsets", "masks", "task_coefficients", "after_spatial", "after_scale", "after_task"}
OWN_NAMES = {reppoints: {"points_init", "points_refined"}, borderdet: {"border_points"}}

every_detector = pytest.mark.parametrize("builder", ONE_STAGE + TWO_STAGE, ids=lambda builder: builder.__name__)
with_and_without = pytest.mark.parametrize("dyhead_blocks", [0, 1], ids=["plain", "dyhead"])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes") / "set"
    write_shapes(folder, images=2, seed=5, size=96)
    return coco_folder(folder, masks=True)


@pytest.fixture(scope="module")
def photographs(shared):
    return coco_folder(shared / "data" / "coco_tiny", "train", masks=True)


class Few(Subset):
    """A few samples of a data set."""

    @property
    def category_ids(self):
        return self.dataset.category_ids


def small(builder, classes, dyhead_blocks, side=96, **options):
    torch.manual_seed(0)
    options |= FEW_REGIONS if builder in TWO_STAGE else {"tower_convs": 1 - dyhead_blocks}
    size = {"object_scale": 0.5, "min_size": side, "max_size": 2 * side}
    return builder(classes, "narrow", dyhead_blocks=dyhead_blocks, channels=32, **size, **options)


def batch_of(samples):
    names = ("boxes", "labels", "masks")
    return [image for image, _ in samples], [{name: target[name] for name in names} for _, target in samples]


def trains_and_evaluates(model, data, indices):
    """Steps on one batch: every loss is finite, every parameter takes part; what is found can be evaluated."""
    few = Few(data, indices)
    images, targets = batch_of(few)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-3)
    for _ in range(2):
        losses = model(images, targets)
        assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
        optimizer.step()
    result = evaluate(data, detect_dataset(model, few, batch_size=2))
    assert 0 <= result["AP"] <= 1


@every_detector
@with_and_without
def test_a_few_steps_and_an_evaluation_on_shapes(builder, dyhead_blocks, drawn):
    trains_and_evaluates(small(builder, len(CLASSES), dyhead_blocks), drawn, [0, 1])


@every_detector
@with_and_without
def test_a_few_steps_and_an_evaluation_on_photographs(builder, dyhead_blocks, photographs):
    trains_and_evaluates(small(builder, 80, dyhead_blocks), photographs, [0, 1])


@pytest.mark.slow  # 15 to 30 seconds apiece
@every_detector
@with_and_without
def test_four_images_are_learned_by_heart(builder, dyhead_blocks, tmp_path):
    """A strong test of targets, losses and decoding together: any of them a little wrong, and AP stays low.

    0.7, not 1: in 64 pixels, P3 has 64 places, and some of the 16 objects hide the only places of others.
    """
    write_shapes(tmp_path / "set", images=4, seed=5, size=64)
    data = coco_folder(tmp_path / "set", masks=True)
    images, targets = batch_of(data)
    model = small(builder, len(CLASSES), dyhead_blocks, side=64, body={"pretrained": True}).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, STEPS_BY_HEART, pct_start=0.1)
    for _ in range(STEPS_BY_HEART):
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    assert evaluate(data, detect_dataset(model, data))["AP"] > 0.7


@every_detector
def test_a_batch_without_objects_teaches_the_background(builder):
    model = small(builder, 3, dyhead_blocks=1).train()
    images = [torch.rand(3, 64, 96), torch.rand(3, 96, 64)]
    targets = [
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "masks": torch.zeros(0, *x.shape[1:])}
        for x in images
    ]
    losses = model(images, targets)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert all(not loss for name, loss in losses.items() if "bbox" in name or "mask" in name)


@every_detector
def test_detections_stay_in_images_of_any_size(builder):
    model = small(builder, 3, dyhead_blocks=1).eval()
    sizes = [(64, 96), (33, 20)]
    with torch.no_grad():
        results = model([torch.rand(3, *size) for size in sizes])
    for found, (height, width) in zip(results, sizes, strict=True):
        n = len(found["boxes"])
        assert found["boxes"].shape == (n, 4) and found["scores"].shape == found["labels"].shape == (n,)
        # Boxes are scaled back from float32 coordinates up to 192.
        assert not n or (found["boxes"].min() >= 0 and found["boxes"][:, 2].max() <= width + 1e-3)
        assert not n or found["boxes"][:, 3].max() <= height + 1e-3


@every_detector
def test_a_trace_shows_the_dynamic_head_and_what_the_detector_has_of_its_own(builder):
    model = small(builder, 3, dyhead_blocks=1).eval()
    with torch.no_grad(), trace(model) as t:
        model([torch.rand(3, 96, 96)])
    assert set(t.names()) >= {"network_input"} | ATTENTIONS | OWN_NAMES.get(builder, set())
    # One level after the other, all under the one block.
    assert [path for path, _ in t.find("after_task")] == ["backbone.neck.blocks.0"] * 5


@pytest.mark.parametrize("builder", TWO_STAGE, ids=lambda builder: builder.__name__)
def test_task_aware_attention_can_stand_after_pooling_where_the_paper_has_it(builder):
    model = builder(3, "narrow", dyhead_blocks=1, channels=32, task_after_pooling=True, min_size=96, max_size=192)
    with torch.no_grad(), trace(model.eval()) as t:
        model([torch.rand(3, 96, 96)])
    heads = [f"stages.{k}.layers" for k in range(3)] if builder is cascade_rcnn else ["box_head"]
    assert [path for path, _ in t.find("task_coefficients")] == [f"roi_heads.{head}.task" for head in heads]
