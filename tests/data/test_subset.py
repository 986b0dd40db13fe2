"""A fraction of a data set is fixed, nested, and complete in itself."""

import pytest

from dyhead_lab.data.coco import CocoDetection
from dyhead_lab.data.subset import fixed_images, fraction_of

from .coco_files import annotation, write_set


@pytest.fixture
def whole(tmp_path):
    folder = write_set(tmp_path, [annotation(i, [0, 0, 10, 10], image_id=i) for i in range(1, 11)], images=10)
    return CocoDetection(folder / "images", folder / "annotations.json")


def test_a_fraction_has_its_share_and_smaller_ones_lie_inside_larger_ones(whole):
    tenth, half = fraction_of(whole, 0.1), fraction_of(whole, 0.5)
    assert len(tenth) == 1 and len(half) == 5 and len(whole) == 10
    assert set(tenth.image_ids) < set(half.image_ids) < set(whole.image_ids)
    assert half.image_ids == sorted(half.image_ids)
    assert fraction_of(whole, 1.0) is whole and len(fraction_of(whole, 0.01)) == 1


def test_the_choice_is_the_same_everywhere(whole):
    """`printf 9 | sha256sum` begins with 19581e, 8 with 2c6242, 10 with 4a44dc; all others begin higher."""
    assert fixed_images(whole, 3).image_ids == [8, 9, 10]


def test_annotations_of_other_images_are_gone(whole):
    part = fixed_images(whole, 4)
    assert {a["image_id"] for a in part.coco.dataset["annotations"]} == set(part.image_ids)
    assert len(whole.coco.dataset["annotations"]) == 10
    _, target = part[0]
    assert target["image_id"] == part.image_ids[0] and len(target["boxes"]) == 1
    assert len(fixed_images(whole, 99)) == 10


@pytest.mark.parametrize("fraction", [0, -0.5, 1.1])
def test_impossible_fractions_are_refused(whole, fraction):
    with pytest.raises(ValueError, match="fraction"):
        fraction_of(whole, fraction)
