"""Everyday: photographs and boxes of COCO, shrunk alike, with 80 and with 12 classes."""

import json

import numpy as np
import pytest
from PIL import Image

from dyhead_lab.data import everyday
from dyhead_lab.data.coco import CocoDetection
from dyhead_lab.data.everyday import CLASSES_12, CLASSES_80, IDS, build_everyday
from dyhead_lab.errors import UserError
from dyhead_lab.zoo.datasets import everyday as open_everyday

CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 2, "name": "bicycle", "supercategory": "vehicle"},
    {"id": 17, "name": "cat", "supercategory": "animal"},
    {"id": 18, "name": "dog", "supercategory": "animal"},
]


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """A COCO of three pictures of 640 x 400 in its own layout; Everyday wants one of each split."""
    monkeypatch.setattr(everyday, "IDS", {"train": [7], "val": [9]})
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    for split, ids in (("train2017", [7, 8]), ("val2017", [9])):
        (folder / split).mkdir()
        for id in ids:
            pixels = np.full((400, 640, 3), 10 * id, np.uint8)
            Image.fromarray(pixels).save(folder / split / f"{id:012}.jpg")
        boxes = [
            {"id": n, "image_id": id, "category_id": category, "bbox": [64, 40, 320, 200], "area": 1000, "iscrowd": 0}
            for n, (id, category) in enumerate(((id, c["id"]) for id in ids for c in CATEGORIES), 1)
        ]
        images = [{"id": id, "file_name": f"{id:012}.jpg", "width": 640, "height": 400, "license": 4} for id in ids]
        truth = {"images": images, "annotations": boxes, "categories": CATEGORIES}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(truth), encoding="utf-8")
    return folder


def test_pictures_and_boxes_shrink_alike(coco, tmp_path):
    assert build_everyday(coco, tmp_path / "out") == {"train": 1, "val": 1}
    split = tmp_path / "out" / "train"
    data = CocoDetection(split / "images", split / CLASSES_80)
    image, target = data[0]
    assert data.image_ids == [7] and tuple(image.shape) == (3, 320, 512)
    assert image.mean().item() == pytest.approx(70 / 255, abs=0.01)  # what JPEG keeps of a plain picture
    # 512 / 640 = 0.8 of x 64, y 40, w 320, h 200
    assert target["boxes"][0].tolist() == pytest.approx([51.2, 32.0, 307.2, 192.0])
    assert target["area"][0].item() == pytest.approx(640.0)
    assert data.coco.imgs[7]["license"] == 4


def test_supercategories_are_numbered_as_they_appear(coco, tmp_path):
    build_everyday(coco, tmp_path / "out")
    split = tmp_path / "out" / "val"
    coarse = CocoDetection(split / "images", split / CLASSES_12)
    assert coarse.categories == ["person", "vehicle", "animal"]
    assert coarse.target(0)["labels"].tolist() == [0, 1, 2, 2]
    assert CocoDetection(split / "images", split / CLASSES_80).categories == ["person", "bicycle", "cat", "dog"]


def test_pictures_that_are_there_are_kept(coco, tmp_path):
    build_everyday(coco, tmp_path / "out")
    picture = tmp_path / "out" / "train" / "images" / "000000000007.jpg"
    written = picture.stat().st_mtime_ns
    build_everyday(coco, tmp_path / "out")
    assert picture.stat().st_mtime_ns == written


def test_what_is_missing_is_named(coco, tmp_path):
    (coco / "val2017" / "000000000009.jpg").unlink()
    with pytest.raises(UserError, match=r"lacks 1 of the 2 pictures, such as 9; both train2017 and val2017"):
        build_everyday(coco, tmp_path / "out")
    with pytest.raises(UserError, match="holds no COCO data set"):
        build_everyday(tmp_path / "out", tmp_path / "out2")


def test_a_broken_picture_is_named(coco, tmp_path):
    picture = coco / "val2017" / "000000000009.jpg"
    for content in (b"", b"no image", picture.read_bytes()[:500]):
        picture.write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read image .*000000000009\.jpg"):
            build_everyday(coco, tmp_path / "out")


def test_a_set_that_lacks_a_picture_is_refused_when_it_is_opened(coco, tmp_path):
    build_everyday(coco, tmp_path / "out")
    (tmp_path / "out/val/images/000000000009.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 1 images are missing: .*000000000009\.jpg"):
        open_everyday("val", tmp_path / "out")


def test_the_shipped_ids_are_those_of_the_set():
    assert {split: len(ids) for split, ids in IDS.items()} == {"train": 1578, "val": 236}
    assert len({id for ids in IDS.values() for id in ids}) == 1578 + 236, "a picture stands in both splits"


def test_the_real_set_has_these_ids_and_twelve_classes(shared):
    for split, ids in IDS.items():
        truth = json.loads((shared / "data" / "coco_everyday" / split / CLASSES_12).read_text(encoding="utf-8"))
        assert sorted(image["id"] for image in truth["images"]) == ids
        assert len(truth["categories"]) == 12
