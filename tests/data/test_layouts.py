"""The layouts of folders that tools write: every one is found, and what is not found is told."""

import pytest

from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.layouts import find_splits, usual_name
from dyhead_lab.errors import UserError

from .coco_files import annotation, coco_dict, write_json, write_pictures, write_set


def lay_out(folder, files):
    """``files``: annotation file -> its folder of images, both relative to ``folder``."""
    for annotations, images in files.items():
        write_json(folder / annotations, coco_dict([annotation(1, [1, 2, 10, 8])]))
        if not (folder / images / "1.png").exists():
            write_pictures(folder / images, 1)
    return folder


ROBOFLOW = {f"{split}/_annotations.coco.json": split for split in ("train", "valid", "test")}
FLAT = {"train.json": "images", "val.json": "images"}


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        ({"annotations.json": "images"}, {""}),
        ({"annotations.json": "JPEGImages"}, {""}),
        ({"a/annotations.json": "a/images", "b/annotations.json": "b/JPEGImages"}, {"a", "b"}),
        (ROBOFLOW, {"train", "valid", "test"}),
        ({"_annotations.coco.json": "."}, {""}),
        ({"annotations/instances_default.json": "images"}, {"default"}),
        ({"annotations/instances_default.json": "images/default"}, {"default"}),
        (
            {f"annotations/instances_{split}.json": "images" for split in ("Train", "Validation")},
            {"Train", "Validation"},
        ),
        ({"result.json": "images"}, {""}),
        ({"labels.json": "data"}, {""}),
        ({"train/labels.json": "train/data", "validation/labels.json": "validation/data"}, {"train", "validation"}),
        ({"annotations/train.json": "train", "annotations/val.json": "val"}, {"train", "val"}),
        ({"annotations/train.json": "images", "annotations/val.json": "images"}, {"train", "val"}),
        ({"train.json": "train", "val.json": "val"}, {"train", "val"}),
        (FLAT, {"train", "val"}),
        ({"coco_labels_v3.json": "my pictures"}, {""}),
        ({"coco_labels_v3.json": "."}, {""}),
        ({"annotations/all.json": "frames"}, {""}),
    ],
)
def test_every_layout_is_found_with_its_images(tmp_path, files, splits):
    lay_out(tmp_path, files)
    assert set(find_splits(tmp_path)) == splits
    for split in splits:
        assert coco_folder(tmp_path, split)[0][0].shape == (3, 30, 40)


@pytest.mark.parametrize(
    ("split", "usual"),
    [
        ("valid", "val"),
        ("validation", "val"),
        ("Validation", "val"),
        ("val2017", "val"),
        ("val_2017", "val"),
        ("training", "train"),
        ("test-2", "test"),
        ("default", "default"),
        ("2017", "2017"),
    ],
)
def test_splits_are_known_by_their_usual_names(split, usual):
    assert usual_name(split) == usual


def test_roboflows_valid_is_val(tmp_path):
    lay_out(tmp_path, ROBOFLOW)
    assert coco_folder(tmp_path, "val").annotations == tmp_path / "valid/_annotations.coco.json"


def test_other_json_files_are_no_splits(tmp_path):
    lay_out(tmp_path, FLAT)
    for name in ("meta.json", "captions_val.json", "._train.json"):
        write_json(tmp_path / name, {})
    assert set(find_splits(tmp_path)) == {"train", "val"}


def test_a_folder_of_all_images_does_not_stand_for_a_split_that_was_not_downloaded(tmp_path):
    lay_out(tmp_path, {"annotations/instances_val2017.json": "images/val2017"})
    write_json(tmp_path / "annotations/instances_train2017.json", coco_dict([]))
    assert set(find_splits(tmp_path)) == {"val2017"}
    with pytest.raises(UserError, match=r"no split 'train'"):
        coco_folder(tmp_path, "train")


def test_annotations_whose_images_are_not_there_are_named(tmp_path):
    write_json(tmp_path / "annotations/instances_train2017.json", coco_dict([]))
    with pytest.raises(UserError, match=r"train2017\.json is there, but no folder .*/train2017 or .*/images/train2017"):
        coco_folder(tmp_path, "train")


def coco_layout(folder, *names, under="."):
    return lay_out(folder, {f"annotations/instances_{name}.json": f"{under}/{name}" for name in names})


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
    with pytest.raises(UserError, match=r"looked for\n  annotations\.json with images/"):
        coco_folder(tmp_path)
    with pytest.raises(UserError, match=r"not found: .*nowhere"):
        coco_folder(tmp_path / "nowhere")


def test_a_folder_without_data_says_what_is_there(tmp_path):
    (tmp_path / "pictures").mkdir()
    write_json(tmp_path / "notes.json", {})
    with pytest.raises(UserError, match=r"\(Label Studio\)(.|\n)*found notes\.json, pictures/$"):
        coco_folder(tmp_path)


@pytest.mark.parametrize(
    ("file", "advice"),
    [
        ("ImageSets/Main/train.txt", "data voc --voc"),
        ("Annotations/1.xml", "data voc --voc"),
        ("data.yaml", "data yolo --yolo"),
        ("train/labels/1.txt", "data yolo --yolo"),
    ],
)
def test_data_of_another_format_are_told_with_the_command_that_converts_them(tmp_path, file, advice):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    with pytest.raises(UserError, match=f"dyhead-lab {advice} {tmp_path} --out"):
        coco_folder(tmp_path, "train")


def test_a_folder_that_holds_the_data_set_in_another_one_names_it(tmp_path):
    lay_out(tmp_path / "unpacked", FLAT)
    with pytest.raises(UserError, match=f"Give the folder {tmp_path / 'unpacked'} instead"):
        coco_folder(tmp_path, "train")
