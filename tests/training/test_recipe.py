"""Recipes: settings as typed, values that no training can follow, and checkpoints older than a setting."""

import pytest

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


def test_settings_reach_into_the_detectors_options():
    recipe = frozen_recipe().with_changes({"model.body.norm": "batch"})
    assert recipe.model["body"] == {"norm": "batch"} and frozen_recipe().model["body"] == {"norm": "frozen"}
    with pytest.raises(UserError, match=r"did you mean model\.body\.norm"):
        frozen_recipe().with_changes({"model.body.nurm": "batch"})


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
        ({"milestones": "soon"}, "milestones: expected a value like"),
        ({"precision": "fp8"}, "precision: expected one of bf16, fp16, fp32"),
        ({"on_nonfinite": "pray"}, "on_nonfinite: expected one of stop, skip"),
        ({"accumulate": 0}, "accumulate: expected at least 1"),
        ({"batch_size": 6, "accumulate": 4}, "batch_size: expected a multiple of accumulate=4, got 6"),
        ({"compile": "true", "activation_checkpointing": "true"}, "compile: expected false"),
        ({"compile": "perhaps"}, "compile: expected a value like False"),
        ({"published_ap": 0.5}, "has no setting 'published_ap'"),
    ],
)
def test_values_that_cannot_be_followed_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        quick_recipe(**changes)


def test_a_checkpoint_remembers_every_setting_and_no_words():
    settings = quick_recipe().settings()
    assert {"optimizer", "milestones", "accumulate", "precision", "model", "seed", "masks"} <= set(settings)
    assert not {"name", "summary", "source", "expected", "published_ap", "detector", "dataset"} & set(settings)
    assert set(Recipe.defaults()) <= set(settings)
