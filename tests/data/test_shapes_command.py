"""``dyhead-lab data shapes`` writes a set that the data room opens."""

from dyhead_lab.cli import main
from dyhead_lab.data.coco import coco_folder


def test_the_command_writes_a_set(tmp_path, capsys):
    arguments = ["--images", "3", "--out", str(tmp_path / "s"), "--size", "64", "--seed", "5"]
    assert main(["data", "shapes", *arguments]) == 0
    dataset = coco_folder(tmp_path / "s")
    assert len(dataset) == 3 and dataset[0][0].shape == (3, 64, 64) and dataset.problems == []
    assert "3 images" in capsys.readouterr().out
