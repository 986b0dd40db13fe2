"""The COCO data set: targets, masks and images."""

import numpy as np
import pytest
import torch
from PIL import Image

from dyhead_lab.data.coco import CocoDetection, coco_folder
from dyhead_lab.errors import UserError

from .coco_files import annotation, write_set


def test_image_and_target(tmp_path):
    first, second = annotation(1, [1, 2, 10, 8], area=33), annotation(2, [0, 0, 40, 30], category_id=7)
    dataset = coco_folder(write_set(tmp_path, [first, second], images=2))
    assert len(dataset) == 2 and dataset.image_ids == [1, 2]
    assert dataset.category_ids == [3, 7] and dataset.categories == ["dog", "cat"]

    image, target = dataset[0]
    torch.testing.assert_close(image, torch.full((3, 30, 40), 10 / 255))
    assert target["boxes"].tolist() == [[1, 2, 11, 10], [0, 0, 40, 30]]
    assert target["boxes"].dtype == torch.float32 and target["labels"].dtype == torch.int64
    assert target["labels"].tolist() == [0, 1] and target["area"].tolist() == [33, 1200]
    assert target["iscrowd"].tolist() == [False, False]
    assert target["image_id"] == 1 and target["size"] == (30, 40)


def test_an_image_without_objects_has_empty_tensors(tmp_path):
    _, target = coco_folder(write_set(tmp_path, []))[0]
    assert target["boxes"].shape == (0, 4) and target["labels"].shape == (0,)
    assert target["labels"].dtype == torch.int64 and target["iscrowd"].dtype == torch.bool


def test_crowds_stay_in_the_ground_truth_and_leave_the_targets(tmp_path):
    write_set(tmp_path, [annotation(1, [1, 2, 10, 8]), annotation(2, [0, 0, 40, 30], iscrowd=1)])
    dropped, kept = coco_folder(tmp_path), coco_folder(tmp_path, crowd="keep")
    assert dropped[0][1]["labels"].shape == (1,) and sorted(dropped.coco.anns) == [1, 2]
    assert kept[0][1]["iscrowd"].tolist() == [False, True]
    with pytest.raises(ValueError, match="crowd must be"):
        coco_folder(tmp_path, crowd="perhaps")


def test_boxes_are_rounded_into_the_image(tmp_path):
    dataset = coco_folder(write_set(tmp_path, [annotation(1, [30, -0.5, 10.5, 30.9])]))
    assert dataset[0][1]["boxes"].tolist() == [[30, 0, 40, 30]]
    assert dataset.coco.anns[1]["bbox"] == [30, -0.5, 10.5, 30.9]  # the metric sees what the file says


def test_masks_are_drawn_from_polygons_and_run_lengths(tmp_path):
    square = annotation(1, [4, 6, 10, 8], segmentation=[[4, 6, 14, 6, 14, 14, 4, 14]])
    # Column by column: 30 rows a column, so the third column (x = 2) from row 5 to row 9.
    column = annotation(2, [2, 5, 1, 5], segmentation={"size": [30, 40], "counts": [65, 5, 1130]})
    write_set(tmp_path, [square, column], images=2)
    dataset = coco_folder(tmp_path, masks=True)
    masks = dataset[0][1]["masks"]
    assert masks.shape == (2, 30, 40) and masks.dtype == torch.uint8
    assert masks[0, 6:14, 4:14].all() and masks[0].sum() == 80
    assert masks[1].nonzero().tolist() == [[row, 2] for row in range(5, 10)]
    assert dataset[1][1]["masks"].shape == (0, 30, 40)
    assert "masks" not in coco_folder(tmp_path)[0][1]


def test_annotations_without_a_segmentation_are_left_out_where_masks_are_wanted(tmp_path):
    triangle = [[4, 6, 14, 6, 14, 14]]
    sound = [annotation(id, [4, 6, 10, 8], segmentation=triangle) for id in (1, 2)]
    write_set(tmp_path, [*sound, annotation(8, [1, 2, 10, 8])])
    dataset = coco_folder(tmp_path)
    assert len(dataset.target(0)["boxes"]) == 3 and dataset.problems == []
    with pytest.warns(UserWarning, match=r"no segmentation: left out of the targets, which need masks \(id 8\)"):
        dataset.masks = True
    target = dataset.target(0)
    assert len(target["boxes"]) == len(target["labels"]) == len(target["masks"]) == 2
    assert len(dataset.coco.anns) == 3 and [problem.annotation for problem in dataset.problems] == [8]


def test_a_data_set_that_mostly_lacks_masks_is_refused_where_masks_are_wanted(tmp_path):
    crowd = annotation(3, [0, 0, 9, 9], iscrowd=1)  # in no target, so it needs none
    dataset = coco_folder(write_set(tmp_path, [annotation(8, [1, 2, 10, 8]), crowd]))
    with pytest.raises(UserError, match=r"annotations\.json: .* 1 of 1 .* annotation 8 has no segmentation"):
        dataset.masks = True


@pytest.mark.parametrize("segmentation", [[[]], [[1, 1, 5, 5]], {"size": [40, 30], "counts": [0, 1200]}, {}, ""])
def test_segmentations_of_other_tools_do_not_matter_where_boxes_are_wanted(tmp_path, segmentation):
    dataset = coco_folder(write_set(tmp_path, [annotation(1, [1, 2, 10, 8], segmentation=segmentation)]))
    assert dataset[0][1]["boxes"].tolist() == [[1, 2, 11, 10]] and dataset.problems == []


def test_one_warning_sums_up_the_problems(tmp_path):
    sound = [annotation(id, [1, 2, 10, 8], image_id=2) for id in (1, 2, 3)]
    write_set(tmp_path, [annotation(4, [1, 2, 0, 8]), annotation(6, [1, 2, 5, 8], category_id=1), *sound], images=2)
    with pytest.warns(UserWarning, match=r"annotations\.json") as caught:
        dataset = coco_folder(tmp_path)
    assert len(caught) == 1 and [p.annotation for p in dataset.problems] == [4, 6]
    assert dataset[0][1]["boxes"].shape == (0, 4)


def test_missing_and_broken_images_are_named(tmp_path):
    dataset = coco_folder(write_set(tmp_path, [], images=2))
    (tmp_path / "images/1.png").unlink()
    (tmp_path / "images/2.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"1\.png"):
        dataset[0]
    with pytest.raises(UserError, match=r"2\.png"):
        dataset[1]


def test_boxes_drawn_on_a_picture_of_another_size_are_refused(tmp_path):
    dataset = coco_folder(write_set(tmp_path, []))
    Image.new("RGB", (50, 30)).save(tmp_path / "images/1.png")
    with pytest.raises(UserError, match=r"1\.png is 50x30, but the annotations say 40x30$"):
        dataset[0]


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_pictures_that_exif_turns_are_turned_where_the_stated_size_asks_for_it(tmp_path, orientation):
    """The upright picture, 40 x 30, has a bright corner at the top left; what is stored is 30 x 40."""
    dataset = coco_folder(write_set(tmp_path, [annotation(1, [0, 0, 10, 8])]))
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:8, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    lay = {5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}[orientation]
    stored = Image.fromarray(pixels).transpose(Image.Transpose[lay])
    assert stored.size == (30, 40)
    stored.save(tmp_path / "images/1.png", exif=exif)
    with pytest.warns(UserWarning, match=r"annotations\.json states sizes of upright images"):
        image, target = dataset[0]
    assert image.shape == (3, 30, 40) and target["boxes"].tolist() == [[0, 0, 10, 8]]
    assert image[:, :8, :10].min() == 1 and image.sum() == 3 * 80


def test_a_picture_on_its_side_without_exif_is_refused(tmp_path):
    dataset = coco_folder(write_set(tmp_path, []))
    Image.new("RGB", (30, 40)).save(tmp_path / "images/1.png")
    with pytest.raises(UserError, match=r"1\.png is 30x40, but the annotations say 40x30$"):
        dataset[0]


def test_real_coco_images(shared):
    folder = shared / "data/coco_tiny"
    if not folder.is_dir():
        pytest.skip("needs shared/data/coco_tiny")
    boxes = crowds = 0
    for split in ("train", "val"):
        dataset = coco_folder(folder, split)
        assert len(dataset) == 80 and len(dataset.categories) == 80 and dataset.problems == []
        targets = [dataset.target(i) for i in range(len(dataset))]
        boxes += sum(len(target["boxes"]) for target in targets)
        crowds += sum(a["iscrowd"] for a in dataset.coco.anns.values())
        image, target = dataset[0]
        assert image.shape == (3, *target["size"]) and 0 <= image.min() and image.max() <= 1
        for target in targets:
            height, width = target["size"]
            x1, y1, x2, y2 = target["boxes"].unbind(1)
            assert ((0 <= x1) & (x1 < x2) & (x2 <= width) & (0 <= y1) & (y1 < y2) & (y2 <= height)).all()
    assert (boxes, crowds) == (1520 - 17, 17)  # counts of shared/data/README.md
    assert isinstance(dataset, CocoDetection)
