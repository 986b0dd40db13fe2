"""Every recipe of the zoo: it builds, it says where it comes from, and its settings are the published ones."""

import re
from functools import partial

import pytest
import torch

from dyhead_lab import zoo
from dyhead_lab.attention import DyHead
from dyhead_lab.cli import main
from dyhead_lab.data.transforms import AUGMENTATIONS
from dyhead_lab.errors import UserError
from dyhead_lab.evaluation.dyhead_cost import part_costs
from dyhead_lab.evaluation.efficiency import macs
from dyhead_lab.paths import WEIGHTS
from dyhead_lab.zoo.datasets import coco, shapes
from dyhead_lab.zoo.dyhead_coco import COUNTED, DEPTHS, DYHEAD_COCO, SWITCHES
from dyhead_lab.zoo.registry import RECIPES

COCO_CLASSES = 80


def meta(name, **options):
    recipe = zoo.get(name)
    with torch.device("meta"):
        return recipe.with_model({**recipe.model, **options}).architecture(COCO_CLASSES)


def heads(model):
    return [module for module in model.modules() if isinstance(module, DyHead)]


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_builds_and_states_its_source(name):
    recipe = zoo.get(name)
    assert recipe.name == name
    assert recipe.source and recipe.summary and "\n" not in recipe.summary
    assert recipe.augmentation in AUGMENTATIONS
    if name in {"quickstart", "bccd"} or name.endswith(("_shapes", "_tiny")):
        recipe.architecture(classes=3)  # small enough to be real, and narrow backbones are read from a file
    else:
        meta(name)


@pytest.mark.parametrize(
    ("name", "published_ap", "parameters"),
    [
        ("atss_r50_dyhead", 0.424, 38_849_090),
        ("retinanet_r50_dyhead", 0.399, 45_290_460),
        # torchvision's box predictor has a box for the background too: 4 x (1024 + 1) more than the official file
        ("faster_rcnn_r50_dyhead", 0.403, 53_203_592 + 4 * 1025),
        ("atss_swin_t_dyhead", 0.498, 42_341_244),
    ],
)
def test_released_recipes(name, published_ap, parameters):
    model = meta(name)
    assert zoo.get(name).published_ap == published_ap
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(heads(model)[0].blocks) == 6


@pytest.mark.parametrize(("name", "published_ap"), [("atss_r101_dyhead", 0.465), ("atss_x101_64x4d_dyhead", 0.477)])
def test_larger_backbones(name, published_ap):
    assert zoo.get(name).published_ap == published_ap


def test_released_schedule():
    atss, rcnn, swin = (zoo.get(name) for name in ("atss_r50_dyhead", "faster_rcnn_r50_dyhead", "atss_swin_t_dyhead"))
    for recipe in (atss, rcnn, swin):
        assert (recipe.schedule, recipe.gamma, recipe.warmup, recipe.warmup_factor) == ("step", 0.1, 1000, 1e-3)
        assert (recipe.iterations, recipe.milestones) == (90_000, (60_000, 80_000))
    assert (atss.optimizer, atss.lr, atss.momentum, atss.weight_decay, atss.batch_size) == ("sgd", 0.01, 0.9, 1e-4, 16)
    assert rcnn.lr == 0.02
    assert (swin.optimizer, swin.lr, swin.weight_decay, swin.batch_size) == ("adamw", 1e-4, 0.05, 32)
    assert tuple(swin.model["min_size"]) == (640, 672, 704, 736, 768, 800)


@pytest.mark.parametrize("on", SWITCHES)
def test_rows_of_the_ablation_have_their_attentions(on):
    (head,) = heads(meta(f"atss_r50_dyhead_{on}"))
    for block in head.blocks:
        assert (block.scale is not None) == ("L" in on)
        assert (block.spatial.offset_mask is not None) == ("S" in on)
        assert (block.task is not None) == ("C" in on)


def test_plain_towers_have_no_dynamic_head():
    model = meta("atss_r50")
    assert not heads(model)
    assert sum(isinstance(module, torch.nn.Conv2d) for module in model.head.cls_tower.modules()) == 4


@pytest.mark.parametrize("blocks", DEPTHS)
def test_depths(blocks):
    (head,) = heads(meta(f"atss_r50_dyhead_depth{blocks}"))
    assert len(head.blocks) == blocks


@pytest.mark.parametrize(
    "name", [name if name == "atss_r50" else pytest.param(name, marks=pytest.mark.slow) for name in COUNTED]
)
def test_counted_costs_are_those_of_the_models(name):
    """Within 1 of 10^9 multiply-adds: the table is rounded."""
    model = meta(name)
    height, width = (800, 1344) if "swin" in name else (800, 1333)  # Swin's patches need multiples of four

    def run():
        levels = model.backbone(torch.zeros(1, 3, height, width, device="meta"))
        if hasattr(model, "head"):
            model.head(list(levels.values()))

    assert macs(model, run)[""] / 1e9 == pytest.approx(COUNTED[name][0], abs=1)


def test_every_recipe_says_what_it_costs_or_why_not():
    for recipe in DYHEAD_COCO:
        counted = "not trained here" in recipe.expected
        assert counted and ("estimates:" in recipe.expected or "depth" in recipe.name or recipe.published_ap is None)


def test_building_for_weights_of_ones_own_downloads_nothing(monkeypatch):
    import torchvision

    asked = []
    make = torchvision.models.get_model

    def get_model(name, weights=None, **options):
        asked.append(weights)
        return make(name, weights=None, **options)

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    meta("atss_r50_dyhead")
    assert asked == [None]


def test_missing_coco_is_named_with_its_remedy(tmp_path):
    with pytest.raises(UserError, match=r"dyhead-lab data coco --out .*coco2017"):
        coco("train", tmp_path / "coco2017")


def test_shapes_is_drawn_where_the_reader_says_or_names_the_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("dyhead_lab.zoo.datasets.SHAPES_SPLITS", {"val": (2, 1)})
    monkeypatch.setenv("DYHEAD_DATA", str(tmp_path / "mine"))
    assert len(shapes("val")) == 2 and (tmp_path / "mine" / "shapes" / "val" / "annotations.json").is_file()
    (tmp_path / "taken").touch()
    monkeypatch.setenv("DYHEAD_DATA", str(tmp_path / "taken"))
    with pytest.raises(UserError, match=r"taken.shapes cannot be written \(Not a directory\): .* DYHEAD_DATA"):
        shapes("val")


def test_command_lists_everything(capsys):
    assert main(["zoo"]) == 0
    listed = capsys.readouterr().out
    assert all(f" {name} " in listed for name in RECIPES)
    assert "  ablation " in listed
    released = next(line for line in listed.splitlines() if line.startswith("  atss_swin_t_dyhead "))
    assert "0.498" in released


def test_command_marks_the_weights_that_are_here(capsys):
    assert main(["zoo"]) == 0
    listed = capsys.readouterr().out.splitlines()
    here = {line.split()[1] for line in listed if line.startswith("* ") and line.split()[1] in RECIPES}
    assert here == {file.stem for file in WEIGHTS.glob("*.pt")} >= {"quickstart", "sparse_detr_tiny"}
    assert sum(line.startswith("* weights are here") for line in listed) == 1


def test_command_prints_one_recipe(capsys):
    assert main(["zoo", "atss_r50_dyhead"]) == 0
    printed = capsys.readouterr().out
    assert "microsoft/DynamicHead" in printed and "milestones" in printed and "GPU-hours" in printed
    assert main(["zoo", "atss_r50_dyhed"]) == 1
    assert "did you mean atss_r50_dyhead?" in capsys.readouterr().err


@pytest.mark.parametrize("name", zoo.names())
def test_every_recipe_says_what_it_takes(name):
    """Time and memory, or that they were not measured: nobody should find out by waiting."""
    expected = zoo.get(name).expected
    assert re.search(r"\d GB|memory not counted", expected), expected
    assert re.search(r"minutes?|seconds|GPU-hours|not measured|not counted|hours", expected), expected


def test_the_plain_detector_of_photographs_costs_what_the_other_does():
    """Above the pyramid, where the two differ; the head is worth its name only against a rival of its cost."""
    above = {}
    for name in ("everyday", "everyday_plain"):
        parts = part_costs(partial(zoo.get(name).architecture, 12), (320, 416))
        above[name] = sum(part.macs for part in parts if part.name in ("Dynamic Head", "head"))
    assert above["everyday_plain"] == pytest.approx(above["everyday"], rel=0.15)  # towers come in whole convolutions
