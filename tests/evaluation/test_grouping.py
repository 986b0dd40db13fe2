"""What is found in an image does not depend on the images beside it."""

import math

import pytest
import torch
from torch import nn

from dyhead_lab import zoo
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import CLASSES, write_shapes
from dyhead_lab.detectors.one_stage.atss import atss
from dyhead_lab.detectors.one_stage.retinanet import retinanet
from dyhead_lab.detectors.rcnn.faster_rcnn import faster_rcnn
from dyhead_lab.evaluation.coco_metric import detect_dataset
from dyhead_lab.evaluation.flips import FlipTested
from dyhead_lab.evaluation.grouping import WAITING, batches_of_one_size, padded_size

#: (H, W): wide, tall, square, and two that differ by a pixel and so share a batch after padding.
SHAPES = [(160, 160), (96, 160), (160, 96), (160, 160), (96, 160), (95, 160), (128, 160), (160, 160)]


class Cut:
    """Pictures of the Shapes set, each cut to a shape of its own."""

    category_ids = range(1, len(CLASSES) + 1)

    def __init__(self, pictures):
        self.pictures = pictures

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        if index >= len(self):
            raise IndexError(index)
        return self.pictures[index], {"image_id": index}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes") / "set"
    write_shapes(folder, images=len(SHAPES), seed=5)
    pictures = [image for image, _ in coco_folder(folder)]
    return Cut([image[:, :height, :width] for image, (height, width) in zip(pictures, SHAPES, strict=True)])


def found_in(records):
    """(n, 7) image, category, box, score."""
    return torch.tensor([[r["image_id"], r["category_id"], *r["bbox"], r["score"]] for r in records])


@pytest.mark.parametrize("weights", ["quickstart", "detr_tiny", "deformable_detr_tiny", "sparse_detr_tiny"])
def test_detections_are_those_of_each_image_alone(weights, mixed):
    model = zoo.load_trained(weights).model
    alone, together = (found_in(detect_dataset(model, mixed, batch_size=size)) for size in (1, 8))
    assert len(alone) > len(SHAPES)
    # A convolution of a batch adds in another order than that of one image: 1e-3 pixels or 1e-5 of a score.
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-3)


def test_padding_would_change_what_is_found(mixed):
    """So the test above can fail: a square picture beside a wide one is padded, and its best score another."""
    model = zoo.load_trained("quickstart").model
    with torch.no_grad():
        (alone,), (beside, _) = model([mixed[0][0]]), model([mixed[0][0], mixed[1][0]])
    assert abs(alone["scores"][0] - beside["scores"][0]) > 0.01


class Counted(nn.Module):
    """Finds nothing, and knows how many images came at once."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, images):
        self.calls.append([tuple(image.shape[1:]) for image in images])
        return [{"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0)} for _ in images]


def test_equal_images_fill_whole_batches(mixed):
    model = Counted()
    detect_dataset(model, Cut([mixed[0][0]] * 10), batch_size=4)
    assert [len(call) for call in model.calls] == [4, 4, 2]
    model = Counted()
    detect_dataset(model, mixed, batch_size=4)
    assert all(len(set(call)) == 1 for call in model.calls)
    assert sorted(map(len, model.calls)) == [1, 1, 1, 2, 3]


def conv(builder, **options):
    return builder(3, "narrow", dyhead_blocks=0, channels=32, min_size=64, max_size=100, **options)


def detr(name, size):
    model = zoo.get(name).architecture(3)
    model.detection_size = size
    return model


MODELS = {
    "atss": lambda: conv(atss, size_divisible=48),
    "retinanet": lambda: conv(retinanet),
    "faster_rcnn": lambda: conv(faster_rcnn, box_head_width=32),
    "detr": lambda: detr("detr_tiny", (64, 100)),
    "deformable_detr": lambda: detr("deformable_detr_tiny", None),
    "flips": lambda: FlipTested(conv(retinanet)),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_padded_size_is_what_the_backbone_sees(name):
    model = MODELS[name]().eval()
    seen = []
    backbone = (model.model if name == "flips" else model).backbone
    backbone.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    size_of = padded_size(model)
    for height, width in ((50, 70), (51, 70), (70, 50), (40, 160), (64, 64), (1, 90)):
        with torch.no_grad():
            model([torch.rand(3, height, width)])
        assert size_of(height, width) == seen[-1], (height, width)


def test_a_detector_may_say_it_itself_and_of_others_nothing_is_assumed():
    class Halved(nn.Module):
        def padded_size(self, height, width):
            return math.ceil(height / 2), math.ceil(width / 2)

    assert padded_size(Halved())(7, 8) == (4, 4)
    assert padded_size(nn.Identity())(7, 8) == (7, 8)


def test_batches_hold_one_size_and_everything_once():
    items = [(i, "abc"[i * i % 3]) for i in range(40)]
    batches = list(batches_of_one_size(items, lambda item: item[1], batch_size=4))
    assert all(len({size for _, size in batch}) == 1 and len(batch) <= 4 for batch in batches)
    assert sorted(item for batch in batches for item in batch) == items


def test_few_images_wait():
    """Of 1000 sizes no batch becomes full; no more than WAITING batches of items are held back at any time."""
    taken = []
    given = 0
    for batch in batches_of_one_size((taken.append(i) or i for i in range(1000)), lambda item: item, batch_size=2):
        given += len(batch)
        assert len(taken) - given <= 2 * WAITING
    assert given == 1000
