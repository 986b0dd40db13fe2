"""Faults of a COCO file: structural ones raise, those of an annotation are mended or dropped, and all are named."""

import json

import pytest

from dyhead_lab.data.coco_json import load_coco_json, summarise
from dyhead_lab.errors import UserError

from .coco_files import CATEGORIES, annotation, coco_dict, write_json

SOUND = [1, 2, 10, 8]


def load(tmp_path, annotations):
    dataset, problems = load_coco_json(write_json(tmp_path / "a.json", coco_dict(annotations)))
    return dataset["annotations"], problems


def test_a_sound_file_is_left_alone(tmp_path):
    content = coco_dict([annotation(1, SOUND), annotation(2, SOUND, iscrowd=1)])
    dataset, problems = load_coco_json(write_json(tmp_path / "a.json", content))
    assert problems == []
    assert dataset == {"info": {}, "licenses": [], **content}


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (annotation(5, SOUND, image_id=99), "unknown image_id"),
        (annotation(5, SOUND, image_id=None), "unknown image_id"),
        (annotation(5, SOUND, category_id=4), "unknown category_id"),
        (annotation(5, SOUND, category_id=[3]), "unknown category_id"),
        (annotation(5, None), "not four numbers"),
        (annotation(5, [1, 2, 3]), "not four numbers"),
        (annotation(5, [1, 2, float("nan"), 4]), "not four numbers"),
        (annotation(5, [1, 2, "3", 4]), "not four numbers"),
        (annotation(5, [1, 2, 0, 8]), "zero or negative size"),
        (annotation(5, [1, 2, 10, -8]), "zero or negative size"),
        (annotation(5, [41, 2, 10, 8]), "outside its image"),
        (annotation(5, [-20, 2, 10, 8]), "outside its image"),
    ],
)
def test_a_useless_annotation_is_dropped_and_named(tmp_path, bad, what):
    annotations, (problem,) = load(tmp_path, [annotation(1, SOUND), bad])
    assert [a["id"] for a in annotations] == [1]
    assert problem.annotation == 5 and what in problem.what and problem.done == "dropped"
    assert "annotation 5" in str(problem)


def test_an_annotation_without_fields_is_named_by_its_position(tmp_path):
    annotations, (problem,) = load(tmp_path, [annotation(1, SOUND), "nonsense"])
    assert len(annotations) == 1
    assert "position 1" in str(problem) and "position 1" in summarise([problem])


def test_a_box_beyond_its_image_is_clipped_with_its_area(tmp_path):
    (mended,), (problem,) = load(tmp_path, [annotation(5, [-5, 20, 20, 20])])
    assert mended["bbox"] == [0, 20, 15, 10] and mended["area"] == 150
    assert (problem.annotation, problem.done) == (5, "clipped")


def test_the_area_of_a_segment_survives_clipping(tmp_path):
    (mended,), _ = load(tmp_path, [annotation(5, [-5, 20, 20, 20], area=70)])
    assert mended["area"] == 70


def test_rounding_beyond_the_image_is_no_fault(tmp_path):
    (kept,), problems = load(tmp_path, [annotation(5, [30, 20, 10.5, 10.99])])
    assert problems == [] and kept["bbox"] == [30, 20, 10.5, 10.99]


def test_missing_area_and_iscrowd_are_filled_in(tmp_path):
    bare = annotation(5, SOUND, iscrowd=None)
    del bare["area"]
    (mended,), problems = load(tmp_path, [bare])
    assert mended["area"] == 80 and mended["iscrowd"] == 0
    assert [p.annotation for p in problems] == [5, 5]


@pytest.mark.parametrize("id", [0, -3, None, "x", 1])
def test_every_annotation_gets_a_positive_id_of_its_own(tmp_path, id):
    annotations, (problem,) = load(tmp_path, [annotation(1, SOUND), annotation(id, SOUND), annotation(9, SOUND)])
    assert [a["id"] for a in annotations] == [1, 10, 9]
    assert problem.position == 1 and problem.annotation == id


def test_the_summary_counts_each_kind_once(tmp_path):
    bad = [annotation(i, [1, 2, 0, 8]) for i in range(1, 9)] + [annotation(20, SOUND, category_id=4)]
    first, second = summarise(load(tmp_path, bad)[1]).splitlines()
    assert first.startswith("8 annotation(s) with a box of zero") and "1, 2, 3, 4, 5, ..." in first
    assert second.startswith("1 annotation(s) with unknown category_id: dropped") and "20" in second


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_a_missing_list_is_named(tmp_path, key):
    content = coco_dict([])
    del content[key]
    with pytest.raises(UserError, match=f"a.json.*no list '{key}'"):
        load_coco_json(write_json(tmp_path / "a.json", content))


@pytest.mark.parametrize("key", ["id", "file_name", "width", "height"])
def test_an_incomplete_image_is_named(tmp_path, key):
    content = coco_dict([], images=2)
    del content["images"][1][key]
    with pytest.raises(UserError, match=rf"images\[1\] has no usable '{key}'"):
        load_coco_json(write_json(tmp_path / "a.json", content))


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"images": coco_dict([])["images"] * 2}, "two records of images have id 1"),
        ({"categories": CATEGORIES * 2}, "two records of categories have id 7"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "same name"),
        ({"categories": [{"id": 1}]}, r"categories\[0\] has no usable 'name'"),
    ],
)
def test_double_or_nameless_records_are_refused(tmp_path, lists, message):
    with pytest.raises(UserError, match=message):
        load_coco_json(write_json(tmp_path / "a.json", {**coco_dict([]), **lists}))


@pytest.mark.parametrize("text", ["", "{", json.dumps([1, 2]), b"\xff\xfe"])
def test_a_file_that_is_no_coco_file_is_named(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=r"a\.json"):
        load_coco_json(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"not found: .*a\.json"):
        load_coco_json(tmp_path / "a.json")
