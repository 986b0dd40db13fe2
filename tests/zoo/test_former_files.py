"""Files from before the offsets of a Dynamic Head fitted its coarser neighbour exactly mean what they meant."""

import pytest
import torch

from dyhead_lab import zoo
from dyhead_lab.attention import DyHead
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.detectors.detr.configured import deformable_detr
from dyhead_lab.detectors.one_stage.atss import atss
from dyhead_lab.detectors.one_stage.quickstart import quickstart
from dyhead_lab.errors import UserError
from dyhead_lab.training.checkpoint import FORMER_FORMATS, WEIGHTS, save_weights
from dyhead_lab.training.engine import Engine
from dyhead_lab.training.former_options import as_meant

FORMER = FORMER_FORMATS[WEIGHTS]


@pytest.fixture
def shapes_folder(tmp_path):
    for split, seed in (("train", 1), ("val", 2)):
        write_shapes(tmp_path / "pictures" / split, images=2, seed=seed, size=64)
    return lambda split: coco_folder(tmp_path / "pictures", split)


def fit_of(source):
    return zoo.load_trained(source).model.backbone.neck.blocks[0].spatial.offset_fit


@pytest.mark.parametrize(("file_format", "expected"), [(FORMER, "resize"), (WEIGHTS, "centres")])
@pytest.mark.parametrize("origin", [True, False], ids=["with an import path", "as the first files were"])
def test_weights_that_do_not_name_the_fit_have_that_of_their_time(tmp_path, file_format, expected, origin):
    recipe = zoo.get("quickstart").with_model({"image_size": 64, "dyhead_blocks": 1})
    path = tmp_path / "weights.pt"
    save_weights(path, recipe.build(2), "quickstart", recipe.model, ["a", "b"], recipe.origin() if origin else None)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "format": file_format}, path)
    assert fit_of(path) == expected


def test_a_fit_that_a_file_names_is_kept_and_other_options_beside_it():
    assert as_meant({"dyhead": {"offset_fit": "flat", "task": False}}, atss, FORMER) == {
        "dyhead": {"offset_fit": "flat", "task": False}
    }
    assert as_meant({"dyhead": {"task": False}}, atss, FORMER) == {"dyhead": {"offset_fit": "resize", "task": False}}


def outside(classes, dyhead_blocks=1):
    return quickstart(classes, dyhead_blocks=dyhead_blocks)


@pytest.mark.parametrize(
    ("detector", "options"),
    [(atss, {"dyhead_blocks": 0}), (deformable_detr, {"queries": 5}), (outside, {"dyhead_blocks": 2})],
)
def test_detectors_without_a_dynamic_head_of_ours_keep_their_options(detector, options):
    assert as_meant(options, detector, FORMER) == options


def test_a_run_of_the_former_fit_is_not_continued_with_the_exact_one(tmp_path, shapes_folder):
    recipe = zoo.get("quickstart").with_changes({"model.dyhead": {}, "iterations": 3, "warmup": 1, "batch_size": 2})
    engine = Engine(recipe, shapes_folder("train"), shapes_folder("val"), tmp_path / "run")
    engine.save()
    content = torch.load(engine.checkpoint_path, weights_only=True)
    torch.save({**content, "format": "dyhead_lab checkpoint 1"}, engine.checkpoint_path)
    with pytest.raises(UserError, match="'offset_fit': 'resize'"):
        Engine(recipe, shapes_folder("train"), shapes_folder("val"), tmp_path / "run").load()
    former = recipe.with_changes({"model.dyhead": {"offset_fit": "resize"}})
    Engine(former, shapes_folder("train"), shapes_folder("val"), tmp_path / "run").load()


def test_a_new_head_is_exact():
    assert {block.spatial.offset_fit for block in DyHead(16, blocks=2).blocks} == {"centres"}
