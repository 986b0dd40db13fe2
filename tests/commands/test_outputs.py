"""``--out`` that cannot be written is one line in every command (train: tests/training/test_run_folder.py)."""

import pytest
from PIL import Image

from dyhead_lab.cli import main

COMMANDS = {
    "detect": ["detect", "{image}"],
    "data shapes": ["data", "shapes", "--images", "1"],
    "data voc": ["data", "voc", "--voc", "{folder}"],
    "data coco": ["data", "coco", "--url", "http://localhost:1"],
    "experiment": ["experiment", "ablation"],
    "errors": ["errors", "quickstart"],
    "eval": ["eval", "quickstart"],
    "bench": ["bench", "ops"],
    "book": ["book"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_in_the_place_of_a_folder(name, below, tmp_path, capsys):
    image, file = tmp_path / "image.png", tmp_path / "file"
    Image.new("RGB", (8, 8)).save(image)
    file.write_text("x", encoding="utf-8")
    words = [word.format(image=image, folder=tmp_path) for word in COMMANDS[name]]
    assert main([*words, "--out", str(file / below / "out" if name in ("eval", "bench") else file / below)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"dyhead-lab {words[0]}: ") and told.count("\n") == 1
    assert str(file) in told and file.read_text(encoding="utf-8") == "x"
