import numpy as np
import pytest

from dyhead_book.c01_feature_pyramid import box_checks as boxes
from dyhead_book.c01_feature_pyramid import pyramid_checks as pyramid
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import CLASSES, write_shapes
from dyhead_lab.evaluation.coco_metric import evaluate, to_coco_results

from .planted import assert_bugs_are_caught

TABLES = {
    "iou": (boxes.check_iou, boxes.iou, boxes.IOU_MISTAKES),
    "average precision": (
        boxes.check_average_precision,
        boxes.average_precision,
        boxes.AVERAGE_PRECISION_MISTAKES,
    ),
    "receptive field": (pyramid.check_receptive_field, pyramid.receptive_field, pyramid.RECEPTIVE_FIELD_MISTAKES),
    "feature pyramid": (pyramid.check_feature_pyramid, pyramid.feature_pyramid, pyramid.FEATURE_PYRAMID_MISTAKES),
}


@pytest.mark.parametrize("name", TABLES)
def test_solutions_pass_and_planted_bugs_are_named(name):
    assert_bugs_are_caught(*TABLES[name])


def test_each_object_is_found_once_by_the_best_detection():
    iou_nm = np.array([[0.6, 0.9], [0.55, 0.8], [0.7, 0.0]])
    assert boxes.matched(iou_nm, 0.5).tolist() == [True, True, False], "the second takes the object that is left"
    assert boxes.matched(iou_nm, 0.65).tolist() == [True, False, True]
    assert boxes.matched(np.zeros((2, 0)), 0.5).tolist() == [False, False], "no objects, nothing found"


def jittered(target, rng):
    """Detections near the truth: some shifted, some of another class, some twice."""
    repeat = np.repeat(np.arange(len(target["labels"])), 3)
    found = target["boxes"].numpy()[repeat] + rng.normal(0, 3, (len(repeat), 4))
    labels = np.where(rng.random(len(repeat)) < 0.2, rng.integers(0, 6, len(repeat)), target["labels"].numpy()[repeat])
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    return {"boxes": found, "labels": labels, "scores": rng.random(len(repeat))}


def test_the_readers_metric_is_that_of_pycocotools(tmp_path):
    import torch

    write_shapes(tmp_path / "val", images=12, seed=5, size=64)
    data = coco_folder(tmp_path, "val")
    rng = np.random.default_rng(0)
    targets = [data[i][1] for i in range(len(data))]
    found = [jittered(target, rng) for target in targets]
    truths = [{name: target[name].double().numpy() for name in ("boxes", "labels")} for target in targets]
    ours = boxes.mean_average_precision(found, truths, len(CLASSES))
    tensors = [{name: torch.from_numpy(array) for name, array in detection.items()} for detection in found]
    records = to_coco_results([target["image_id"] for target in targets], tensors, data.category_ids)
    # The same definition; only boxes pass through float32 and x, y, width, height on the way.
    assert ours == pytest.approx(evaluate(data, records)["AP"], abs=1e-6)
    assert 0.05 < ours < 0.95
