"""The one door for ground truth: what files of the world lack or write otherwise, both engines read alike."""

import copy
from importlib.util import find_spec

import numpy as np
import pytest
from pycocotools.coco import COCO

from dyhead_lab.data.coco_json import index_coco
from dyhead_lab.evaluation.coco_metric import evaluate
from dyhead_lab.evaluation.engines import ENGINES
from dyhead_lab.evaluation.error_analysis import analyse_errors
from dyhead_lab.evaluation.ground_truth import clean_truth

from ..data.coco_files import annotation, coco_dict

FIRST, SECOND = [1, 2, 10, 8], [20, 10, 12, 9]


@pytest.fixture(params=ENGINES)
def engine(request):
    if request.param == "hotcoco" and not find_spec("hotcoco"):
        pytest.skip("hotcoco is optional: pip install hotcoco")
    return request.param


def dataset():
    """Two images with an object each."""
    return copy.deepcopy(coco_dict([annotation(1, FIRST), annotation(2, SECOND, image_id=2)], images=2))


def found(image_ids=(1, 2), category_id=3):
    """Both objects."""
    boxes = zip(image_ids, (FIRST, SECOND), strict=True)
    return [{"image_id": i, "category_id": category_id, "bbox": box, "score": 0.9} for i, box in boxes]


def raw(content):
    """A COCO object as somebody makes it by hand: nothing is checked."""
    coco = COCO()
    coco.dataset = content
    return coco


def all_ids(content, form):
    """Every id of a COCO dictionary in another form."""
    for key in ("images", "annotations", "categories"):
        content[key] = [{k: form(v) if k.endswith("id") else v for k, v in record.items()} for record in content[key]]


CHANGES = {
    "as COCO has it": lambda c: None,
    "two annotations of one id": lambda c: [a.update(id=5) for a in c["annotations"]],
    "annotations from 0 on": lambda c: [a.update(id=i) for i, a in enumerate(c["annotations"])],
    "no ids": lambda c: [a.pop("id") for a in c["annotations"]],
    "no area": lambda c: [a.pop("area") for a in c["annotations"]],
    "an area that is no number": lambda c: [a.update(area=float("nan")) for a in c["annotations"]],
    "a negative area": lambda c: [a.update(area=-1) for a in c["annotations"]],
    "no iscrowd": lambda c: [a.pop("iscrowd") for a in c["annotations"]],
    "ids as text": lambda c: all_ids(c, str),
    "ids as floats": lambda c: all_ids(c, float),
    "ids of NumPy": lambda c: all_ids(c, np.int64),
    "an image listed twice": lambda c: c["images"].append(dict(c["images"][0])),
    "a date of 0": lambda c: [image.update(date_captured=0) for image in c["images"]],
    "a segmentation {}": lambda c: [a.update(segmentation={}) for a in c["annotations"]],
    "a segmentation as text": lambda c: [a.update(segmentation="") for a in c["annotations"]],
    "a flat segmentation": lambda c: [a.update(segmentation=[1, 1, 9, 1, 9, 9]) for a in c["annotations"]],
    "a supercategory that is no text": lambda c: [k.update(supercategory=None) for k in c["categories"]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_perfect_detections_are_perfect(change, engine):
    content = dataset()
    CHANGES[change](content)
    before = copy.deepcopy(content)
    result = evaluate(raw(content), found(), engine)
    assert result["AP"] == pytest.approx(1) and result.per_class["dog"] == pytest.approx(1)
    np.testing.assert_equal(content, before)  # as ==, but NaN equals NaN
    assert analyse_errors(raw(content), found(), engine).mistakes == []


@pytest.mark.parametrize("name", [lambda i: -i, lambda i: f"{i:04}", lambda i: f"shop/{i}.jpg"])
def test_negative_ids_and_names_for_ids(name, engine):
    content = dataset()
    for record in content["images"]:
        record["id"] = name(record["id"])
    for record in content["annotations"]:
        record["image_id"] = name(record["image_id"])
    result = evaluate(raw(content), found((name(1), name(2))), engine)
    assert result["AP"] == pytest.approx(1)
    report = analyse_errors(raw(content), found((name(1), name(2)))[:1], engine)
    assert [(m.kind, m.image_id) for m in report.mistakes] == [("missed", name(2))]


def test_two_categories_of_one_name_are_told_apart(engine):
    content = dataset()
    content["categories"] = [{"id": 7, "name": "dog"}, {"id": 3, "name": "dog"}, {"id": 4}]
    per_class = evaluate(raw(content), found(), engine).per_class
    assert per_class == {"dog (id 3)": pytest.approx(1), "id 4": -1, "dog": -1}


def test_equal_scores_are_ranked_in_the_order_of_the_ids(engine):
    """Image 2 is listed before image 10, and "2" would come after "10": the miss on image 2 is ranked first."""
    content = dataset()
    for key, name in (("images", "id"), ("annotations", "image_id")):
        for record, id in zip(content[key], ("10", "2"), strict=True):
            record[name] = id
    miss = {"image_id": 2, "category_id": 3, "bbox": [30, 0, 2, 2], "score": 0.9}
    hit = {"image_id": 10, "category_id": 3, "bbox": FIRST, "score": 0.9}
    # Precision 1/2 at recalls up to 1/2 (51 of 101 samples), 0 beyond.
    assert evaluate(raw(content), [hit, miss], engine)["AP50"] == pytest.approx(0.5 * 51 / 101)


def refused(content):
    with pytest.raises(ValueError) as problem:
        evaluate(raw(content), [])
    return str(problem.value)


def test_what_cannot_be_mended_is_named():
    assert "expected a list of images, got NoneType" in refused({})
    content = dataset()
    content["images"][1]["id"] = 1
    assert "two different records of images have id 1" in refused(content)
    content = dataset()
    content["categories"][0] = {"name": "cat"}
    assert "categories[0] has no usable id: None" in refused(content)
    for box in ([1, 2, float("nan"), 4], [1, 2, 10**400, 4], [1, 2, 3], None, "text"):
        content = dataset()
        content["annotations"][1]["bbox"] = box
        message = refused(content)
        assert "annotations[1] (id 2): expected a bbox of four finite numbers" in message and repr(box) in message


def test_annotations_of_what_is_not_listed_take_no_part_and_are_counted(engine):
    content = dataset()
    content["annotations"] += [annotation(8, FIRST, image_id=9), annotation(9, FIRST, category_id="cow")]
    with pytest.warns(UserWarning, match="2 of 4 annotations are of an image or a category that is not listed"):
        assert evaluate(raw(content), found(), engine)["AP"] == pytest.approx(1)


def test_detections_may_name_ids_in_any_form():
    truth = index_coco(dataset())
    for form in (str, float, np.int64):
        result = evaluate(truth, found((form(1), form(2)), form(3)))
        assert result["AP"] == pytest.approx(1)
    with pytest.raises(ValueError, match=r"detections\[1\].*no image_id 'two'"):
        evaluate(truth, found((1, "two")))
    with pytest.raises(ValueError, match=r"detections\[0\].*no category_id \[3\]"):
        evaluate(truth, found(category_id=[3]))


@pytest.mark.parametrize("flag", [1, 1.0, "1", True, np.int64(1), np.True_])
def test_a_crowd_is_one_in_whatever_form_it_is_flagged(flag, engine):
    """A crowd that nothing finds costs nothing, as in a file: AP 1, not 0.5."""
    content = dataset()
    content["annotations"][1]["iscrowd"] = flag
    assert evaluate(raw(content), found()[:1], engine)["AP"] == pytest.approx(1)


def test_areas_of_segments_stay():
    """COCO's areas are those of the segments: they decide what is small."""
    content = dataset()
    content["annotations"][0]["area"] = 2000.0
    areas = [a["area"] for a in clean_truth(raw(content)).dataset["annotations"]]
    assert areas == [2000.0, 12 * 9]
