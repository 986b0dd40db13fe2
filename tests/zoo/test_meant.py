"""A name where a recipe would do as well as weights: one door, and the nearest names where it leads nowhere."""

import pytest
import torch

from dyhead_lab.cli import main
from dyhead_lab.detectors.official import save_official
from dyhead_lab.detectors.one_stage.atss import atss
from dyhead_lab.errors import UserError
from dyhead_lab.zoo.meant import detector_of, recipe_meant


def test_a_recipe_is_built_and_weights_are_loaded(tmp_path):
    built, classes = detector_of("deformable_detr_tiny", 7)
    assert classes == 7 and built.criterion.classes == 7
    torch.manual_seed(0)
    content = save_official(atss(3, dyhead_blocks=1, dyhead={"offset_fit": "flat"}))
    torch.save({"state_dict": content, "meta": {"dataset_meta": {"classes": ("a", "b", "c")}}}, tmp_path / "other.pth")
    loaded, classes = detector_of(tmp_path / "other.pth")
    assert classes == 3 and not loaded.training
    with pytest.raises(UserError, match="has 3 classes of its own, got 5"):
        detector_of(tmp_path / "other.pth", 5)
    with pytest.raises(UserError, match="published weights come without a recipe"):
        recipe_meant(tmp_path / "other.pth").architecture(3)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "--runs", "0"], "--runs: expected"),
        (["quickstart", "--classes", "0"], "--classes: expected at least 1"),
    ],
)
def test_a_cost_is_counted_of_a_path_without_a_slash_too(words, says, tmp_path, monkeypatch, capsys):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["efficiency", *words]) == 1
    assert says in capsys.readouterr().err, "refused for what is wrong with it, not for its name"


def test_the_recipe_of_shipped_weights_can_be_named_by_their_file():
    from dyhead_lab.paths import WEIGHTS

    assert recipe_meant(WEIGHTS / "quickstart.pt").name == recipe_meant("quickstart").name == "quickstart"


@pytest.mark.parametrize(
    "command",
    [
        ["efficiency", "SenseTime/deformable-det"],
        ["bench", "train", "SenseTime/deformable-det"],
        ["bench", "loader", "SenseTime/deformable-det"],
        ["bench", "detect", "--weights", "SenseTime/deformable-det"],
        ["look", "workshop", "--weights", "SenseTime/deformable-det"],
        ["detect", ".", "--weights", "SenseTime/deformable-det"],
        ["eval", "SenseTime/deformable-det"],
        ["errors", "SenseTime/deformable-det"],
        ["weights", "get", "SenseTime/deformable-det"],
    ],
)
def test_a_name_that_nobody_publishes_gets_the_nearest_names(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.png").touch()
    assert main(command) == 1
    assert "Nearest names: SenseTime/deformable-detr" in capsys.readouterr().err


def test_recipes_are_among_the_nearest_names():
    with pytest.raises(UserError, match=r"no recipe and no weights 'quickstat'.*Nearest names: quickstart"):
        detector_of("quickstat")
