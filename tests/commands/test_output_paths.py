"""``--out`` that cannot be written is one line in every command (train: tests/training/test_run_folder.py)."""

import os
from pathlib import Path

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
    "compare": ["compare", "{folder}"],
    "book": ["book"],
}
#: Those that write a file -> a name for it.
FILES = {"eval": "out", "bench": "out", "compare": "out.svg"}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_in_the_place_of_a_folder(name, below, tmp_path, capsys):
    image, file = tmp_path / "image.png", tmp_path / "file"
    Image.new("RGB", (8, 8)).save(image)
    file.write_text("x", encoding="utf-8")
    words = [word.format(image=image, folder=tmp_path) for word in COMMANDS[name]]
    assert main([*words, "--out", str(file / below / FILES[name] if name in FILES else file / below)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"dyhead-lab {words[0]}: ") and told.count("\n") == 1
    assert str(file) in told and file.read_text(encoding="utf-8") == "x"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_nobody_can_write_into(name, tmp_path, capsys):
    """/proc takes no files, from root neither."""
    if not Path("/proc/self").exists():
        pytest.skip("needs Linux's /proc")
    image = tmp_path / "image.png"
    Image.new("RGB", (8, 8)).save(image)
    words = [word.format(image=image, folder=tmp_path) for word in COMMANDS[name]]
    assert main([*words, "--out", str(Path("/proc") / FILES.get(name, ""))]) == 1
    told = capsys.readouterr()
    assert told.err.startswith(f"dyhead-lab {words[0]}: --out /proc: expected a folder to write into")
    assert told.err.count("\n") == 1 and told.out == "", "said before anything is computed"


@pytest.mark.parametrize("name", FILES)
def test_a_device_is_never_replaced(name, tmp_path, capsys):
    """A pipe stands for /dev/null here: what is moved onto it takes its place."""
    pipe = tmp_path / f"pipe{Path(FILES[name]).suffix}"
    os.mkfifo(pipe)
    words = [word.format(folder=tmp_path) for word in COMMANDS[name]]
    assert main([*words, "--out", str(pipe)]) == 1
    assert f"--out {pipe}: expected a file to write, but it is a device or a pipe" in capsys.readouterr().err
    assert pipe.is_fifo()
