"""A data set of one's own: what the base class makes of a few methods, and what is refused."""

import numpy as np
import pytest
import torch

from dyhead_lab.data.dataset import DetectionSet, ask_for_masks, place_of, refuse_incomplete
from dyhead_lab.data.subset import fixed_images, fraction_of
from dyhead_lab.errors import UserError
from dyhead_lab.evaluation.coco_metric import evaluate, to_coco_results
from dyhead_lab.training.engine import Engine
from tests.training.tiny import quick_recipe


class Squares(DetectionSet):
    """Image i holds i squares of 10 pixels, of alternating classes."""

    categories = ("white", "grey")

    def __init__(self, images=4):
        self.images = images

    def __len__(self):
        return self.images

    def image(self, index):
        return torch.full((3, 32, 48), index / 10)

    def objects(self, index):
        boxes = [[12 * (i % 4), 4, 12 * (i % 4) + 10, 14] for i in range(index)]
        return {"boxes": torch.tensor(boxes), "labels": [i % 2 for i in range(index)]}


def test_targets_hold_what_training_needs():
    image, target = Squares()[2]
    assert image.shape == (3, 32, 48)
    assert target["boxes"].tolist() == [[0, 4, 10, 14], [12, 4, 22, 14]] and target["boxes"].dtype == torch.float32
    assert target["labels"].tolist() == [0, 1] and target["labels"].dtype == torch.int64
    assert (target["image_id"], target["size"]) == (3, (32, 48)) and target["area"].tolist() == [100, 100]
    assert Squares()[0][1]["boxes"].shape == (0, 4)
    with pytest.raises(IndexError):
        Squares()[4]


def test_its_ground_truth_is_found_by_the_metric():
    """Perfect detections have AP 1, by COCO's own code."""
    squares = Squares()
    found = [{**squares.target(i), "scores": torch.ones(i)} for i in range(len(squares))]
    records = to_coco_results(squares.image_ids, found, squares.category_ids)
    assert len(records) == 6 and evaluate(squares, records)["AP"] == 1.0
    assert squares.coco.imgs[1] == {"id": 1, "height": 32, "width": 48, "file_name": "1"}


def test_a_part_of_it_keeps_ids_and_truth_together():
    whole = Squares(10)
    part = fraction_of(whole, 0.3)
    assert len(part) == 3 and set(part.image_ids) < set(whole.image_ids)
    assert [part[i][1]["image_id"] for i in range(3)] == part.image_ids == sorted(part.coco.imgs)
    assert len(part.coco.anns) == sum(len(part[i][1]["labels"]) for i in range(3))
    assert place_of(part) == place_of(whole)
    assert fixed_images(whole, 3).image_ids == part.image_ids  # the same everywhere
    ask_for_masks(part)
    assert whole.masks
    with pytest.raises(IndexError):
        part[3]


class Wrong(Squares):
    def __init__(self, objects=None, image=None):
        super().__init__()
        self._objects, self._image = objects, image

    def objects(self, index):
        return self._objects or super().objects(index)

    def image(self, index):
        return super().image(index) if self._image is None else self._image


BOX = torch.tensor([[0, 0, 5, 5]])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Wrong({"boxes": BOX, "labels": [2]}), r"expected a label in 0\.\.1 for each of 1 boxes, got \[2\]"),
        (Wrong({"boxes": BOX, "labels": [-1]}), r"got \[-1\]"),
        (Wrong({"boxes": BOX, "labels": [0, 1]}), r"for each of 1 boxes, got \[0, 1\]"),
        (
            Wrong(image=torch.zeros(32, 48, 3)),
            r"expected a tensor of floats \(3, H, W\) in \[0, 1\], got torch.float32 \(32, 48, 3\)",
        ),
        (Wrong(image=np.zeros((3, 8, 8), np.float32)), r"got numpy\.ndarray"),
        (Wrong(image=torch.zeros(3, 0, 8)), r"got torch.float32 \(3, 0, 8\)"),
        (
            Wrong(image=torch.full((3, 8, 8), 255.0)),
            "got values from 255 to 255; detectors normalise images themselves",
        ),
        (Wrong(image=torch.full((3, 8, 8), torch.nan)), "got values from nan to nan"),
        (Wrong(([[0, 0, 5, 5]], [0])), "expected objects\\(\\) to give a dict with boxes and labels, got tuple"),
        (Wrong({"boxes": BOX}), r"boxes and labels, got \['boxes'\]"),
        (Wrong({"boxes": [[0, 0, 5, 5, 1]], "labels": [0]}), r"boxes: expected \(n, 4\), got \(1, 5\)"),
        (Wrong({"boxes": [0, 0, 5, 5], "labels": [0]}), r"boxes: expected \(n, 4\), got \(4,\)"),
        (Wrong({"boxes": BOX, "labels": ["white"]}), r"labels: expected numbers, got \['white'\]"),
        (Wrong({"boxes": [[9, 9, 5, 5]], "labels": [0]}), r"got \[9.0, 9.0, 5.0, 5.0\]; is that x, y, width, height"),
        (Wrong({"boxes": [[0, 0, 5, torch.inf]], "labels": [0]}), r"x1 < x2 and y1 < y2, got \[0.0, 0.0, 5.0, inf\]"),
        (Wrong({"boxes": [[48, 0, 59, 5]], "labels": [0]}), r"of an image 48 wide and 32 high, got \[48.0, 0.0"),
        (Wrong({"boxes": [[0, 0.5, 0.5, 1]], "labels": [0]}), r"is that normalised to \[0, 1\]"),
        (Wrong(image=torch.zeros(3, 8, 8, dtype=torch.uint8)), r"got torch.uint8 \(3, 8, 8\)"),
    ],
)
def test_mistakes_name_the_image(wrong, words):
    with pytest.raises(UserError, match=f"^Wrong, image 1: .*{words}"):
        wrong[1]


def test_images_of_doubles_and_numpy_boxes_are_taken():
    """What detectors compute in is float32; a filter that sharpens may overshoot a little."""
    image, target = Wrong(
        {"boxes": np.array([[0, 0, 5, 5]]), "labels": np.array([1])}, torch.full((3, 8, 8), 1.1, dtype=torch.float64)
    )[0]
    assert image.dtype == target["boxes"].dtype == torch.float32 and target["labels"].tolist() == [1]


def test_masks_are_missed_only_where_they_are_needed():
    squares = Squares()
    assert "masks" not in squares[1][1]
    ask_for_masks(squares)
    with pytest.raises(UserError, match="masks are needed, but objects"):
        squares[1]


def test_it_trains_and_says_where_it_comes_from(tmp_path):
    engine = Engine(quick_recipe(), Squares(), Squares(3), tmp_path)
    engine.model.train()
    assert engine.step(*next(iter(engine.batches())))["loss"] > 0
    assert {record["image_id"] for record in engine.detect(engine.averaged.module)} <= {1, 2, 3}
    assert place_of(Squares()) == f"{__name__}:Squares"


class Bare:
    """What looks like a data set and is none."""

    categories = ("a",)

    def __len__(self):
        return 1


def test_what_is_missing_is_named_before_training(tmp_path):
    refuse_incomplete(Squares(), "train")
    with pytest.raises(
        UserError, match="the val set, a Bare, has no category_ids, image_ids, coco, __getitem__; build"
    ):
        Engine(quick_recipe(), Squares(), Bare(), tmp_path)


@pytest.mark.parametrize("categories", ["disc", ["a", "a"], [1, 2]])
def test_categories_are_different_names(categories):
    named = Squares()
    named.categories = categories
    with pytest.raises(UserError, match="the val set: categories: expected a list of different names"):
        refuse_incomplete(named, "val")


class Nameless(DetectionSet):
    __len__, image, objects = Squares.__len__, Squares.image, Squares.objects


def test_a_set_without_categories_is_told_how_to_name_them():
    with pytest.raises(UserError, match=r"a Nameless, has no categories; name its classes, such as categories = \["):
        refuse_incomplete(Nameless(), "train")
