"""Trained weights: what a file holds that does not fit is said in one line."""

import pytest
import torch

from dyhead_lab import zoo
from dyhead_lab.cli import main
from dyhead_lab.errors import UserError
from dyhead_lab.paths import WEIGHTS as SHIPPED
from dyhead_lab.training.checkpoint import WEIGHTS, read


@pytest.fixture(scope="module")
def quickstart():
    return read(SHIPPED / "quickstart.pt", WEIGHTS)


def saved(content, tmp_path, **changes):
    torch.save({**content, **changes}, tmp_path / "w.pt")
    return tmp_path / "w.pt"


@pytest.mark.parametrize(
    ("option", "named"), [({"feelers": 3}, "feelers"), ({"dyhead_blocks": -1}, "blocks: expected no number below 0")]
)
def test_an_option_that_the_detector_does_not_have_is_named(quickstart, tmp_path, option, named):
    path = saved(quickstart, tmp_path, options={**quickstart["options"], **option})
    with pytest.raises(
        UserError, match=rf"w\.pt: its options do not fit the detector .* quickstart: .*{named}"
    ) as refused:
        zoo.load_trained(path)
    assert "\n" not in str(refused.value)


def endless():
    options = {}
    options["dyhead"] = options
    return options


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"settings": [1]}, "settings: expected a dict, got a list"),
        ({"detector": 7}, "detector: expected a str, got a int"),
        ({"state_dict": {1: torch.zeros(1)}}, "state_dict: expected names of weights as texts"),
        ({"options": endless()}, "its settings: maximum recursion depth"),
    ],
)
def test_parts_of_another_type_are_named(quickstart, tmp_path, changes, words):
    with pytest.raises(UserError, match=rf"w\.pt: damaged \({words}"):
        zoo.load_trained(saved(quickstart, tmp_path, **changes))


def test_settings_decide_neither_detector_nor_name(quickstart, tmp_path):
    """They are read beside the import paths, which are checked; a file's ``settings`` reach no further."""
    told = {"detector": "os:system", "dataset": "os:system", "name": "other", "file": "/etc/passwd", "lr": 0.5}
    recipe = zoo.load_trained(
        saved(
            quickstart,
            tmp_path,
            detector="dyhead_lab.detectors.one_stage.quickstart:quickstart",
            settings={**told, "model": quickstart["options"]},
        )
    ).recipe
    assert recipe.detector is zoo.get("quickstart").detector and (recipe.name, recipe.file) == ("quickstart", "")
    assert recipe.lr == 0.5


def test_entries_that_do_not_fit_are_named_in_one_line(quickstart, tmp_path):
    state = dict(quickstart["state_dict"])
    lost = next(iter(state))
    del state[lost]
    with pytest.raises(UserError, match=rf"w\.pt does not fit recipe quickstart: .*{lost}") as refused:
        zoo.load_trained(saved(quickstart, tmp_path, state_dict=state))
    assert "\n" not in str(refused.value)


def test_weights_of_parallel_training_load(quickstart, tmp_path):
    state = {f"module.{name}": value for name, value in quickstart["state_dict"].items()}
    ours = zoo.load_trained(saved(quickstart, tmp_path, state_dict=state)).model.state_dict()
    for name, value in zoo.load_trained("quickstart").model.state_dict().items():
        assert torch.equal(ours[name], value), name


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"<html>", "a web page"),
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_commands_say_what_a_file_is(tmp_path, capsys, content, named, name):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    (tmp_path / name).write_bytes(content)
    out = str(tmp_path / "out")
    assert main(["detect", str(tmp_path / "picture.png"), "--weights", str(tmp_path / name), "--out", out]) != 0
    error = capsys.readouterr().err
    assert f"{name} is {named}" in error and len(error.strip().splitlines()) == 1
