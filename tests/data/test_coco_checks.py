"""Faults of a whole file are refused with the key or unit that does not fit; what may be right is let through."""

import warnings

import pytest

from dyhead_lab.data.coco_json import load_coco_json
from dyhead_lab.errors import UserError

from .coco_files import CATEGORIES, annotation, coco_dict, write_json

SOUND = [1, 2, 10, 8]


def load(tmp_path, annotations, **lists):
    return load_coco_json(write_json(tmp_path / "a.json", {**coco_dict(annotations), **lists}))


def boxes(*boxes):
    return [annotation(id, box) for id, box in enumerate(boxes, start=1)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"image_id": 99},
            r"a\.json: 2 of 4 .* 2 have unknown image_id, such as 99\. .*have the ids 1: image_id",
        ),
        (
            {"image_id": "1.png"},
            r"unknown image_id, such as '1\.png'\. The images have the ids 1: image_id",
        ),
        ({"category_id": 90}, r"unknown category_id, such as 90\. The categories have the ids 7, 3: category_id does"),
        ({"bbox": ["1", "2", "10", "8"]}, r"2 have a bbox that is not four numbers, such as \['1', '2', '10', '8'\]"),
        ({"bbox": {"x": 1}}, "2 have a bbox that is not four numbers"),
    ],
)
def test_a_file_of_which_half_is_dropped_is_refused_with_the_key_that_does_not_fit(tmp_path, fields, message):
    bad = [{**annotation(id, SOUND), **fields} for id in (3, 4)]
    with pytest.raises(UserError, match=message):
        load(tmp_path, [*boxes(SOUND, SOUND), *bad])
    assert len(load(tmp_path, [*boxes(SOUND, SOUND, SOUND), *bad]).problems) == 2


def test_a_file_of_crowds_only_is_refused(tmp_path):
    crowds = [annotation(id, SOUND, iscrowd=1) for id in (1, 2, 3)]
    with pytest.raises(UserError, match=r"a\.json: all 3 annotations have iscrowd 1"):
        load(tmp_path, crowds)
    assert len(load(tmp_path, [*crowds, annotation(4, SOUND)]).dataset["annotations"]) == 4


@pytest.mark.parametrize("tiny", [[0.1, 0.2, 0.5, 0.3], [0, 0, 1, 1], [0.5, 0.5, 0.001, 0.5], [0.4, 0.4, 0.6004, 0.6]])
def test_boxes_normalised_to_1_are_refused(tmp_path, tiny):
    with pytest.raises(UserError, match=r"2 of 3 boxes lie within the first pixel .*normalised to \[0, 1\].*in pixels"):
        load(tmp_path, boxes(tiny, tiny, SOUND))


def test_a_few_tiny_boxes_are_let_through(tmp_path):
    assert len(load(tmp_path, boxes([0.1, 0.2, 0.5, 0.3], SOUND, SOUND)).dataset["annotations"]) == 3


def test_images_of_a_pixel_have_boxes_of_a_pixel(tmp_path):
    images = [{"id": 1, "file_name": "1.png", "width": 1, "height": 1}]
    assert load(tmp_path, boxes([0, 0, 1, 1]), images=images).problems == []


def test_corners_in_place_of_sizes_are_refused(tmp_path):
    """Images are 40 x 30. Read as sizes, two of the three boxes reach beyond; as corners all are inside."""
    with pytest.raises(UserError, match=r"2 of 3 boxes reach beyond .*\[20, 10, 38, 28\].*look like corners.*x2 - x1"):
        load(tmp_path, boxes([20, 10, 38, 28], [25, 15, 30, 30], [1, 2, 11, 10]))


def test_one_bad_box_among_corners_hides_nothing(tmp_path):
    corners = [[20, 10, 38, 28]] * 20
    with pytest.raises(UserError, match=r"look like corners"):
        load(tmp_path, boxes(*corners, [5, 5, 5, 9]))


def test_boxes_that_mostly_reach_beyond_and_are_no_corners_are_noted(tmp_path):
    file = load(tmp_path, boxes([20, 10, 15, 28], [25, 15, 30, 10], SOUND))
    assert len(file.dataset["annotations"]) == 3 and len(file.notes) == 1
    assert "2 of 3 boxes reach beyond their images" in file.notes[0] and "of another size" in file.notes[0]


def test_boxes_near_the_corner_are_no_corners(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = load(tmp_path, boxes([0, 0, 40, 30], [1, 2, 39, 28], [0, 0, 3, 3]))
    assert file.problems == [] and file.notes == []


def test_categories_counted_from_0_are_noted(tmp_path):
    categories = [{"id": id, "name": name} for id, name in enumerate("abc", start=1)]
    shifted = [annotation(id, SOUND, category_id=id % 3) for id in range(1, 10)]
    file = load(tmp_path, shifted, categories=categories)
    assert len(file.notes) == 1 and "category_id 0, which is unknown, and none has 3" in file.notes[0]
    used = [*shifted, annotation(10, SOUND, category_id=3)]
    assert load(tmp_path, used, categories=categories).notes == []
    assert load(tmp_path, [annotation(1, SOUND), annotation(2, SOUND)], categories=CATEGORIES).notes == []


def test_a_file_without_annotations_is_noted(tmp_path):
    file = load(tmp_path, [])
    assert file.dataset["annotations"] == [] and file.problems == []
    assert len(file.notes) == 1 and file.notes[0].startswith("no annotations")
