"""Chapter 01: its checks name the mistakes, and what its cells define is what torchvision and pycocotools compute."""

from collections import OrderedDict

import numpy as np
import pytest
import torch

from dyhead_book.c01_feature_pyramid import assignment_checks as assignment
from dyhead_book.c01_feature_pyramid import box_checks as boxes
from dyhead_book.c01_feature_pyramid import pyramid_checks as pyramid
from dyhead_book.practice.reader_checks import check
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import CLASSES, write_shapes
from dyhead_lab.evaluation.coco_metric import evaluate, to_coco_results

from .definitions import definitions
from .planted import assert_bugs_are_caught

CELLS = definitions("01_feature_pyramid")
TABLES = {
    "iou": (boxes.check_iou, boxes.IOU_MISTAKES),
    "average_precision": (boxes.check_average_precision, boxes.AVERAGE_PRECISION_MISTAKES),
    "receptive_field": (pyramid.check_receptive_field, pyramid.RECEPTIVE_FIELD_MISTAKES),
    "points": (assignment.check_points, assignment.POINTS_MISTAKES),
    "assign": (assignment.check_assign, assignment.ASSIGN_MISTAKES),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_chapters_answer_passes_and_planted_bugs_are_named(name):
    check_answer, mistakes = TABLES[name]
    assert_bugs_are_caught(check_answer, CELLS[name], mistakes)


def test_mistakes_in_the_pyramid_are_named_and_its_class_passes():
    def judge(function):
        return check(
            function, pyramid.feature_pyramid_formula, pyramid.feature_pyramid_cases(), pyramid.FEATURE_PYRAMID_MISTAKES
        )

    assert_bugs_are_caught(judge, pyramid.feature_pyramid_formula, pyramid.FEATURE_PYRAMID_MISTAKES)
    assert pyramid.check_feature_pyramid(CELLS["FeaturePyramidNetwork"])


def test_mistakes_in_the_levels_on_top_are_named_and_their_class_passes():
    def judge(function):
        return check(function, pyramid.top_formula, pyramid.top_cases(), pyramid.TOP_MISTAKES)

    assert_bugs_are_caught(judge, pyramid.top_formula, pyramid.TOP_MISTAKES, fewest=4)
    assert pyramid.check_top(CELLS["LastLevelP6P7"])


def test_a_pyramid_that_hands_down_what_is_finished_is_named():
    class Finished(CELLS["FeaturePyramidNetwork"]):
        def forward(self, x):
            done, above = OrderedDict(), None
            for l, name in reversed(list(enumerate(x))):
                m = self.inner_blocks[l](x[name])
                if above is not None:
                    m = m + torch.nn.functional.interpolate(above, size=m.shape[-2:])
                done[name] = above = self.layer_blocks[l](m)
            return {name: done[name] for name in x}

    assert "comes before the map is handed down" in pyramid.check_feature_pyramid(Finished).message


def test_other_names_of_parameters_are_told():
    class Bare(torch.nn.Module):
        def __init__(self, in_channels_list, out_channels, extra_blocks=None):
            super().__init__()
            self.inner_blocks = torch.nn.ModuleList(torch.nn.Conv2d(C, out_channels, 1) for C in in_channels_list)

    verdict = pyramid.check_feature_pyramid(Bare)
    assert not verdict and "inner_blocks.0.0.weight" in verdict.message and "inner_blocks.0.weight" in verdict.message


def test_each_object_is_found_once_by_the_best_detection():
    iou_nm = np.array([[0.6, 0.9], [0.55, 0.8], [0.7, 0.0]])
    assert CELLS["matched"](iou_nm, 0.5).tolist() == [True, True, False], "the second takes the object that is left"
    assert CELLS["matched"](iou_nm, 0.65).tolist() == [True, False, True]
    assert CELLS["matched"](np.zeros((2, 0)), 0.5).tolist() == [False, False], "no objects, nothing found"


def jittered(target, rng):
    """Detections near the truth: some shifted, some of another class, some twice."""
    repeat = np.repeat(np.arange(len(target["labels"])), 3)
    found = target["boxes"].numpy()[repeat] + rng.normal(0, 3, (len(repeat), 4))
    labels = np.where(rng.random(len(repeat)) < 0.2, rng.integers(0, 6, len(repeat)), target["labels"].numpy()[repeat])
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    return {"boxes": found, "labels": labels, "scores": rng.random(len(repeat))}


def test_the_readers_metric_is_that_of_pycocotools(tmp_path):
    write_shapes(tmp_path / "val", images=12, seed=5, size=64)
    data = coco_folder(tmp_path, "val")
    rng = np.random.default_rng(0)
    targets = [data[i][1] for i in range(len(data))]
    found = [jittered(target, rng) for target in targets]
    truths = [{name: target[name].double().numpy() for name in ("boxes", "labels")} for target in targets]
    ours = CELLS["mean_average_precision"](found, truths, len(CLASSES))
    tensors = [{name: torch.from_numpy(array) for name, array in detection.items()} for detection in found]
    records = to_coco_results([target["image_id"] for target in targets], tensors, data.category_ids)
    # The same definition; only boxes pass through float32 and x, y, width, height on the way.
    assert ours == pytest.approx(evaluate(data, records)["AP"], abs=1e-6)
    assert 0.05 < ours < 0.95
