"""A detector that owes this library nothing but the form of CONTRIBUTING.md: it trains, continues and loads."""

import pytest
import torch
from torch import nn

from dyhead_lab import zoo
from dyhead_lab.errors import UserError
from dyhead_lab.training import Recipe, train
from dyhead_lab.training.checkpoint import WEIGHTS, read


class Mean(nn.Module):
    """Says the same box everywhere, with scores from an image's mean colour."""

    def __init__(self, classes, activation=nn.GELU, extra=None):
        super().__init__()
        self.scores = nn.Sequential(nn.Linear(3, 8), activation(), nn.Linear(8, classes))
        self.offset = nn.Parameter(torch.zeros(4))  # of the box; nothing that samples
        self.extra = extra() if extra is not None else None

    def forward(self, images, targets=None):
        logits = self.scores(torch.stack([image.mean((1, 2)) for image in images]))
        if self.training:
            wanted = torch.zeros_like(logits)
            for row, target in zip(wanted, targets, strict=True):
                row[target["labels"]] = 1
            first = torch.stack([target["boxes"][:1].sum(0) for target in targets])
            return {
                "class": nn.functional.binary_cross_entropy_with_logits(logits, wanted),
                "box": (self.offset - first / 32).abs().mean(),
            }
        box = torch.tensor([[0.0, 0, 16, 16]]) + self.offset.abs().cumsum(0)
        one = torch.zeros(1, dtype=torch.int64)
        return [{"boxes": box, "scores": row[:1].sigmoid(), "labels": one} for row in logits]


def recipe(**changes):
    settings = {"iterations": 4, "batch_size": 2, "accumulate": 2, "precision": "fp32", "warmup": 1, "lr": 0.1}
    model = {"activation": nn.Tanh, "extra": None}
    own = Recipe("own", "a detector of my own", Mean, dataset=None, model=model, checkpoint_every=2)
    return own.with_changes({**settings, **changes})


def test_it_trains_and_loads_with_the_classes_that_it_was_given(small_pictures, tmp_path):
    result = train(recipe(), data=small_pictures, out=tmp_path, progress=False)
    assert set(result.per_class) and read(tmp_path / "weights.pt", WEIGHTS)["detector"] == f"{__name__}:Mean"
    trained = zoo.load_trained(tmp_path)
    assert isinstance(trained.model, Mean) and isinstance(trained.model.scores[1], nn.Tanh)
    assert trained.recipe.settings() == recipe().settings()
    with pytest.raises(UserError, match="do not say what data they were trained on; name it with --data"):
        trained.recipe.data("val")


def test_other_classes_are_another_run(small_pictures, tmp_path):
    train(recipe(), data=small_pictures, out=tmp_path, progress=False)
    with pytest.raises(UserError, match=r"model was .*activation:Tanh.*, is .*activation:ReLU"):
        train(recipe(), data=small_pictures, out=tmp_path, progress=False, model={"activation": nn.ReLU})


def test_classes_take_the_place_of_classes_and_of_nothing():
    changed = recipe().with_changes({"model.activation": nn.ReLU, "model.extra": nn.Identity})
    assert changed.model == {"activation": nn.ReLU, "extra": nn.Identity}
    assert changed.with_changes({"model.extra": "None"}).model["extra"] is None
    for key, wrong in (("model.activation", "ReLU"), ("model.activation", 3), ("lr", nn.ReLU)):
        with pytest.raises(UserError, match=f"{key}: expected a value like"):
            recipe().with_changes({key: wrong})


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"activation_checkpointing": True}, "no blocks that could be computed again"),
        ({"compile": True}, "this detector has no backbone; see parts_to_compile"),
        ({"backbone_lr": 0.1}, "expected 1 for a detector without a backbone that learns"),
    ],
)
def test_what_it_does_not_say_is_refused_where_it_is_needed(small_pictures, tmp_path, setting, words):
    with pytest.raises(UserError, match=words):
        train(recipe(**setting), data=small_pictures, out=tmp_path, progress=False)
