import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn

from dyhead_lab import cli
from dyhead_lab.data.images import upright
from dyhead_lab.zoo import Trained, load_trained


class OneBox(nn.Module):
    """Finds the brighter half of an image, surely, and all of it, hardly."""

    def forward(self, images):
        found = []
        for image in images:
            rows, columns = image.shape[1:]
            is_left = image[..., : columns // 2].mean() > image[..., columns // 2 :].mean()
            half = [0, 0, columns / 2, rows] if is_left else [columns / 2, 0, columns, rows]
            boxes = torch.tensor([[0, 0, columns, rows], half], dtype=torch.float32)
            found.append({"boxes": boxes, "scores": torch.tensor([0.1, 0.9]), "labels": torch.tensor([0, 1])})
        return found


@pytest.fixture(autouse=True)
def model(monkeypatch, tmp_path):
    trained = Trained(OneBox().eval(), None, ["all", "half"], tmp_path / "weights.pt")
    monkeypatch.setattr("dyhead_lab.zoo.load_trained", lambda source, imports: trained)


@pytest.fixture
def photo(tmp_path):
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[:, 40:] = 255
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels).save(path)
    return path


def test_a_picture_and_a_line_for_each_image(photo, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["detect", str(photo), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{photo}: 1 half; best half 0.90 -> {out / 'photo.png'}\n"
    with Image.open(out / "photo.png") as picture:
        assert picture.size == (640, 480), "small images are enlarged so that labels can be read"


def test_the_threshold_decides(photo, tmp_path, capsys):
    assert cli.main(["detect", str(photo), "--out", str(tmp_path / "a"), "--threshold", "0.05"]) == 0
    assert "1 half, 1 all; best half 0.90" in capsys.readouterr().out
    assert cli.main(["detect", str(photo), "--out", str(tmp_path / "b"), "--threshold", "0.95"]) == 0
    assert "nothing found" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "missing.png"),
        (["{broken}"], "broken.png"),
        (["{photo}", "--threshold", "1.5"], "--threshold: got 1.5"),
        (["{photo}", "{other}"], "2 images would be written"),
        (["{empty}"], "expected images in this folder"),
        (["{photo}", "--out", "{photo}"], "photo.jpg is a file"),
        (["{photo}", "--out", "{photo}/deeper"], "photo.jpg is a file"),
        (["{twin}", "--out", "{folder}"], "would overwrite"),
    ],
)
def test_what_the_user_can_mend_is_named(arguments, message, photo, tmp_path, capsys):
    broken, folder = tmp_path / "broken.png", tmp_path / "folder"
    broken.write_bytes(b"no image")
    folder.mkdir()
    twin = folder / "photo.png"
    Image.open(photo).save(twin)
    other = Path(shutil.copy(photo, folder))
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("no image", encoding="utf-8")
    before = twin.read_bytes()
    names = {"broken": broken, "photo": photo, "twin": twin, "folder": folder, "other": other, "empty": empty}
    filled = [a.format(**names) for a in arguments]
    assert cli.main(["detect", "--out", str(tmp_path / "out"), *filled]) == 1
    assert message in capsys.readouterr().err
    assert twin.read_bytes() == before


def test_of_a_folder_all_images_are_looked_at(photo, tmp_path, capsys):
    folder, out = tmp_path / "folder", tmp_path / "out"
    (folder / "deeper").mkdir(parents=True)
    for name in ("b.jpg", "a.PNG", "c.bmp", "c.png"):
        Image.open(photo).save(folder / name)
    for name in ("notes.txt", "._a.jpg", "paper.pdf", "film.mpg", "figure.eps", "table.h5"):  # of macOS, and no images
        (folder / name).write_text("no image", encoding="utf-8")
    assert cli.main(["detect", str(folder), str(photo), str(photo), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [Path(line.split(": ")[0]).name for line in lines] == ["a.PNG", "b.jpg", "c.bmp", "c.png", "photo.jpg"]
    assert sorted(p.name for p in out.iterdir()) == ["a.png", "b.png", "c.bmp.png", "c.png.png", "photo.png"]


def test_findings_that_are_not_finite_are_counted_and_not_drawn(photo, tmp_path, capsys, monkeypatch):
    whole = OneBox.forward

    def overflowing(self, images):
        (found,) = whole(self, images)
        found["boxes"][1, 2] = float("inf")
        return [found]

    monkeypatch.setattr(OneBox, "forward", overflowing)
    assert cli.main(["detect", str(photo), "--out", str(tmp_path / "out")]) == 0
    assert ": nothing found; 1 more that are not finite" in capsys.readouterr().out


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright_as_pillow_does(orientation):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (3, 5, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    expected = torch.from_numpy(np.array(ImageOps.exif_transpose(Image.open(buffer)))).permute(2, 0, 1)
    assert torch.equal(upright(torch.from_numpy(np.array(image)).permute(2, 0, 1), orientation), expected)


@pytest.mark.parametrize("weights", ["quickstart", "detr_tiny", "deformable_detr_tiny", "sparse_detr_tiny"])
def test_every_shipped_detector_detects(weights, photo, tmp_path, monkeypatch):
    monkeypatch.setattr("dyhead_lab.zoo.load_trained", load_trained)
    assert cli.main(["detect", str(photo), "--weights", weights, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "photo.png").stat().st_size > 0
