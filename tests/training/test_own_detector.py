"""A detector that owes this library nothing but the form of CONTRIBUTING.md: it trains, continues and loads."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from dyhead_lab import zoo
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.errors import UserError
from dyhead_lab.evaluation.coco_metric import detect_dataset
from dyhead_lab.training import Recipe, train
from dyhead_lab.training.checkpoint import CHECKPOINT, WEIGHTS, read
from dyhead_lab.training.import_paths import FORMER_MODULES
from tests.training.tiny import engine_of, make_steps


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


def with_plain_names(classes, name="x", function="y", **options):
    """Options may be called anything."""
    return Mean(classes, **options)


def test_options_may_be_called_anything():
    assert isinstance(replace(recipe(), detector=with_plain_names, model={"name": "a", "function": "b"}).build(2), Mean)


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


class Changed(Mean):
    """The same detector after its author has added a layer."""

    def __init__(self, classes, **options):
        super().__init__(classes, **options)
        self.more = nn.Linear(3, 3)


def test_a_run_of_a_class_that_was_changed_since_is_told_apart(small_pictures, tmp_path, monkeypatch):
    train(recipe(), data=small_pictures, out=tmp_path, progress=False)
    with pytest.raises(UserError, match=rf"detector was '{__name__}:Mean', is '{__name__}:Changed'"):
        train(replace(recipe(), detector=Changed), data=small_pictures, out=tmp_path, progress=False)
    edited = type("Mean", (Changed,), {"__module__": __name__, "__qualname__": "Mean"})
    monkeypatch.setitem(globals(), "Mean", edited)
    with pytest.raises(UserError, match=r"holds a run of another detector than Mean is by now \(.*more\.weight"):
        train(recipe(), data=small_pictures, out=tmp_path, progress=False)


def test_a_run_continues_though_the_module_of_its_detector_has_moved(small_pictures, tmp_path, monkeypatch):
    train(recipe(), data=small_pictures, out=tmp_path, progress=False)
    state = read(tmp_path / "last.pt", CHECKPOINT)
    torch.save({**state, "detector": "where.it.was:Mean"}, tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"detector was 'where\.it\.was:Mean'"):
        train(recipe(), data=small_pictures, out=tmp_path, progress=False)
    monkeypatch.setitem(FORMER_MODULES, "where.it.was", __name__)
    assert train(recipe(), data=small_pictures, out=tmp_path, progress=False)["AP"] >= 0
    early = {name: value for name, value in state.items() if name != "detector"}  # before import paths were kept
    torch.save(early, tmp_path / "last.pt")
    assert train(recipe(), data=small_pictures, out=tmp_path, progress=False)["AP"] >= 0


class Speechless(Mean):
    def forward(self, images, targets=None):
        found = super().forward(images, targets)
        return sum(found.values()) if self.training else found[:0]


class Constant(Mean):
    def __init__(self, classes, **options):
        super().__init__(classes, **options)
        self.requires_grad_(False)


class Named(Mean):
    def forward(self, images, targets=None):
        found = super().forward(images, targets)
        return {"loss": found["class"], "box": found["box"]} if self.training else found


def three(classes, **options):
    return 3


@pytest.mark.parametrize(
    ("detector", "words"),
    [
        (Speechless, "the detector's losses: expected a dict of tensors without axes"),
        (Constant, "the detector has no parameter that learns"),
        (three, "detector: expected a class or function that gives an nn.Module, got int"),
        (nn.Linear, r"detector: Linear\(classes=.*missing a required argument: 'in_features'; it takes \(in_features"),
    ],
)
def test_a_detector_that_misses_the_form_is_named(small_pictures, tmp_path, detector, words):
    with pytest.raises(UserError, match=words):
        train(replace(recipe(), detector=detector), data=small_pictures, out=tmp_path, progress=False)


def test_the_evaluation_names_it_too(small_pictures):
    with pytest.raises(UserError, match=r"expected a list with one dict for each of \d images, got 0 of them"):
        detect_dataset(Speechless(2), coco_folder(small_pictures, "val"))


def test_the_sum_is_the_loss_whatever_its_parts_are_called(small_pictures, tmp_path):
    """A part called "loss" hid the others from the log, and from the look for what is not finite."""
    named = engine_of(replace(recipe(), detector=Named), small_pictures, tmp_path / "named")
    plain = engine_of(recipe(), small_pictures, tmp_path / "plain")
    [first], [second] = make_steps(named, 1), make_steps(plain, 1)
    assert first["loss"] == second["loss"] > second["class"]


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (None, "dataset: expected a class or a function, got NoneType"),
        (lambda: [], r"dataset: <lambda>\('train'\): too many positional arguments; it takes \(\)"),
    ],
)
def test_a_data_set_that_cannot_be_asked_for_a_split_is_named(tmp_path, dataset, words):
    with pytest.raises(UserError, match=words):
        train(replace(recipe(), dataset=dataset), out=tmp_path, progress=False)


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
