"""YOLO folders become COCO folders, whichever tool has laid them out."""

import json

import pytest
import torch
import yaml
from PIL import Image

from dyhead_lab.cli import main
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.yolo import convert_yolo, label_file
from dyhead_lab.errors import UserError

WIDTH, HEIGHT = 40, 30
NAMES = ["cat", "dog"]


def write_pair(image, lines, size=(WIDTH, HEIGHT), **options):
    """A grey picture and its label file; None for lines leaves out the file."""
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 90, 90)).save(image, **options)
    if lines is not None:
        labels = label_file(image)
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return image


def write_yolo(folder, lines, images="images/train", **content):
    """A folder with one picture for training and one, without labels, for validation."""
    write_pair(folder / images / "a.jpg", lines)
    write_pair(folder / "images/val/b.jpg", [])
    content = {"names": NAMES, "train": images, "val": "images/val"} | content
    (folder / "data.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def test_boxes_cover_the_same_pixels(tmp_path):
    write_yolo(tmp_path / "yolo", ["1 0.5 0.5 1 1", "0 0.25 0.5 0.1 0.2"])
    report = convert_yolo(tmp_path / "yolo", tmp_path / "out")
    assert (report["train"].images, report["train"].objects, report["train"].dropped) == (1, 2, [])
    dataset = coco_folder(tmp_path / "out", "train")
    image, target = dataset[0]
    assert image.shape == (3, HEIGHT, WIDTH) and dataset.problems == []
    # 0.25 of 40 is 10, a tenth of it 4; half of 30 is 15, a fifth of it 6.
    torch.testing.assert_close(target["boxes"], torch.tensor([[0.0, 0, 40, 30], [8, 12, 12, 18]]))
    assert [dataset.categories[label] for label in target["labels"]] == ["dog", "cat"]
    assert len(coco_folder(tmp_path / "out", "val").target(0)["boxes"]) == 0


def test_outlines_become_masks_and_boxes(tmp_path):
    write_yolo(tmp_path / "yolo", ["0 0.1 0.2 0.6 0.2 0.6 0.8", "0 0 0 1 0 1 1 0 1"])
    convert_yolo(tmp_path / "yolo", tmp_path / "out")
    target = coco_folder(tmp_path / "out", "train", masks=True).target(0)
    assert target["boxes"].tolist() == [[4, 6, 24, 24], [0, 0, 40, 30]]
    assert target["masks"][1].all() and 0 < target["masks"][0].sum() < 20 * 18


def roboflow(folder):
    for split in ("train", "valid", "test"):
        write_pair(folder / f"{split}/images/a.jpg", ["1 0.5 0.5 0.5 0.5"])
    places = {key: f"../{split}/images" for key, split in (("train", "train"), ("val", "valid"), ("test", "test"))}
    (folder / "data.yaml").write_text(yaml.safe_dump({**places, "nc": 2, "names": NAMES}), encoding="utf-8")
    return {"train", "val", "test"}


def ultralytics(folder):
    for split in ("train2017", "val2017"):
        write_pair(folder / f"images/{split}/a.jpg", ["1 0.5 0.5 0.5 0.5"])
    content = {"path": "../datasets/coco", "train": "images/train2017", "val": "images/val2017", "test": None}
    (folder / "coco.yaml").write_text(yaml.safe_dump({**content, "names": dict(enumerate(NAMES))}), encoding="utf-8")
    return {"train", "val"}


def lists_of_files(folder):
    for split in ("train", "val"):
        write_pair(folder / f"images/{split}.jpg", ["1 0.5 0.5 0.5 0.5"])
        (folder / f"{split}.txt").write_text(f"./images/{split}.jpg\n\n", encoding="utf-8")
    (folder / "data.yml").write_text(
        yaml.safe_dump({"train": "train.txt", "val": ["val.txt"], "names": NAMES}), encoding="utf-8"
    )
    return {"train", "val"}


def without_its_test_split(folder):
    ultralytics(folder)
    content = {"train": "images/train2017", "test": "../test/images", "names": NAMES}
    (folder / "coco.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return {"train"}


def label_studio(folder):
    write_pair(folder / "images/a.jpg", ["1 0.5 0.5 0.5 0.5"])
    (folder / "classes.txt").write_text("cat\ndog\n", encoding="utf-8")
    return {""}


def darknet(folder):
    for split in ("train", "valid"):
        write_pair(folder / f"{split}/a.jpg", ["1 0.5 0.5 0.5 0.5"])
        (folder / f"{split}/_darknet.labels").write_text("cat\ndog\n", encoding="utf-8")
    return {"train", "val"}


LAYOUTS = [roboflow, ultralytics, lists_of_files, without_its_test_split, label_studio, darknet]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read(tmp_path, layout):
    splits = layout(tmp_path / "yolo")
    assert set(convert_yolo(tmp_path / "yolo", tmp_path / "out")) == splits
    for split in splits:
        dataset = coco_folder(tmp_path / "out", split)
        image, target = dataset[0]
        assert image.shape == (3, HEIGHT, WIDTH) and dataset.categories == NAMES
        assert target["boxes"].tolist() == [[10, 7.5, 30, 22.5]] and target["labels"].tolist() == [1]


def test_labels_beside_an_image_count_before_those_in_another_folder(tmp_path):
    image = tmp_path / "images/set/images.v2/a.jpg"
    assert label_file(image) == tmp_path / "labels/set/images.v2/a.txt"
    image.parent.mkdir(parents=True)
    image.with_suffix(".txt").touch()
    assert label_file(image) == image.with_suffix(".txt")


def test_images_of_one_name_in_several_folders_stay_apart(tmp_path):
    for part in ("a", "b"):
        write_pair(tmp_path / f"yolo/images/{part}/1.jpg", ["0 0.5 0.5 0.5 0.5"])
    (tmp_path / "yolo/classes.txt").write_text("cat", encoding="utf-8")
    convert_yolo(tmp_path / "yolo", tmp_path / "out")
    dataset = coco_folder(tmp_path / "out")
    assert [dataset.image_path(i).relative_to(tmp_path / "out").as_posix() for i in (0, 1)] == [
        "images/a/1.jpg",
        "images/b/1.jpg",
    ]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_refer_to_the_upright_image(tmp_path, orientation):
    """A bright corner of the upright picture is stored wherever EXIF has it, and the box must lie on it."""
    upright = Image.new("L", (WIDTH, HEIGHT), 0)
    upright.paste(255, (0, 0, 10, 10))
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(turn[orientation]) if orientation in turn else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write_pair(tmp_path / "yolo/images/a.png", [f"0 0.125 {5 / 30} 0.25 {10 / 30}"])
    stored.save(path, exif=exif)
    (tmp_path / "yolo/classes.txt").write_text("corner", encoding="utf-8")
    convert_yolo(tmp_path / "yolo", tmp_path / "out")
    image, target = coco_folder(tmp_path / "out")[0]
    assert image.shape == (3, HEIGHT, WIDTH)
    (x1, y1, x2, y2) = target["boxes"][0].round().int().tolist()
    assert (x1, y1, x2, y2) == (0, 0, 10, 10) and image[:, y1:y2, x1:x2].min() == 1 and image.mean() < 0.1
    assert Image.open(path).getexif()[0x0112] == orientation  # the original is as it was


def test_lines_that_say_nothing_new_are_dropped_and_named(tmp_path):
    lines = ["0 0.5 0.5 0.5 0.5", "0 0.5 0.5 0.5 0.5", "", "1 0.5 0.5 0 0.5", "1 0.5 0.5 0.5 0.5"]
    report = convert_yolo(write_yolo(tmp_path / "yolo", lines), tmp_path / "out")
    assert report["train"].objects == 2
    twice, empty = report["train"].dropped
    assert "a.txt, line 2: cat is there twice" in twice and "a.txt, line 4: dog has no area" in empty


def test_shares_that_were_rounded_out_of_the_image_are_clipped(tmp_path):
    convert_yolo(write_yolo(tmp_path / "yolo", ["0 0.5 0.5 1.002 1.002"]), tmp_path / "out")
    assert coco_folder(tmp_path / "out", "train").target(0)["boxes"].tolist() == [[0, 0, 40, 30]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.5 0.5", r"a\.txt, line 1: class 2 has no name; those with names are 0, 1"),
        ("-1 0.5 0.5 0.5 0.5", "class -1 has no name"),
        ("cat 0.5 0.5 0.5 0.5", "class cat has no name"),
        ("0 0.5 0.5 0.5", "expected 4 numbers .* got 3"),
        ("0 0.5 0.5 0.5 0.5 0.9", "expected 4 numbers .* got 5"),
        ("0 0.5 0.5 half 0.5", r"a\.txt, line 1: .*half"),
        ("0 20 15 10 10", r"expected shares of the image's sides in \[0, 1\]"),
        ("0 nan 0.5 0.5 0.5", "expected shares"),
    ],
)
def test_a_line_that_is_no_object_is_named(tmp_path, line, message):
    with pytest.raises(UserError, match=message):
        convert_yolo(write_yolo(tmp_path / "yolo", [line]), tmp_path / "out")


@pytest.mark.parametrize("file", ["data.yaml", "train.txt", "labels/train/a.txt"])
def test_files_of_windows_editors_are_read_and_others_named(tmp_path, file):
    yolo = write_yolo(tmp_path / "yolo", ["1 0.5 0.5 1 1"], names=["é", "b"])
    (yolo / "train.txt").write_text("images/train/a.jpg\n", encoding="utf-8")
    with open(yolo / "data.yaml", "a", encoding="utf-8") as yaml_file:
        yaml_file.write("\ntrain: train.txt\n# é\n")
    text = (yolo / file).read_text(encoding="utf-8")
    for encoding in ("utf-8-sig", "utf-16"):
        (yolo / file).write_text(text, encoding=encoding)
        assert convert_yolo(yolo, tmp_path / "out")["train"].objects == 1
    (yolo / file).write_text(text + "# é", encoding="latin-1")
    with pytest.raises(UserError, match=rf"cannot read .*{file}: not encoded as UTF-8 or UTF-16"):
        convert_yolo(yolo, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"names": None}, r"data\.yaml has no 'names'"),
        ({"names": ["cat", "cat"]}, "names' that differ"),
        ({"names": {"a": "cat"}}, "names' that differ"),
        ({"train": "nowhere"}, r"train is not there; looked for .*nowhere"),
        ({"train": None, "val": None}, "names no images"),
    ],
)
def test_a_yaml_file_that_does_not_fit_is_named(tmp_path, content, message):
    write_yolo(tmp_path / "yolo", [], **content)
    with pytest.raises(UserError, match=message):
        convert_yolo(tmp_path / "yolo", tmp_path / "out")


def test_folders_that_are_no_yolo_data_are_named(tmp_path):
    with pytest.raises(UserError, match=r"YOLO folder not found: .*nowhere"):
        convert_yolo(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UserError, match=r"no yaml file, and none of classes\.txt"):
        convert_yolo(tmp_path, tmp_path / "out")
    write_pair(tmp_path / "images/a.jpg", None)
    (tmp_path / "classes.txt").write_text("cat", encoding="utf-8")
    with pytest.raises(UserError, match=r"no label file for any of the 1 images .*looked for .*labels/a\.txt"):
        convert_yolo(tmp_path, tmp_path / "out")
    (tmp_path / "a.yaml").write_text("names: [cat", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot read .*a\.yaml"):
        convert_yolo(tmp_path, tmp_path / "out")
    (tmp_path / "b.yaml").touch()
    with pytest.raises(UserError, match=r"several yaml files, a\.yaml, b\.yaml"):
        convert_yolo(tmp_path, tmp_path / "out")


def test_the_originals_are_never_written_over(tmp_path):
    roboflow(tmp_path)
    before = (tmp_path / "train/images/a.jpg").read_bytes()
    with pytest.raises(UserError, match="write to another folder"):
        convert_yolo(tmp_path, tmp_path)
    assert (tmp_path / "train/images/a.jpg").read_bytes() == before


def test_the_command_says_what_it_wrote_and_converts_again(tmp_path, capsys):
    write_yolo(tmp_path / "yolo", ["0 0.5 0.5 0.5 0.5", "0 0.5 0.5 0.5 0.5"])
    for source in ("yolo", "yolo/data.yaml"):
        assert main(["data", "yolo", "--yolo", str(tmp_path / source), "--out", str(tmp_path / "out")]) == 0
        printed = capsys.readouterr().out
        assert f"{tmp_path / 'out/train'}: 1 images, 1 objects" in printed and "line 2: cat is there twice" in printed
    assert len(json.loads((tmp_path / "out/train/annotations.json").read_text(encoding="utf-8"))["annotations"]) == 1
