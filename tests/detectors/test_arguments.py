"""Arguments that a builder hands on: all of them are found, none that it would refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dyhead_lab.attention import DyHead
from dyhead_lab.detectors.arguments import arguments, hands_on
from dyhead_lab.detectors.rcnn.cascade_rcnn import cascade_rcnn
from dyhead_lab.training.values import replaced
from dyhead_lab.zoo.detr_tiny import DETR_TINY, EFFICIENT_TINY
from dyhead_lab.zoo.shapes_recipes import FROZEN_ATSS, QUICKSTART, SHAPES_RECIPES

RECIPES = [QUICKSTART, FROZEN_ATSS, *SHAPES_RECIPES.values(), *DETR_TINY, EFFICIENT_TINY]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_argument_that_is_found_is_taken(recipe):
    model: dict[str, Any] = recipe.model
    for name, default in arguments(recipe.detector).items():
        named = model if "." not in name else model.get(name.split(".")[0]) or {}
        if default is not None and name.rpartition(".")[2] not in named:
            model = replaced(model, name, default)
    assert len(model) > len(recipe.model)
    recipe.with_model(model).build(3)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_what_a_recipe_gives_is_among_them(recipe):
    known = {name.split(".")[0] for name in arguments(recipe.detector)}
    assert set(recipe.model) <= known


def test_who_takes_options_names_what_it_sets_itself():
    def head(channels: int, blocks: int = 6, form: str = "released", part: object = None) -> None: ...

    def body(finest: int = 3, channels: int = 256, weights: str | None = None) -> None: ...

    @hands_on(body, head=head, without=("finest", "blocks"))
    def detector(classes: int, channels: int = 64, head: Mapping[str, Any] | None = None, **options: Any) -> None: ...

    found = {"channels": 64, "weights": None, "head.form": "released", "head": None}
    assert arguments(detector) == found, "its own default goes before that of whom it hands options to"


def test_parts_of_a_detector_are_no_settings():
    """An extra attention is a function, which no command line can give."""
    assert "extra" not in arguments(DyHead) and arguments(DyHead)["num_levels"] is None


def test_a_cascade_has_no_settings_of_the_head_that_it_replaces():
    names = arguments(cascade_rcnn)
    assert "rpn_nms_thresh" in names and "cascade.nms_threshold" in names and "box_head_width" in names
    assert not [name for name in names if name.startswith("box_") and name != "box_head_width"]


def test_a_class_with_names_that_only_a_type_checker_knows():
    def detector(classes: int, width: int = 8, where: "Nowhere | None" = None) -> None: ...  # type: ignore  # noqa

    assert arguments(detector) == {"width": 8}
