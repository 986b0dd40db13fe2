"""``dyhead-lab weights``: the list, and numbers that are or are not the published ones."""

import numpy as np
import pytest
import torch
from PIL import Image

from dyhead_lab.cli import main
from dyhead_lab.commands import weights as command
from dyhead_lab.detectors.backbones.resnet import ResNetBackbone
from dyhead_lab.detectors.detr.deformable_detr import DeformableDETR, DeformableDETRConfig
from dyhead_lab.published import store
from dyhead_lab.published.catalogue import CATALOGUE, no_weights
from dyhead_lab.published.golden import GOLDEN, PICTURE, Golden

NAME = "SenseTime/deformable-detr-with-box-refine"


def test_the_list_names_every_model_with_its_source_and_what_is_here(capsys, monkeypatch):
    monkeypatch.setattr(store, "here", lambda name: "somewhere" if name == "detr-r50" else None)
    assert main(["weights"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for published in CATALOGUE.values():
        [line] = [line for line in lines if line[2:].split(" ")[0] == published.name]
        assert f"{published.ap:.3f}" in line
        assert line[0] == ("*" if published.name == "detr-r50" else "!" if published.by_hand else " ")
        assert any(published.source in line and published.paper in line for line in lines)
    assert "quickstart" in lines[0] and any("without a network" in line for line in lines)


def test_golden_numbers_belong_to_models_of_the_list():
    assert len(GOLDEN) == 5 and GOLDEN.keys() <= CATALOGUE.keys()


def test_a_name_that_nobody_publishes_gets_the_nearest_ones(capsys):
    for arguments in (["weights", "get", "detr-r5"], ["detect", "x.png", "--weights", "detr-r5"]):
        assert main(arguments) == 1
    assert "Nearest names: detr-r50" in no_weights("detr-r5")
    assert "Nearest names: SenseTime/deformable-detr" in no_weights("sensetime/deformable_detr")
    assert "Nearest names: quickstart" in no_weights("quikstart") and "Nearest" not in no_weights("runs/of/mine")
    assert "no weights at detr-r5: expected a weights file" in capsys.readouterr().err


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """A small Deformable DETR as the published one, a picture, and what it predicts for it."""
    torch.manual_seed(0)
    small = {"encoder_layers": 1, "decoder_layers": 2, "feedforward": 16}
    model = DeformableDETR(
        DeformableDETRConfig(classes=91, queries=5, levels=3, refine=True, **small), ResNetBackbone()
    )
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    monkeypatch.setattr(store, "get", lambda name: tmp_path / "model.pth")
    monkeypatch.setattr("dyhead_lab.zoo.trained.get", store.get)
    picture = tmp_path / PICTURE
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((90, 60)).save(picture, quality=95)
    monkeypatch.setattr("dyhead_lab.zoo.foreign.DETECTION_SIZE", (64, 200))
    with Image.open(picture) as file:
        resized = np.array(file.convert("RGB").resize((96, 64), Image.Resampling.BILINEAR))
    with torch.no_grad():
        found = model.eval().predictions([torch.from_numpy(resized).permute(2, 0, 1) / 255])
    rows = {key: tuple(map(tuple, found[key][0, :3, :3].tolist())) for key in ("pred_logits", "pred_boxes")}
    return picture, Golden(rows["pred_logits"], rows["pred_boxes"])


def test_published_numbers_are_compared(fetched, monkeypatch, capsys):
    picture, golden = fetched
    monkeypatch.setitem(GOLDEN, NAME, golden)
    assert main(["weights", "verify", NAME, "--picture", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "loads strictly: DeformableDETR" in out and "80 classes" in out and out.endswith("right\n")
    moved = Golden(golden.logits, tuple((cx + 2e-4, cy, w) for cx, cy, w in golden.boxes))
    monkeypatch.setitem(GOLDEN, NAME, moved)
    assert main(["weights", "verify", NAME, "--picture", str(picture)]) == 1
    assert "boxes: at most 2.0e-04" in (out := capsys.readouterr().out) and "NOT the published numbers" in out


def test_without_picture_and_coco_it_says_that_nothing_was_compared(fetched, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "coco_path", lambda: tmp_path / "coco2017")
    assert main(["weights", "verify", NAME]) == 0
    assert f"not compared with published numbers: that takes the picture {PICTURE}" in capsys.readouterr().out


def test_published_weights_go_by_their_name_through_every_door(fetched, capsys, tmp_path):
    picture, _ = fetched
    assert main(["detect", str(picture), "--weights", NAME, "--out", str(tmp_path / "out"), "--threshold", "0"]) == 0
    assert (tmp_path / "out" / "000000039769.png").is_file()
    from dyhead_lab.zoo import load_trained

    assert load_trained(NAME).recipe.name == NAME
