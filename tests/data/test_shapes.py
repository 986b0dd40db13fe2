"""Shapes: the same pixels for the same seed, exact annotations, and the difficulty that was promised."""

import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import CLASSES, LEAST_VISIBLE, draw_image, draw_set, outline, write_shapes
from dyhead_lab.errors import UserError


@pytest.fixture(scope="module")
def pictures():
    return list(draw_set(150, seed=3, size=160))


def test_same_seed_same_pixels():
    first, objects = draw_image(5, 2)
    again, same = draw_image(5, 2)
    other, _ = draw_image(6, 2)
    assert np.array_equal(first, again) and [o.box for o in objects] == [o.box for o in same]
    assert not np.array_equal(first, other)


def test_a_picture_does_not_depend_on_how_many_are_drawn():
    assert np.array_equal(list(draw_set(3, 1, 64))[2][0], draw_image(1, 2, 64)[0])


def test_boxes_are_tight_around_the_visible_pixels(pictures):
    for _, objects in pictures:
        for item in objects:
            x, y, width, height = item.box
            inside = item.mask[y : y + height, x : x + width]
            assert inside.sum() == item.mask.sum()  # nothing outside
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_visible_masks_do_not_overlap_and_stay_visible(pictures):
    for _, objects in pictures:
        assert np.sum([o.mask for o in objects], 0).max() <= 1
        assert all(o.visible >= LEAST_VISIBLE for o in objects)


def test_sizes_classes_and_occlusion(pictures):
    objects = [o for _, found in pictures for o in found]
    longest = np.array([max(o.box[2:]) for o in objects])
    assert longest.min() <= 10 and longest.max() >= 0.85 * 160
    assert {o.label for o in objects} == set(range(len(CLASSES)))
    assert np.mean([o.visible < 0.95 for o in objects]) >= 0.2
    areas = np.array([o.mask.sum() for o in objects])
    assert (areas < 32**2).any() and ((areas >= 32**2) & (areas < 96**2)).any() and (areas >= 96**2).any()


@pytest.mark.parametrize("kind", CLASSES)
def test_outlines_fill_the_unit_circle(kind):
    radius = np.linalg.norm(outline(kind), axis=1)
    assert radius.max() <= 1.0 + 1e-6 and radius.max() >= 0.95  # a cross's corners lie just inside


def test_the_folder_is_ordinary_coco_and_exact(tmp_path):
    coco = COCO(str(write_shapes(tmp_path / "set", images=4, seed=9, size=96)))
    _, objects = draw_image(9, 2, 96)
    annotations = coco.loadAnns(coco.getAnnIds(3))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    assert len(annotations) == len(objects)
    for annotation, item in zip(annotations, objects, strict=True):
        assert np.array_equal(coco.annToMask(annotation).astype(bool), item.mask)
        assert annotation["area"] == item.mask.sum() and tuple(annotation["bbox"]) == item.box
        assert annotation["category_id"] == item.label + 1


def test_refusals_name_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="images: got 0"):
        write_shapes(tmp_path, images=0)
    with pytest.raises(UserError, match="size: got 8"):
        write_shapes(tmp_path, images=1, size=8)
    write_shapes(tmp_path, images=1, size=32)
    before = json.loads((tmp_path / "annotations.json").read_text(encoding="utf-8"))
    with pytest.raises(UserError, match="exists already"):
        write_shapes(tmp_path, images=2, size=32)
    assert json.loads((tmp_path / "annotations.json").read_text(encoding="utf-8")) == before


def test_masks_of_the_written_set_are_the_painted_ones(tmp_path):
    write_shapes(tmp_path / "set", images=1, seed=4, size=96)
    _, objects = draw_image(4, 0, 96)
    masks = coco_folder(tmp_path / "set", masks=True)[0][1]["masks"]
    assert np.array_equal(masks.numpy().astype(bool), np.stack([item.mask for item in objects]))
