"""The COCO metric and the way from a detector's outputs to it."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from dyhead_lab.data.coco import CocoDetection
from dyhead_lab.data.coco_json import index_coco
from dyhead_lab.evaluation.coco_metric import (
    METRICS,
    UNDEFINED,
    detect_dataset,
    evaluate,
    evaluation_mode,
    to_coco_results,
)
from dyhead_lab.evaluation.engines import ENGINES

from ..data.coco_files import annotation, coco_dict, write_set


@pytest.fixture
def oracle(shared):
    folder = shared / "data/coco_eval_oracle"
    if not folder.is_dir():
        pytest.skip("needs shared/data/coco_eval_oracle")
    return folder


def test_the_published_numbers(oracle, tmp_path, capsys):
    truth = CocoDetection(tmp_path, oracle / "ground_truth.json")
    detections = json.loads((oracle / "detections.json").read_text(encoding="utf-8"))
    before = copy.deepcopy(detections)
    result = evaluate(truth, detections)
    expected = json.loads((oracle / "expected.json").read_text(encoding="utf-8"))["bbox"]
    assert list(expected) == list(METRICS)
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-9)  # the oracle is stated to all digits of float64
    assert detections == before and capsys.readouterr().out == ""

    defined = [value for value in result.per_class.values() if value != UNDEFINED]
    assert len(result.per_class) == 80 and len(defined) < 80
    assert np.mean(defined) == pytest.approx(result["AP"], abs=1e-9)


def truth_of(*annotations, images=1):
    return index_coco(coco_dict(list(annotations), images))


def found(bbox, score=0.9, image_id=1, category_id=3):
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


SMALL, BIG = [1, 2, 10, 8], [0, 0, 40, 30]


def test_perfect_detections():
    result = evaluate(truth_of(annotation(1, SMALL), annotation(2, BIG)), [found(SMALL), found(BIG)])
    assert result["AP"] == pytest.approx(1) and result["AR100"] == pytest.approx(1)
    # both objects are of category 3, named dog, one small and one medium; there is no large one and no cat
    assert result["AP_small"] == pytest.approx(1) and result["AP_medium"] == pytest.approx(1)
    assert result["AP_large"] == UNDEFINED
    assert result.per_class == {"dog": pytest.approx(1), "cat": UNDEFINED}


def test_iou_thresholds_are_told_apart():
    # Shifted by 2 of 10 columns: overlap 8, union 12, IoU 0.667, so 4 of the 10 thresholds 0.50..0.65 are met.
    result = evaluate(truth_of(annotation(1, SMALL)), [found([3, 2, 10, 8])])
    assert result["AP50"] == pytest.approx(1) and result["AP75"] == 0 and result["AP"] == pytest.approx(0.4)


def test_no_detections_score_zero():
    result = evaluate(truth_of(annotation(1, SMALL)), [])
    assert result["AP"] == 0 and result["AR100"] == 0 and result.per_class["dog"] == 0


def test_no_objects_at_all_is_undefined():
    assert set(evaluate(truth_of(), [found(SMALL)]).numbers.values()) == {UNDEFINED}


def test_detections_in_a_crowd_are_ignored():
    truth = truth_of(annotation(1, SMALL), annotation(2, BIG, iscrowd=1))
    inside = found([20, 10, 10, 8], score=0.99)
    assert evaluate(truth, [found(SMALL), inside])["AP"] == pytest.approx(1)
    assert evaluate(truth_of(annotation(1, SMALL)), [found(SMALL), inside])["AP"] < 0.6


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_box_that_is_not_finite_finds_nothing(engine):
    """To pycocotools a box of NaN overlaps everything: this AP would be 1.

    The false positive comes first, so precision is 1/2 at the recalls up to 1/2: 51 of 101 samples.
    """
    if engine == "hotcoco":
        pytest.importorskip("hotcoco", reason="hotcoco is optional: pip install hotcoco")
    truth = truth_of(annotation(1, SMALL), annotation(2, SMALL, image_id=2), images=2)
    for box in ([NAN] * 4, [1, 2, INF, 8], [-INF, 2, 10, 8]):
        detections = [found(box, 0.9), found(SMALL, 0.5, image_id=2)]
        with pytest.warns(UserWarning, match="1 of 2 detections are not finite .* on image 1, has bbox") as told:
            result = evaluate(truth, detections, engine)
        assert len(told) == 1 and result.not_finite == 1
        assert result["AP"] == pytest.approx(0.5 * 51 / 101) and result["AR100"] == 0.5
        assert "1 detections were not finite" in result.table()
    with pytest.warns(UserWarning, match="2 of 2"):
        result = evaluate(truth, [found([NAN] * 4, 0.9, image) for image in (1, 2)], engine)
    assert result["AP"] == 0 and result["AR100"] == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("score", [NAN, INF, -INF])
def test_a_score_that_is_not_finite_has_no_rank(score, engine):
    if engine == "hotcoco":
        pytest.importorskip("hotcoco", reason="hotcoco is optional: pip install hotcoco")
    truth = truth_of(annotation(1, SMALL), annotation(2, SMALL, image_id=2), images=2)
    with pytest.warns(UserWarning, match="1 of 2 detections are not finite"):
        result = evaluate(truth, [found(SMALL, score), found(SMALL, 0.5, image_id=2)], engine)
    assert result["AP"] == pytest.approx(51 / 101)  # recall 1/2 without a false positive


@pytest.mark.parametrize("box", [[1, 2, 10], None, ["1", "2", "10", "8"], 5, [1, 2, 10, None]])
def test_a_box_without_four_numbers_is_named(box):
    with pytest.raises(ValueError, match=r"detections\[1\]: expected bbox \[x, y, w, h\]") as told:
        evaluate(truth_of(annotation(1, SMALL)), [found(SMALL), found(box)])
    assert repr(box) in str(told.value)


@pytest.mark.parametrize("score", [None, "0.9", [0.9]])
def test_a_score_that_is_no_number_is_named(score):
    with pytest.raises(ValueError, match=r"detections\[1\]: expected .* a score, all numbers, got .* and "):
        evaluate(truth_of(annotation(1, SMALL)), [found(SMALL), found(SMALL, score)])
    without = {name: value for name, value in found(SMALL).items() if name != "score"}
    with pytest.raises(ValueError, match=r"detections\[0\]: expected .* and None"):
        evaluate(truth_of(annotation(1, SMALL)), [without])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("form", [torch.tensor, np.array, tuple])
def test_boxes_and_scores_may_be_tensors_and_arrays(form, engine):
    if engine == "hotcoco":
        pytest.importorskip("hotcoco", reason="hotcoco is optional: pip install hotcoco")
    score = form([0.9])[0]
    assert evaluate(truth_of(annotation(1, SMALL)), [found(form(SMALL), score)], engine)["AP"] == pytest.approx(1)


@pytest.mark.parametrize("wrong", [{"image_id": 5}, {"category_id": 0}])
def test_detections_of_something_else_are_named(wrong):
    (key,) = wrong
    with pytest.raises(ValueError, match=rf"detections\[1\].*{key}"):
        evaluate(truth_of(annotation(1, SMALL)), [found(SMALL), found(SMALL, **wrong)])


def test_tables():
    result = evaluate(truth_of(annotation(1, SMALL)), [found(SMALL)])
    lines = result.table().splitlines()
    assert [line.split()[0] for line in lines] == list(METRICS)
    assert lines[0].split()[1] == "1.0000" and lines[5].split()[1] == "-"
    assert [line.split() for line in result.class_table().splitlines()] == [["dog", "1.0000"], ["cat", "-"]]


def output(boxes, scores, labels):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def test_outputs_become_records():
    outputs = [output([[1, 2, 11, 10], [0, 0, 40, 30]], [0.5, 0.25], [1, 0]), output([], [], [])]
    assert to_coco_results([8, 9], outputs, [3, 7]) == [
        {"image_id": 8, "category_id": 7, "bbox": [1, 2, 10, 8], "score": 0.5},
        {"image_id": 8, "category_id": 3, "bbox": [0, 0, 40, 30], "score": 0.25},
    ]
    assert outputs[0]["boxes"].tolist() == [[1, 2, 11, 10], [0, 0, 40, 30]]


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_without_a_category_are_refused(label):
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1"):
        to_coco_results([8], [output([[1, 2, 11, 10]], [0.5], [label])], [3, 7])
    with pytest.raises(ValueError, match="one for each image"):
        to_coco_results([8, 9], [output([], [], [])], [3, 7])


class Corner(nn.Module):
    """Finds one box per image, as wide as the image's grey value says; knows how it was called."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.BatchNorm2d(3).eval()
        self.scale = nn.Parameter(torch.ones(()))
        self.calls = []

    def forward(self, images):
        self.calls.append((len(images), self.training, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        sides = [(image.max() * 255 * self.scale).item() for image in images]
        return [output([[0, 0, side, side]], [1.0], [0]) for side in sides]


def test_detecting_over_a_data_set(tmp_path):
    write_set(tmp_path, [annotation(1, [0, 0, 10, 10]), annotation(2, [0, 0, 20, 20], image_id=2)], images=3)
    dataset = CocoDetection(tmp_path / "images", tmp_path / "annotations.json")
    model = Corner()
    model.frozen.eval()
    records = detect_dataset(model, dataset, batch_size=2, autocast=torch.bfloat16)
    assert model.calls == [(2, False, False, True), (1, False, False, True)]
    assert model.training and not model.frozen.training
    assert [record["image_id"] for record in records] == [1, 2, 3]
    assert all(record["category_id"] == 3 for record in records)
    # uint8 / 255 * 255 comes back to within two roundings of float32
    np.testing.assert_allclose([r["bbox"][2] for r in records], [10, 20, 30], rtol=1e-6)
    assert evaluate(dataset, records)["AR100"] == pytest.approx(1)


def test_training_modes_come_back_after_an_error():
    model = Corner()
    model.frozen.eval()
    with pytest.raises(RuntimeError, match="broken"), evaluation_mode(model):
        assert not model.training
        raise RuntimeError("broken")
    assert model.training and not model.frozen.training


def test_the_metric_is_found_under_its_former_name_too():
    from dyhead_lab.evaluation import coco, coco_metric

    assert all(getattr(coco, name) is getattr(coco_metric, name) for name in coco.__all__)
