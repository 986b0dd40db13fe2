"""Both engines of the COCO metric give the same numbers: on a published oracle, on crowds, and on random scenes."""

import json
import random

import pytest

from dyhead_lab.data.coco import CocoDetection
from dyhead_lab.data.coco_json import index_coco
from dyhead_lab.errors import UserError
from dyhead_lab.evaluation import engines
from dyhead_lab.evaluation.coco_metric import METRICS, evaluate

from ..data.coco_files import annotation, coco_dict

# Both compute in float64; sums may be taken in another order.
TOLERANCE = 1e-9


@pytest.fixture(autouse=True)
def hotcoco():
    return pytest.importorskip("hotcoco", reason="hotcoco is optional: pip install hotcoco")


def assert_equal(truth, detections):
    slow, fast = (evaluate(truth, detections, engine) for engine in engines.ENGINES)
    assert fast.numbers == pytest.approx(slow.numbers, abs=TOLERANCE)
    assert fast.per_class == pytest.approx(slow.per_class, abs=TOLERANCE)
    return fast


def test_the_published_numbers(shared, tmp_path):
    oracle = shared / "data/coco_eval_oracle"
    if not oracle.is_dir():
        pytest.skip("needs shared/data/coco_eval_oracle")
    truth = CocoDetection(tmp_path, oracle / "ground_truth.json")
    result = assert_equal(truth, json.loads((oracle / "detections.json").read_text(encoding="utf-8")))
    expected = json.loads((oracle / "expected.json").read_text(encoding="utf-8"))["bbox"]
    assert [result[name] for name in METRICS] == pytest.approx(list(expected.values()), abs=TOLERANCE)


def box_near(rng, box, noise):
    return [max(0.5, value + rng.gauss(0, noise)) for value in box]


@pytest.mark.parametrize("seed", range(3))
def test_random_scenes_with_crowds_and_equal_scores(seed):
    """Shifted copies of the objects and false alarms; scores in steps of 0.1, so that many are equal."""
    rng = random.Random(seed)
    objects, detections = [], []
    for id in range(1, 61):
        box = [rng.uniform(0, 20), rng.uniform(0, 15), rng.uniform(2, 30), rng.uniform(2, 25)]
        image, category = rng.randint(1, 6), rng.choice([3, 7])
        objects.append(annotation(id, box, image_id=image, category_id=category, iscrowd=int(rng.random() < 0.15)))
        for _ in range(rng.randint(0, 3)):
            found = {"image_id": image, "category_id": rng.choice([category, 3]), "score": round(rng.random(), 1)}
            detections.append({**found, "bbox": box_near(rng, box, 2)})
    assert 0 < assert_equal(index_coco(coco_dict(objects, 6)), detections)["AP50"] < 1


def test_nothing_found_and_nothing_to_find():
    truth = index_coco(coco_dict([annotation(1, [1, 2, 10, 8])], 1))
    assert assert_equal(truth, [])["AP"] == 0
    found = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 10, 8], "score": 0.5}
    assert assert_equal(index_coco(coco_dict([], 1)), [found])["AP"] == -1


def test_engines_by_name(monkeypatch):
    truth = index_coco(coco_dict([], 1))
    with pytest.raises(ValueError, match="expected one of pycocotools, hotcoco, got 'fast'"):
        evaluate(truth, [], "fast")
    assert engines.fastest_engine() == "hotcoco"
    monkeypatch.setitem(__import__("sys").modules, "hotcoco", None)  # what an import finds where it is missing
    with pytest.raises(UserError, match="pip install hotcoco"):
        evaluate(truth, [], "hotcoco")
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert engines.fastest_engine() == "pycocotools"


def test_where_the_fastest_engine_fails_the_other_takes_its_place(monkeypatch):
    truth = index_coco(coco_dict([annotation(1, [1, 2, 10, 8])], 1))
    found = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 10, 8], "score": 0.5}

    def fails(truth, records):
        raise RuntimeError("invalid type: map")

    monkeypatch.setattr(engines, "_hotcoco", fails)
    with pytest.warns(UserWarning, match="hotcoco failed .invalid type: map.; pycocotools"):
        assert evaluate(truth, [found], engine=None)["AP"] == pytest.approx(1)
    with pytest.raises(RuntimeError, match="invalid type"):  # it was asked for
        evaluate(truth, [found], "hotcoco")
