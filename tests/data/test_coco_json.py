"""Faults of a COCO file: structural ones raise, those of an annotation are mended or dropped, and all are named."""

import json

import pytest

from dyhead_lab.data.coco_json import load_coco_json
from dyhead_lab.data.coco_problems import summarise
from dyhead_lab.errors import UserError

from .coco_files import CATEGORIES, annotation, coco_dict, write_json

SOUND = [1, 2, 10, 8]


def load(tmp_path, annotations):
    file = load_coco_json(write_json(tmp_path / "a.json", coco_dict(annotations)))
    return file.dataset["annotations"], file.problems


def load_after(tmp_path, *annotations):
    """What becomes of annotations that follow sound ones enough for the file to be accepted."""
    sound = [annotation(id, SOUND) for id in range(1001, 1002 + len(annotations))]
    kept, problems = load(tmp_path, [*sound, *annotations])
    return kept[len(sound) :], problems


def test_a_sound_file_is_left_alone(tmp_path):
    content = coco_dict([annotation(1, SOUND), annotation(2, SOUND, iscrowd=1)])
    file = load_coco_json(write_json(tmp_path / "a.json", content))
    assert file.problems == [] and file.notes == []
    assert file.dataset == {"info": {}, "licenses": [], **content}


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
    annotations, (problem,) = load_after(tmp_path, bad)
    assert annotations == []
    assert problem.annotation == 5 and what in problem.what and problem.done == "dropped"
    assert "annotation 5" in str(problem)


def test_an_annotation_without_fields_is_named_by_its_position(tmp_path):
    annotations, (problem,) = load_after(tmp_path, "nonsense")
    assert annotations == []
    assert "position 2" in str(problem) and "position 2" in summarise([problem])


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
    first, second = summarise(load_after(tmp_path, *bad)[1]).splitlines()
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
        (
            {"images": [*coco_dict([])["images"], {**coco_dict([])["images"][0], "width": 41}]},
            "two .* images have id 1",
        ),
        ({"categories": [*CATEGORIES, {"id": 7, "name": "horse"}]}, "two records of categories have id 7"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "same name"),
        ({"categories": [{"id": 1}]}, r"categories\[0\] has no usable 'name'"),
        ({"categories": [{"id": 1, "name": "\ud800"}]}, r"categories\[0\] has no usable 'name', text: .*ud800"),
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


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_unicode_encoding_is_read(tmp_path, encoding):
    content = {**coco_dict([annotation(1, SOUND)]), "categories": [{"id": 3, "name": "Käfer 甲虫"}]}
    (tmp_path / "a.json").write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    assert load_coco_json(tmp_path / "a.json").dataset["categories"][0]["name"] == "Käfer 甲虫"


def test_another_encoding_is_named(tmp_path):
    content = {**coco_dict([]), "categories": [{"id": 3, "name": "Käfer"}]}
    (tmp_path / "a.json").write_bytes(json.dumps(content, ensure_ascii=False).encode("cp1252"))
    with pytest.raises(UserError, match=r"a\.json: not encoded as UTF-8"):
        load_coco_json(tmp_path / "a.json")


@pytest.mark.parametrize("write", [float, str, lambda number: f"{number:06}", lambda number: f"{number}.0"])
def test_ids_and_sizes_that_mean_whole_numbers_are_read_as_such(tmp_path, write):
    content = coco_dict([annotation(id, SOUND, image_id=write(1), category_id=write(3)) for id in (1, 2)])
    for image in content["images"]:
        image |= {key: write(image[key]) for key in ("id", "width", "height")}
    content["categories"] = [{**category, "id": write(category["id"])} for category in CATEGORIES]
    file = load_coco_json(write_json(tmp_path / "a.json", content))
    assert file.dataset["images"] == coco_dict([])["images"] and file.dataset["categories"] == CATEGORIES
    assert [(a["image_id"], a["category_id"]) for a in file.dataset["annotations"]] == [(1, 3), (1, 3)]
    assert all(type(a["image_id"]) is int for a in file.dataset["annotations"])
    assert "2 annotation(s) with no whole number as image_id: read as one" in summarise(file.problems)
    assert any("images: width is no whole number" in note for note in file.notes)


@pytest.mark.parametrize(("flag", "meaning"), [("1", 1), (1.0, 1), (True, 1), (False, 0), ("0", 0)])
def test_crowd_flags_that_mean_a_number_are_read_as_such(tmp_path, flag, meaning):
    (_, mended), problems = load(tmp_path, [annotation(1, SOUND), annotation(2, SOUND, iscrowd=flag)])
    assert mended["iscrowd"] == meaning and type(mended["iscrowd"]) is int and problems == []


@pytest.mark.parametrize("value", [0, -3, 40.5, "wide", None, True, float("nan"), 2**31, "9" * 5000])
def test_a_size_that_is_no_number_of_pixels_is_named(tmp_path, value):
    content = coco_dict([])
    content["images"][0]["width"] = value
    with pytest.raises(UserError, match=r"images\[0\] has no usable 'width', a whole number from 1 to 2147483647"):
        load_coco_json(write_json(tmp_path / "a.json", content))


def test_two_spellings_of_one_id_are_refused(tmp_path):
    content = coco_dict([], images=2)
    content["images"][0]["id"], content["images"][1]["id"] = "1", "01"
    with pytest.raises(UserError, match="two records of images have id 1"):
        load_coco_json(write_json(tmp_path / "a.json", content))


def test_records_that_are_listed_twice_count_once(tmp_path):
    content = coco_dict([annotation(1, SOUND)])
    content = {**content, "images": content["images"] * 2, "categories": CATEGORIES * 2}
    file = load_coco_json(write_json(tmp_path / "a.json", content))
    assert len(file.dataset["images"]) == 1 and len(file.dataset["categories"]) == 2
    assert len(file.notes) == 2 and all("listed twice" in note for note in file.notes)


def test_an_image_under_two_ids_is_noted(tmp_path):
    content = coco_dict([annotation(1, SOUND)], images=2)
    content["images"][1]["file_name"] = "1.png"
    (note,) = load_coco_json(write_json(tmp_path / "a.json", content)).notes
    assert "'1.png' (ids 1, 2)" in note


def with_root(category_of_last):
    """Roboflow's categories: 0 is the project and the supercategory of all others."""
    categories = [{"id": 0, "name": "cat", "supercategory": "none"}]
    categories += [{"id": id, "name": name, "supercategory": "cat"} for id, name in ((1, "cat"), (2, "dog"))]
    annotations = [annotation(1, SOUND, category_id=1), annotation(2, SOUND, category_id=category_of_last)]
    return {**coco_dict(annotations), "categories": categories}


def test_roboflows_root_category_is_left_out(tmp_path):
    file = load_coco_json(write_json(tmp_path / "a.json", with_root(2)))
    assert [category["id"] for category in file.dataset["categories"]] == [1, 2]
    assert len(file.notes) == 1 and "category 0, 'cat'" in file.notes[0]


@pytest.mark.parametrize("zero", [0, 0.0, "0"])
def test_a_root_category_that_boxes_have_stays(tmp_path, zero):
    content = with_root(zero)
    content["categories"][0]["name"] = "pet"
    for category in content["categories"][1:]:
        category["supercategory"] = "pet"
    file = load_coco_json(write_json(tmp_path / "a.json", content))
    assert [category["id"] for category in file.dataset["categories"]] == [0, 1, 2] and file.notes == []


def test_a_category_0_without_children_stays(tmp_path):
    content = coco_dict([annotation(1, SOUND)])
    content["categories"] = [{"id": 0, "name": "cat", "supercategory": "none"}, *CATEGORIES[1:]]
    assert len(load_coco_json(write_json(tmp_path / "a.json", content)).dataset["categories"]) == 2
