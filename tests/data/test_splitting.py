"""A data set of one split becomes two, with every image and annotation in exactly one of them."""

import pytest

from dyhead_lab.cli import main
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.splitting import split_folder
from dyhead_lab.errors import UserError

from .coco_files import annotation, coco_dict, write_json, write_pictures, write_set

TRIANGLE = [[4, 6, 14, 6, 14, 14]]


def write_ten(folder):
    """Ten images with an annotation each, whose box begins at the image's number."""
    objects = [annotation(i, [i, 2, 10, 8], image_id=i, segmentation=TRIANGLE) for i in range(1, 11)]
    return write_set(folder, objects, images=10)


@pytest.mark.parametrize(("val", "images"), [(0.2, 2), (0.5, 5), (0.01, 1), (0.99, 9)])
def test_every_image_goes_to_one_split_with_its_objects(tmp_path, val, images):
    report = split_folder(write_ten(tmp_path / "all"), tmp_path / "out", val)
    assert report["val"].images == report["val"].objects == images
    seen = []
    for split in ("train", "val"):
        dataset = coco_folder(tmp_path / "out", split, masks=True)
        assert dataset.categories == ["dog", "cat"] and len(dataset) == report[split].images
        for picture, target in (dataset[i] for i in range(len(dataset))):
            number = target["image_id"]
            assert target["boxes"].tolist() == [[number, 2, number + 10, 10]] and len(target["masks"]) == 1
            assert (picture * 255).round().unique().tolist() == [10 * number]
            seen.append(number)
    assert sorted(seen) == list(range(1, 11))


def test_the_choice_is_that_of_a_fixed_part_of_the_data(tmp_path):
    """`printf 9 | sha256sum` begins with 19581e, 8 with 2c6242, 10 with 4a44dc; all others begin higher."""
    split_folder(write_ten(tmp_path / "all"), tmp_path / "out", 0.3)
    assert coco_folder(tmp_path / "out", "val").image_ids == [8, 9, 10]


def test_files_under_other_names_are_written_under_their_own(tmp_path):
    content = coco_dict([], images=2)
    for image in content["images"]:
        image["file_name"] = f"upload\\{image['file_name'].upper()}"
    write_json(tmp_path / "all/result.json", content)
    write_pictures(tmp_path / "all/images", 2)
    split_folder(tmp_path / "all", tmp_path / "out", 0.5)
    for split in ("train", "val"):
        dataset = coco_folder(tmp_path / "out", split)
        assert dataset.image_path(0).name == f"{dataset.image_ids[0]}.png" and dataset[0][0].shape == (3, 30, 40)


@pytest.mark.parametrize("val", [0, 1, -0.1, 2, float("nan")])
def test_impossible_shares_are_refused(tmp_path, val):
    with pytest.raises(UserError, match="expected a share between 0 and 1"):
        split_folder(write_ten(tmp_path / "all"), tmp_path / "out", val)


def test_what_cannot_be_parted_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has 1 image\(s\)"):
        split_folder(write_set(tmp_path / "one", []), tmp_path / "out")
    write_set(tmp_path / "two/train", [])
    write_set(tmp_path / "two/val", [])
    with pytest.raises(UserError, match="several splits"):
        split_folder(tmp_path / "two", tmp_path / "out")


def test_the_originals_are_never_written_over(tmp_path):
    write_ten(tmp_path / "train")
    before = (tmp_path / "train/annotations.json").read_bytes()
    with pytest.raises(UserError, match="write to another folder"):
        split_folder(tmp_path, tmp_path)
    assert (tmp_path / "train/annotations.json").read_bytes() == before


def test_a_missing_split_names_the_command_that_makes_it(tmp_path, capsys):
    write_ten(tmp_path / "all")
    with pytest.raises(UserError, match=f"dyhead-lab data split --data {tmp_path / 'all'} --out DIR"):
        coco_folder(tmp_path / "all", "train")
    assert main(["data", "split", "--data", str(tmp_path / "all"), "--out", str(tmp_path / "out")]) == 0
    assert f"{tmp_path / 'out/val'}: 2 images, 2 objects" in capsys.readouterr().out
    assert len(coco_folder(tmp_path / "out", "train")) == 8
