"""Segmentations that can be drawn are told from those that pycocotools would take for something else."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.segmentations import check_segmentation

from .coco_files import annotation, write_set

TRIANGLE = [4, 6, 14, 6, 14, 14]
HEIGHT, WIDTH = 30, 40


def runs(counts, size=(HEIGHT, WIDTH)):
    return {"size": list(size), "counts": counts}


def compressed(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode("ascii")


@pytest.mark.parametrize("value", [[TRIANGLE], [TRIANGLE, [0, 0, 5, 0, 5, 5, 0, 5]], runs([65, 5, 1130]), runs([1200])])
def test_sound_ones_are_left_alone(value):
    assert check_segmentation(value, HEIGHT, WIDTH) == (value, None)


@pytest.mark.parametrize(
    ("value", "mended"),
    [
        (TRIANGLE, [TRIANGLE]),
        ([TRIANGLE, []], [TRIANGLE]),
        ([[1, 1, 5, 5], TRIANGLE], [TRIANGLE]),
        ([TRIANGLE, [1, 1, 5, 5, 3, float("nan")]], [TRIANGLE]),
        ([TRIANGLE, [*TRIANGLE, 7]], [TRIANGLE]),
        ([TRIANGLE, [1, 1, 5, 1, 5, 10**400]], [TRIANGLE]),
        ([TRIANGLE, [1, 1, 5, 1, 5, 81]], [TRIANGLE]),
    ],
)
def test_what_can_be_mended_is_mended_and_named(value, mended):
    drawable, fault = check_segmentation(value, HEIGHT, WIDTH)
    assert drawable == mended and fault


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "no segmentation"),
        ("", "no segmentation"),
        ({}, "no segmentation"),
        ([], "no segmentation"),
        ([[]], "no segmentation"),
        ([[1, 1, 5, 5]], "three points"),
        ([1, 1, 5, 5], "three points"),
        ([["a"] * 6], "three points"),
        ([TRIANGLE[:-1]], "three points"),
        ([[1, 1, 5, 1, 5, 1e9]], "far beyond its image"),  # gigabytes, if pycocotools drew it
        ([1, 1, -41, 1, 5, 5], "far beyond its image"),
        (runs([10**400, 5]), "cannot be read"),
        (runs([0, 1200], (WIDTH, HEIGHT)), r"run lengths of size [40, 30], in an image of size [30, 40]"),
        ({"counts": [0, 1200]}, "run lengths of size None"),
        (runs([5, 10]), "cover 15 pixels of 1200"),
        (runs([5, 5000]), "cover 5005 pixels of 1200"),
        (runs([1205, -5]), "cannot be read"),
        (runs(None), "cannot be read"),
        (runs(""), "cannot be read"),
        (runs("no runs ~"), "cannot be read"),
        (runs("ü"), "cannot be read"),
        (runs(compressed(np.ones((HEIGHT, WIDTH - 1)))), "cover 1170 pixels of 1200"),
    ],
)
def test_what_cannot_be_drawn_is_named(value, fault):
    drawable, told = check_segmentation(value, HEIGHT, WIDTH)
    assert drawable is None and fault in told


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_compressed_run_lengths_are_counted_as_pycocotools_writes_them(share):
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (1, 300), (300, 1), (37, 53), (480, 640)):
        value = runs(compressed(rng.random((height, width)) < share), (height, width))
        assert check_segmentation(value, height, width) == (value, None)


def test_sides_that_mean_whole_numbers_are_read_as_such():
    drawable, fault = check_segmentation(runs([1200], ("30", 40.0)), HEIGHT, WIDTH)
    assert drawable == runs([1200]) and fault is None


@pytest.mark.parametrize("bad", [[[]], [[1, 1, 5, 5]], runs([0, 1200], (WIDTH, HEIGHT)), runs("5"), ""])
def test_a_data_set_draws_what_is_left(tmp_path, bad):
    drawn = [annotation(1, [4, 6, 10, 8], segmentation=TRIANGLE), annotation(2, [4, 6, 10, 8], segmentation=[TRIANGLE])]
    write_set(tmp_path, [*drawn, annotation(3, [1, 2, 10, 8], segmentation=bad)])
    with pytest.warns(UserWarning, match="mended") as caught:
        dataset = coco_folder(tmp_path, masks=True)
    assert len(caught) == 1 and "id 3" in str(caught[0].message)
    target = dataset.target(0)
    assert target["masks"].shape == (2, HEIGHT, WIDTH) and len(target["boxes"]) == 2
    assert (target["masks"][0] == target["masks"][1]).all() and target["masks"].sum() > 0
