"""The tiny recipes of DETR's family and the weights that the project ships of them."""

import pytest
import torch

from dyhead_lab.data.coco import CocoDetection
from dyhead_lab.data.shapes import CLASSES, write_shapes
from dyhead_lab.detectors.backbones.narrow_resnet import NarrowResNet
from dyhead_lab.evaluation.coco_metric import detect_dataset, evaluate
from dyhead_lab.paths import WEIGHTS
from dyhead_lab.zoo import load_trained
from dyhead_lab.zoo.detr_tiny import DETR_TINY, EFFICIENT_TINY

RECIPES = {recipe.name: recipe for recipe in DETR_TINY}


@pytest.mark.parametrize("recipe", [*DETR_TINY, EFFICIENT_TINY], ids=lambda recipe: recipe.name)
def test_starts_from_the_backbone_that_has_learned_shapes(recipe):
    model = recipe.build(len(CLASSES))
    learned = NarrowResNet(pretrained=True).state_dict()
    ours = {key.rsplit("backbone.0.")[1].removeprefix("body."): value
            for key, value in model.state_dict().items() if key.startswith("backbone.")}  # fmt: skip
    assert ours.keys() == learned.keys()
    assert all(torch.equal(ours[key], learned[key]) for key in learned)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.fixture(scope="module")
def new_pictures(tmp_path_factory):
    """Pictures that no training and no validation has seen."""
    folder = tmp_path_factory.mktemp("shapes")
    return CocoDetection(folder / "images", write_shapes(folder, images=40, seed=77))


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_weights_detect_about_as_well_as_the_recipe_says(name, new_pictures):
    trained = load_trained(name)
    assert trained.recipe.settings() == RECIPES[name].settings()
    assert (WEIGHTS / f"{name}.pt").stat().st_size < 3e6
    promised = float(trained.recipe.expected.split()[1])  # "AP 0.30 on Shapes val ..."
    found = evaluate(new_pictures, detect_dataset(trained.model, new_pictures))["AP"]
    # The AP of 40 pictures scatters by about 0.04 around that of 500.
    assert found == pytest.approx(promised, abs=0.08)
