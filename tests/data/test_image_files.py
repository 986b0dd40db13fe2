"""Image files are found under the names that tools of other machines give them, and never by a guess."""

import pytest

from dyhead_lab.data.coco import CocoDetection, coco_folder
from dyhead_lab.data.image_files import locate_images
from dyhead_lab.errors import UserError

from .coco_files import coco_dict, write_json, write_set


def with_files(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.jpg", "a.jpg"),
        ("sub/a.jpg", "sub/a.jpg"),
        ("sub\\a.jpg", "sub/a.jpg"),
        ("images\\a.jpg", "a.jpg"),
        ("C:\\data\\images\\a.jpg", "a.jpg"),
        ("images/a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("../../media/upload/1/a.jpg", "a.jpg"),
        ("/data/local-files/?d=images/a.jpg", "a.jpg"),
        ("http://host/images/a.jpg", "a.jpg"),
        ("https://store/images/my%20a.jpg?X-Amz-Date=1&key=x/y.jpg", "my a.jpg"),
        ("gs://bucket/a.jpg#2", "a.jpg"),
        ("#1.jpg", "#1.jpg"),
        ("a.jpg", "sub/a.jpg"),
        ("sub/a.jpg", "more/sub/a.jpg"),
        ("a.JPG", "a.jpg"),
        ("a.jpg", "A.JPG"),
        ("Sub/a.jpg", "sub/a.jpg"),
        ("my%20photo.jpg", "my photo.jpg"),
        ("100%.jpg", "100%.jpg"),
        ("%EC%82%AC%EC%A7%84.jpg", "사진.jpg"),
    ],
)
def test_a_name_finds_its_file(tmp_path, name, file):
    elsewhere, missing = locate_images(with_files(tmp_path, file, "b.jpg"), [name, "b.jpg"])
    assert missing == {} and (elsewhere.get(name, tmp_path / name)).samefile(tmp_path / file)
    assert "b.jpg" not in elsewhere


@pytest.mark.parametrize(
    ("files", "names", "why"),
    [
        (["x/a.jpg", "y/a.jpg"], ["a.jpg"], "may be x/a.jpg or y/a.jpg"),
        (["a.jpg"], ["x/a.jpg", "y/a.jpg"], "may be a.jpg, but so may another name"),
        (["a.jpg"], ["a.jpg", "y/a.jpg"], "may be a.jpg, but so may another name"),
        (["A.jpg", "a.JPG"], ["a.jpg"], "may be A.jpg or a.JPG"),
        (["x/a.jpg"], ["y/a.jpg"], "the nearest is x/a.jpg"),
        (["a.png", "ab.jpg"], ["a.jpg"], "the nearest is a.png"),
        (["frame_001.jpg"], ["frame_01.jpg"], "the nearest is frame_001.jpg"),
        (["frame_001.jpg"], ["zebra.png"], "nothing there has a name like it"),
        (["a.jpg"], ["x/"], "nothing there has a name like it"),
        ([], ["a" * 5000], "nothing there has a name like it"),
    ],
)
def test_a_name_that_may_mean_another_file_finds_none(tmp_path, files, names, why):
    elsewhere, missing = locate_images(with_files(tmp_path, *files), names)
    assert elsewhere == {} and why in missing[names[-1]]


def test_more_of_the_path_and_the_right_case_decide(tmp_path):
    with_files(tmp_path, "x/a.jpg", "y/a.jpg", "b.jpg", "B.jpg")
    elsewhere, missing = locate_images(tmp_path, ["data/x/a.jpg", "data/b.jpg"])
    assert missing == {} and elsewhere == {"data/x/a.jpg": tmp_path / "x/a.jpg", "data/b.jpg": tmp_path / "b.jpg"}


def test_a_data_set_reads_what_was_found(tmp_path):
    write_set(tmp_path, [], images=2)
    content = coco_dict([], images=2)
    content["images"][0]["file_name"] = "images\\1.PNG"
    write_json(tmp_path / "annotations.json", content)
    with pytest.warns(UserWarning, match=r"1 image file\(s\) lie under another name, such as .*1\.PNG'"):
        dataset = coco_folder(tmp_path)
    assert dataset.image_path(0) == tmp_path / "images/1.png" and dataset[0][0].shape == (3, 30, 40)
    assert dataset.image_path(1) == tmp_path / "images/2.png"


def test_a_folder_without_some_of_its_images_is_refused_at_once(tmp_path):
    write_set(tmp_path, [], images=3)
    (tmp_path / "images/2.png").rename(tmp_path / "images/2.jpg")
    with pytest.raises(UserError, match=r"1 of 3 images are missing: .* names '2\.png'.*the nearest is 2\.jpg"):
        coco_folder(tmp_path)


def test_ground_truth_alone_needs_no_images_until_one_is_read(tmp_path):
    write_json(tmp_path / "a.json", coco_dict([]))
    dataset = CocoDetection(tmp_path / "nowhere", tmp_path / "a.json")
    assert dataset.target(0)["boxes"].shape == (0, 4)
    with pytest.raises(UserError, match=r"names '1\.png', which is not in .*nowhere"):
        dataset[0]
