"""The COCO data set: targets, images, and the layouts of folders that it is found in."""

import pytest
import torch
from PIL import Image

from dyhead_lab.data.coco import CocoDetection, coco_folder, find_splits
from dyhead_lab.errors import UserError

from .coco_files import annotation, coco_dict, write_json, write_pictures, write_set


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


def test_an_annotation_without_a_segmentation_is_named_where_masks_are_wanted(tmp_path):
    dataset = coco_folder(write_set(tmp_path, [annotation(8, [1, 2, 10, 8])]), masks=True)
    with pytest.raises(UserError, match="annotation 8 has no segmentation"):
        dataset[0]


def test_one_warning_sums_up_the_problems(tmp_path):
    write_set(tmp_path, [annotation(4, [1, 2, 0, 8]), annotation(6, [1, 2, 5, 8], category_id=1)])
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
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn by 90 degrees
    Image.new("RGB", (30, 40)).save(tmp_path / "images/1.png", exif=exif)
    with pytest.raises(UserError, match="EXIF"):
        dataset[0]


def coco_layout(folder, *names, under="."):
    for name in names:
        write_json(folder / f"annotations/instances_{name}.json", coco_dict([]))
        write_pictures(folder / under / name, 1)
    return folder


@pytest.mark.parametrize("under", [".", "images"])
def test_coco_layout(tmp_path, under):
    coco_layout(tmp_path, "train2017", "val2017", under=under)
    assert set(find_splits(tmp_path)) == {"train2017", "val2017"}
    assert coco_folder(tmp_path, "val").annotations.name == "instances_val2017.json"
    assert coco_folder(tmp_path, "val2017")[0][0].shape == (3, 30, 40)


def test_split_folders(tmp_path):
    for name in ("train", "val", "test"):
        write_set(tmp_path / name, [])
    assert set(find_splits(tmp_path)) == {"train", "val", "test"}
    assert coco_folder(tmp_path, "val").annotations == tmp_path / "val/annotations.json"


def test_an_exact_name_goes_before_one_with_a_year(tmp_path):
    coco_layout(write_set(tmp_path / "val", []).parent, "val2017")
    assert coco_folder(tmp_path, "val").annotations == tmp_path / "val/annotations.json"


def test_ambiguous_and_missing_splits_say_what_there_is(tmp_path):
    coco_layout(tmp_path, "val2014", "val2017")
    with pytest.raises(UserError, match=r"several splits that fit, 'val2014', 'val2017'"):
        coco_folder(tmp_path, "val")
    with pytest.raises(UserError, match="several splits"):
        coco_folder(tmp_path)
    with pytest.raises(UserError, match=r"no split 'train'; looked for train/annotations\.json.*it has 'val2014'"):
        coco_folder(tmp_path, "train")


def test_a_single_set_has_no_named_splits(tmp_path):
    write_set(tmp_path, [])
    assert len(coco_folder(tmp_path)) == 1
    with pytest.raises(UserError, match=r"no split 'val'.*one without a name"):
        coco_folder(tmp_path, "val")


def test_folders_without_data_say_what_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"looked for annotations\.json"):
        coco_folder(tmp_path)
    with pytest.raises(UserError, match=r"not found: .*nowhere"):
        coco_folder(tmp_path / "nowhere")


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
