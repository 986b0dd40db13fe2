"""Pascal VOC folders become COCO folders, with boxes on the same pixels."""

import json

import numpy as np
import pytest
from PIL import Image

from dyhead_lab.cli import main
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.voc import convert_voc
from dyhead_lab.errors import UserError

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
    "<ymax>{}</ymax></bndbox></object>"
)


def write_voc(folder, splits):
    """``splits``: split -> image name -> objects (name, difficult, xmin, ymin, xmax, ymax). Images are 40 x 30."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for split, images in splits.items():
        (folder / f"ImageSets/Main/{split}.txt").write_text(
            "".join(f"{name} 1\n" for name in images) + "\n", encoding="utf-8"
        )
        for name, objects in images.items():
            Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(folder / f"JPEGImages/{name}.jpg")
            body = "".join(OBJECT.format(*item) for item in objects)
            (folder / f"Annotations/{name}.xml").write_text(f"<annotation>{body}</annotation>", encoding="utf-8")
    return folder


def test_boxes_cover_the_same_pixels(tmp_path):
    voc = write_voc(tmp_path / "voc", {"train": {"a": [("dog", 0, 1, 1, 40, 30), ("cat", 0, 3, 5, 4, 8)]}})
    report = convert_voc(voc, tmp_path / "out")
    assert (report["train"].images, report["train"].objects, report["train"].dropped) == (1, 2, [])
    dataset = coco_folder(tmp_path / "out", "train")
    image, target = dataset[0]
    assert image.shape == (3, 30, 40)
    # Pixels 1..40 x 1..30 counted from 1 are the whole image; 3..4 x 5..8 are two columns of four pixels.
    assert target["boxes"].tolist() == [[0, 0, 40, 30], [2, 4, 4, 8]]
    assert target["area"].tolist() == [1200, 8]
    assert [dataset.categories[label] for label in target["labels"]] == ["dog", "cat"]


def test_splits_share_their_categories(tmp_path):
    box = (1, 1, 9, 9)
    splits = {"train": {"a": [("dog", 0, *box)]}, "val": {"b": [("cat", 0, *box)], "c": []}}
    convert_voc(write_voc(tmp_path / "voc", splits), tmp_path / "out")
    train, val = coco_folder(tmp_path / "out", "train"), coco_folder(tmp_path / "out", "val")
    assert train.categories == val.categories == ["cat", "dog"]
    assert train.category_ids == val.category_ids == [1, 2]
    assert len(val) == 2 and not (tmp_path / "out/test").exists()


def test_difficult_objects_are_ignored_by_the_metric(tmp_path):
    voc = write_voc(tmp_path / "voc", {"val": {"a": [("dog", 1, 1, 1, 9, 9), ("dog", 0, 1, 1, 5, 5)]}})
    convert_voc(voc, tmp_path / "out")
    dataset = coco_folder(tmp_path / "out", "val")
    assert dataset.coco.anns[1]["iscrowd"] == 1 and dataset.target(0)["boxes"].tolist() == [[0, 0, 5, 5]]


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (5, 9, 7, 9), (9, 5, 5, 7)])
def test_boxes_without_area_are_dropped_and_named(tmp_path, box):
    voc = write_voc(tmp_path / "voc", {"val": {"a": [("dog", 0, *box), ("dog", 0, 1, 1, 9, 9)]}})
    report = convert_voc(voc, tmp_path / "out")
    assert report["val"].objects == 1
    assert len(report["val"].dropped) == 1 and report["val"].dropped[0].startswith("a: dog")


def test_a_split_without_images_is_written(tmp_path):
    voc = write_voc(tmp_path / "voc", {"train": {"a": [("dog", 0, 1, 1, 9, 9)]}, "val": {}})
    assert convert_voc(voc, tmp_path / "out")["val"].images == 0
    assert len(coco_folder(tmp_path / "out", "val")) == 0


def test_converting_twice_gives_the_same(tmp_path):
    voc = write_voc(tmp_path / "voc", {"val": {"a": [("dog", 0, 1, 1, 9, 9)]}})
    convert_voc(voc, tmp_path / "out")
    first = (tmp_path / "out/val/annotations.json").read_text(encoding="utf-8")
    convert_voc(voc, tmp_path / "out")
    assert (tmp_path / "out/val/annotations.json").read_text(encoding="utf-8") == first
    assert coco_folder(tmp_path / "out", "val")[0][0].shape == (3, 30, 40)


def test_a_folder_one_level_too_high_is_told_from_where(tmp_path):
    voc = write_voc(tmp_path / "VOCdevkit/VOC2007", {"val": {"a": []}})
    with pytest.raises(UserError, match=rf"VOCdevkit is no VOC folder: .*\. Give {voc} instead"):
        convert_voc(tmp_path / "VOCdevkit", tmp_path / "out")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_of_windows_editors_are_read(tmp_path, encoding):
    voc = write_voc(tmp_path / "voc", {"val": {"é": [("dog", 0, 1, 1, 9, 9)]}})
    (voc / "ImageSets/Main/val.txt").write_text("é 1\n", encoding=encoding)
    assert convert_voc(voc, tmp_path / "out")["val"].objects == 1


def test_a_list_in_another_encoding_is_named(tmp_path):
    voc = write_voc(tmp_path / "voc", {"val": {"a": []}})
    (voc / "ImageSets/Main/val.txt").write_text("é\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"cannot read .*val\.txt: not encoded as UTF-8 or UTF-16"):
        convert_voc(voc, tmp_path / "out")


@pytest.mark.parametrize("suffix", [".bmp", ".JPG", ".webp", ".TIF"])
def test_pictures_of_every_usual_kind_are_found(tmp_path, suffix):
    voc = write_voc(tmp_path / "voc", {"val": {"a": []}})
    picture = voc / "JPEGImages/a.jpg"
    Image.open(picture).save(voc / f"JPEGImages/a{suffix}")
    picture.unlink()
    convert_voc(voc, tmp_path / "out")
    assert coco_folder(tmp_path / "out", "val")[0][0].shape == (3, 30, 40)


def test_what_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(UserError, match="ImageSets/Main"):
        convert_voc(tmp_path, tmp_path / "out")
    voc = write_voc(tmp_path / "voc", {"val": {"a": [("dog", 0, 1, 1, 9, 9)]}})
    xml, jpg = voc / "Annotations/a.xml", voc / "JPEGImages/a.jpg"
    whole, picture = xml.read_text(encoding="utf-8"), jpg.read_bytes()
    for text, message in [
        (whole[:40], r"a\.xml"),
        (whole.replace("<xmin>1</xmin>", ""), r"a\.xml.*bndbox/xmin"),
        (whole.replace("<xmin>1<", "<xmin>one<"), r"a\.xml.*one"),
        (whole.replace("<xmax>9<", "<xmax>inf<"), r"a\.xml.*bndbox/xmax is inf"),
        (whole.replace("<xmax>9<", "<xmax>nan<"), r"a\.xml.*bndbox/xmax is nan"),
    ]:
        xml.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            convert_voc(voc, tmp_path / "out")
    xml.unlink()
    with pytest.raises(UserError, match=r"not found: .*a\.xml"):
        convert_voc(voc, tmp_path / "out")
    xml.write_text(whole, encoding="utf-8")
    jpg.write_bytes(picture[:10])
    with pytest.raises(UserError, match=r"a\.jpg"):
        convert_voc(voc, tmp_path / "out")
    jpg.unlink()
    with pytest.raises(UserError, match=r"not found: .*a\.jpg"):
        convert_voc(voc, tmp_path / "out")


def test_the_command_on_blood_cells(shared, tmp_path, capsys):
    voc = shared / "data/bccd/BCCD"
    if not voc.is_dir():
        pytest.skip("needs shared/data/bccd")
    assert main(["data", "voc", "--voc", str(voc), "--out", str(tmp_path / "bccd")]) == 0
    printed = capsys.readouterr().out
    assert "BloodImage_00343" in printed and "BloodImage_00338" in printed
    sizes = {}
    for split in ("train", "val", "test"):
        dataset = coco_folder(tmp_path / "bccd", split)
        sizes[split] = len(dataset)
        assert dataset.problems == [] and dataset.categories == ["Platelets", "RBC", "WBC"]
        boxes = json.loads(dataset.annotations.read_text(encoding="utf-8"))["annotations"]
        assert all(x >= 0 and y >= 0 and x + w <= 640 and y + h <= 480 for x, y, w, h in (b["bbox"] for b in boxes))
    assert sizes == {"train": 205, "val": 87, "test": 72}  # counts of shared/data/README.md
    assert dataset[0][0].shape == (3, 480, 640)


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    assert main(["data", "voc", "--voc", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert str(tmp_path) in capsys.readouterr().err
