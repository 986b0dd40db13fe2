"""Recipes: settings as typed, values that no training can follow, and checkpoints older than a setting."""

import math
import re

import pytest
import torch

from dyhead_lab import zoo
from dyhead_lab.errors import UserError
from dyhead_lab.training.recipe import Recipe

from .tiny import frozen_recipe, quick_recipe


def test_settings_are_read_as_typed():
    changes = {
        "milestones": "600,800",
        "iterations": "900",
        "compile": "true",
        "lr": "2e-4",
        "schedule": "step",
        "model.max_size": "96",
        "model.body": "{'norm': 'batch'}",
    }
    recipe = frozen_recipe().with_changes(changes)
    assert recipe.milestones == (600, 800) and recipe.iterations == 900 and recipe.compile and recipe.lr == 2e-4
    assert recipe.model["max_size"] == 96 and recipe.model["body"] == {"norm": "batch"}
    assert recipe.with_changes({"milestones": "700"}).milestones == (700,)


def test_numbers_that_count_are_whole():
    """As ``train(recipe, iterations=len(images) * 12 / 16)`` gives them."""
    assert frozen_recipe(iterations=900.0).iterations == 900
    for iterations in (2.7, math.inf, math.nan):
        with pytest.raises(UserError, match=rf"iterations: expected a value like \d+, got {iterations}"):
            frozen_recipe(iterations=iterations)


def test_settings_reach_into_the_detectors_options():
    recipe = frozen_recipe().with_changes({"model.body.norm": "batch"})
    assert recipe.model["body"] == {"norm": "batch"} and frozen_recipe().model["body"] == {"norm": "frozen"}
    with pytest.raises(UserError, match=r"did you mean model\.body\.norm"):
        frozen_recipe().with_changes({"model.body.nurm": "batch"})


def test_settings_reach_arguments_that_the_recipe_does_not_give():
    recipe = zoo.get("atss_shapes")
    assert "topk" not in recipe.model and "scale" not in recipe.model["dyhead"]
    changed = recipe.with_changes({"model.topk": "5", "model.dyhead.scale": "false"})
    assert changed.model["topk"] == 5
    assert changed.model["dyhead"] == {**recipe.model["dyhead"], "scale": False}
    with pytest.raises(UserError, match=r"model\.topk: expected a value like 9, got 'many'"):
        recipe.with_changes({"model.topk": "many"})
    with pytest.raises(UserError, match=r"no setting 'model\.dyhead\.scales'; did you mean model\.dyhead\.scale\?"):
        recipe.with_changes({"model.dyhead.scales": "false"})


@pytest.mark.parametrize(
    ("name", "option", "value", "says"),
    [
        ("quickstart", "dyhead.form", "flat", "form: expected one of released, paper, got 'flat'"),
        ("quickstart", "tower_convs", "-1", "tower_convs: expected no number below 0, got -1"),
        ("quickstart", "object_scale", "nan", "object_scale: expected no number below 0, got nan"),
        ("quickstart", "object_scale", "0", "division by zero"),
        ("quickstart", "image_size", "0", "expected at least 1 pixel, got 0"),
        ("detr_tiny", "min_size", "many", "not supported between instances of"),
        ("deformable_detr_tiny", "heads", "5", "channels must be a multiple of heads"),
        ("deformable_detr_tiny", "queries", "0", "queries must be at least 1, got 0"),
        ("detr_tiny", "min_size", "0", "expected at least 1 pixel, got 0"),
    ],
)
def test_an_option_that_no_detector_can_have_is_refused_with_the_reason(name, option, value, says):
    recipe = zoo.get(name).with_changes({f"model.{option}": value})
    for build in (recipe.build, recipe.architecture):
        with pytest.raises(UserError, match=f"recipe {name}: no detector has the options .*{re.escape(says)}"):
            build(3)


def test_a_mistake_in_code_of_ones_own_keeps_its_traceback():
    def own(classes, size=1):
        raise ValueError("a mistake in mine.py")

    def part(channels):
        raise ValueError("a mistake in mine.py")

    for recipe in (
        Recipe("own", "a detector of one's own", own, dataset=None, model={"size": -1}),
        quick_recipe(**{"model.dyhead_blocks": 1}).with_model({"dyhead": {"extra": part}}),
    ):
        with pytest.raises(ValueError, match="a mistake in mine"):
            recipe.build(3)


def test_an_option_without_a_value_takes_any():
    recipe = frozen_recipe().with_model({"weights": None, "widths": None})
    changed = recipe.with_changes({"model.weights": "IMAGENET1K_V1", "model.widths": "(8, 16)"})
    assert changed.model == {"weights": "IMAGENET1K_V1", "widths": (8, 16)}
    for nothing in ("None", None):  # as the message says where weights cannot be downloaded
        assert changed.with_changes({"model.weights": nothing}).model["weights"] is None
    with pytest.raises(UserError, match="optimizer: expected one of adamw, sgd, got None"):
        recipe.with_changes({"optimizer": "None"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adam"}, "optimizer: expected one of adamw, sgd, got 'adam'"),
        ({"schedule": "step"}, "milestones: schedule 'step' needs at least one"),
        ({"milestones": "80,60"}, "milestones: expected whole steps in ascending order"),
        ({"schedule": "step", "milestones": "-4,2"}, r"milestones: expected whole steps .* from 0 on, got \(-4, 2\)"),
        ({"milestones": "soon"}, "milestones: expected a value like"),
        ({"precision": "fp8"}, "precision: expected one of bf16, fp16, fp32"),
        ({"on_nonfinite": "pray"}, "on_nonfinite: expected one of stop, skip"),
        ({"accumulate": 0}, "accumulate: expected at least 1"),
        ({"batch_size": 6, "accumulate": 4}, "batch_size: expected a multiple of accumulate=4, got 6"),
        ({"compile": "true", "activation_checkpointing": "true"}, "compile: expected false"),
        ({"compile": "perhaps"}, "compile: expected a value like False"),
        ({"published_ap": 0.5}, "has no setting 'published_ap'"),
        ({"lr": -1}, r"lr: expected a finite number of at least 0, got -1\.0"),
        ({"lr": "nan"}, "lr: expected a finite number of at least 0, got nan"),
        ({"lr": "inf"}, "lr: expected a finite number of at least 0, got inf"),
        ({"gamma": "nan"}, "gamma: expected a finite number of at least 0, got nan"),
        ({"warmup": -5}, "warmup: expected a finite number of at least 0, got -5"),
        ({"warmup_factor": -0.1}, "warmup_factor: expected a finite number of at least 0"),
        ({"momentum": -1}, "momentum: expected a finite number of at least 0"),
        ({"offset_lr": -1}, "offset_lr: expected a finite number of at least 0"),
        ({"backbone_lr": -1}, "backbone_lr: expected a finite number of at least 0"),
        ({"weight_decay": -1}, "weight_decay: expected a finite number of at least 0"),
        ({"ema_decay": -3}, r"ema_decay: expected a share in \[0, 1\], got -3\.0"),
        ({"ema_decay": 1.5}, "ema_decay: expected a share in"),
        ({"clip_norm": 0}, r"clip_norm: expected a number above 0, or inf to clip nothing, got 0\.0"),
        ({"clip_norm": -1}, "clip_norm: expected a number above 0"),
        ({"clip_norm": "nan"}, "clip_norm: expected a number above 0"),
        ({"seed": 99999999999}, "seed: expected a whole number between -2147483648 and 2147483648, got 99999999999"),
        ({"seed": -(2**31)}, "seed: expected a whole number between"),
    ],
)
def test_values_that_cannot_be_followed_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        quick_recipe(**changes)


def test_values_at_their_bounds_are_taken():
    """Nothing learns, nothing is clipped, nothing decays: of use in experiments."""
    bounds = {"lr": 0, "weight_decay": 0, "momentum": 0, "warmup": 0, "ema_decay": 0, "clip_norm": "inf"}
    recipe = quick_recipe(**bounds, seed=-(2**31) + 1, milestones="0,0")
    torch.manual_seed(recipe.seed * 2**32)  # what a step adds to
    assert recipe.clip_norm == math.inf and quick_recipe(ema_decay=1, seed=2**31 - 1).ema_decay == 1


def test_a_checkpoint_remembers_every_setting_and_no_words():
    settings = quick_recipe().settings()
    assert {"optimizer", "milestones", "accumulate", "precision", "model", "seed", "masks"} <= set(settings)
    assert not {"name", "summary", "source", "expected", "published_ap", "detector", "dataset"} & set(settings)
    assert set(Recipe.defaults()) <= set(settings)
