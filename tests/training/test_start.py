"""Fine-tuning: everything but what depends on the classes comes from trained weights, or the misfit is named."""

import json
import shutil

import pytest
import torch

from dyhead_lab import zoo
from dyhead_lab.cli import main
from dyhead_lab.errors import UserError
from dyhead_lab.training import train
from dyhead_lab.training.run_folder import read_json
from dyhead_lab.training.start import begin_from, fill

from .tiny import quick_recipe, write_pictures

ANEW = ["head.classification_head.cls_logits.weight", "head.classification_head.cls_logits.bias"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on six classes, and pictures of two."""
    folder = tmp_path_factory.mktemp("start")
    write_pictures(folder / "six")
    train(quick_recipe(), data=folder / "six", out=folder / "run", progress=False)
    write_pictures(folder / "two")
    for split in ("train", "val"):
        path = folder / "two" / split / "annotations.json"
        truth = json.loads(path.read_text(encoding="utf-8"))
        truth["categories"] = truth["categories"][:2]
        first, second = (category["id"] for category in truth["categories"])
        for annotation in truth["annotations"]:
            annotation["category_id"] = first if annotation["category_id"] % 2 else second
        path.write_text(json.dumps(truth), encoding="utf-8")
    return folder


@pytest.mark.parametrize("categories", [["cell", "platelet"], list("abcdef")], ids=["fewer", "as many others"])
def test_only_what_depends_on_the_classes_starts_anew(categories):
    """What has learned discs knows nothing of cells, also where there are as many kinds of both."""
    start, build = zoo.load_trained("quickstart"), zoo.get("quickstart").architecture
    source = start.model.state_dict()
    torch.manual_seed(0)
    model = build(len(categories))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert begin_from(start, model, categories, build) == ANEW
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name] if name in ANEW else source[name]), name


def test_the_same_classes_take_everything():
    start, build = zoo.load_trained("quickstart"), zoo.get("quickstart").architecture
    model = build(6)
    assert begin_from(start, model, start.categories, build) == []
    assert torch.equal(model.state_dict()[ANEW[0]], start.model.state_dict()[ANEW[0]])


def test_what_differs_for_another_reason_than_the_classes_is_no_start():
    """Queries have a row each, as classes do."""
    start = zoo.load_trained("deformable_detr_tiny")
    build = start.recipe.with_changes({"model.queries": 7}).architecture
    for categories in (start.categories, ["cell", "platelet"]):
        with pytest.raises(UserError, match=r"query_embed\.weight is \(50, 128\), here \(7, 128\) \(1 differences\)"):
            begin_from(start, build(len(categories)), categories, build)


def test_another_architecture_is_refused_with_its_differences_and_changes_nothing():
    source = zoo.load_trained("quickstart").model.state_dict()
    model = zoo.get("quickstart").with_changes({"model.dyhead_blocks": 0}).architecture(6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError, match=r"quickstart does not fit .* is left over.*Choose a recipe of the same"):
        fill(model, source, "quickstart")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    wider = {**source, ANEW[0]: torch.zeros(6, 65, 3, 3)}
    with pytest.raises(UserError, match=r"cls_logits\.weight is \(6, 65, 3, 3\), here \(2, 64, 3, 3\)"):
        fill(zoo.get("quickstart").architecture(2), wider, "wider", ANEW)


def test_a_run_begins_where_the_other_ended_says_so_and_continues(trained, capsys, tmp_path):
    out, start = tmp_path / "fine", zoo.load_trained(trained / "run")
    recipe = quick_recipe(iterations=2, lr=0.0, backbone_lr=0.0)  # nothing moves
    train(recipe, data=trained / "two", out=out, progress=False, start=start)
    said = capsys.readouterr().err
    assert "starting from" in said and f"all but {', '.join(ANEW)}, which depend on the classes" in said
    kept = zoo.load_trained(out).model.state_dict()
    for name, value in start.model.state_dict().items():
        if name not in ANEW and "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(kept[name], value, rtol=0, atol=0)
    assert read_json(out / "run.json")["start"] == str(start.path)
    with pytest.raises(UserError, match=r"other settings \(start was"):
        train(recipe, data=trained / "two", out=out, progress=False)
    train(recipe, data=trained / "two", out=out, progress=False, start=start)  # it is finished, and still the same run


def test_it_continues_from_another_folder(trained, tmp_path, monkeypatch):
    """The start is the same file, however it is named from there."""
    recipe = quick_recipe(iterations=2, schedule="constant", warmup=0)
    shutil.copytree(trained / "run", tmp_path / "run")
    for place, named in ((tmp_path, "run"), (tmp_path / "run", ".")):
        monkeypatch.chdir(place)
        start = zoo.load_trained(named)
        train(recipe, data=trained / "two", out=tmp_path / "fine", progress=False, start=start)
        recipe = recipe.with_changes({"iterations": 3})
    assert [start["iteration"] for start in read_json(tmp_path / "fine" / "run.json")["starts"]] == [0, 2]


def test_the_command_fine_tunes(trained, tmp_path, capsys):
    settings = {"model.image_size": 32, "model.dyhead_blocks": 0, "model.tower_convs": 0, "iterations": 2}
    sets = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = ["train", "quickstart", "--data", str(trained / "two"), "--out", str(tmp_path / "out"), *sets]
    assert main([*command, "--from", str(trained / "run")]) == 0
    assert "which depend on the classes" in capsys.readouterr().err
    assert zoo.load_trained(tmp_path / "out").categories == zoo.load_trained(trained / "run").categories[:2]
    assert main([*command, "--from", "nowhere"]) == 1
    assert "no weights at nowhere" in capsys.readouterr().err
    assert main([*command, "--from", "quickstart", "--smoke"]) == 1
    assert "--from: a smoke run starts from random weights" in capsys.readouterr().err
